"""Values about accuracy against size: the points, how their recipe was chosen, what it is."""

import numpy as np

from s6lib.evidence import sizes, statistics
from s6lib.evidence.images import LABEL_ERRORS
from s6lib.evidence.measures import averaging_gain, correct, test_accuracy
from s6lib.evidence.statistics import mean_interval
from s6lib.records import Record
from s6lib.report.committed import Committed
from s6lib.report.text import ends, fixed, span, table
from s6lib.studies import STUDIES

FILE = "frontier_candidates"
# What the candidates differ in, and its value where one does not say.
VARIED = {"rotation": 0.0, "shift": 0, "learning_rate": 0.0, "batch_size": 0, "label_smoothing": 0.0, "widths": ""}
VARIED |= {"normaliser": "batch", "distillation": 0.0}


def points(e: Committed) -> str:
    """Every point that was run: mean over seeds with its interval, p against its bar, what it costs."""
    head = ["parameters", "views of a test image", "multiply-adds", "epochs", "seeds", "last epoch, mean, %"]
    head += ["95 % interval", "sd", "sd predicted from the images", "without the 15 label errors, %"]
    rows = [_point(row) for row in sizes.rows(e.study("frontier"))]
    head += ["bar, %", "p against it", "precision", "s per seed, one core"]
    return table(head, rows) if rows else "Not run yet."


def point(e: Committed, arm: str, column: str) -> str:
    """One number of one point: its interval, or a column of frontier.json."""
    row = next(row for row in sizes.rows(e.study("frontier")) if row["arm"] == arm)
    if column == "interval":
        return span(row["low"], row["high"], "3")
    return f"{row[column]:,}" if isinstance(row[column], int) else fixed(row[column], "3")


def missed(e: Committed, arm: str) -> str:
    """The test images that every seed of a point misses, and how many of them are confirmed label errors."""
    right = correct(e.records[f"frontier/{arm}"])
    always = np.flatnonzero(~right.any(0))
    return f"{len(always)} test images, {len(set(always.tolist()) & set(LABEL_ERRORS))} of them"


def parts(e: Committed) -> str:
    """The recipe with a part left out or replaced: mean, what the whole recipe has over it (Welch's interval), and what
    averaging the weights brings."""
    head = ["arm", "what it is", "seeds", "last epoch, mean, %", "sd", "the whole recipe minus it, points"]
    rows = [_part(e, record) for record in e.study("ingredients")]
    return table([*head, "averaged minus last weights, points"], rows) if rows else "Not run yet."


def screened(e: Committed) -> str:
    """What every setting of the screen brings on held-out images, from all runs of its size."""
    effects = e.measured(FILE)["effects"]
    rows = [(_setting(row), row["size"], f"{fixed(row['effect'], '3')} ± {row['error']:.3f}") for row in effects]
    return table(["change", "size", "held-out accuracy, points (± standard error)"], rows)


def compared(e: Committed) -> str:
    """Every run on held-out images, the screen's and those around its choice."""
    head = ["run", *(name.replace("_", " ") for name in VARIED), "seeds", "held-out %, mean", "not averaged, %"]
    rows = sorted(e.measured(FILE)["candidates"], key=lambda row: (-len(row["settings"]), _place(row["candidate"])))
    return table(head, map(_candidate, rows))


def views(e: Committed) -> str:
    """What averaging the answers to several views of a held-out image gives, beside the image alone."""
    rows = e.measured(FILE)["views"]
    alone = {row["size"]: row["held_out"] for row in rows if row["count"] == 1}
    head = ["views of an image", "how many", "network", "held-out %, mean", "minus the image itself, points"]
    return table([*head, "loss, nats"], [_views(row, alone[row["size"]]) for row in rows])


# --- pieces ----------------------------------------------------------------------------------------


def _point(row: dict) -> tuple:
    held, p = ("" if row[key] is None else format(row[key], kind) for key, kind in (("bar", "g"), ("p", ".3g")))
    numbers = f"**{fixed(row['mean'], '3')}**", span(row["low"], row["high"], "3"), fixed(row["sd"], "3")
    more = fixed(row["predicted_sd"], "3"), fixed(row["without_label_errors"], "3"), held, p
    size = f"{row['parameters']:,}", row["views"], f"{row['multiply_adds']:,}", row["epochs"], row["seeds"]
    return *size, *numbers, *more, row["precision"], f"{row['seconds_per_seed']:.0f}"


def _part(e: Committed, record: Record) -> tuple:
    ours, gain = mean_interval(test_accuracy(record)), mean_interval(averaging_gain(record))
    costs = statistics.difference(*e.pair("ingredients/recipe", record.name))
    told = "" if record.name == "recipe" else f"**{fixed(costs.mean, '3')}** ({ends(costs, '3')})"
    about = f"`{record.name}`", STUDIES["ingredients"].arms[record.name].label, ours.n
    averaged = f"{fixed(gain.mean, '3')} ({ends(gain, '3')})"
    return *about, fixed(ours.mean, "3"), fixed(ours.sd, "3"), told, averaged


def _setting(row: dict) -> str:
    words = [str(tuple(level)) if isinstance(level, list) else f"{level}" for level in (row["lower"], row["upper"])]
    return f"{row['setting'].replace('_', ' ')} {words[0]} to {words[1]}"


def _candidate(row: dict) -> tuple:
    found = [row["settings"].get(name, usual) for name, usual in VARIED.items()]
    levels = ["–".join(map(str, level)) if isinstance(level, list) else level for level in found]
    accuracy, raw = (sum(row[key]) / len(row[key]) for key in ("held_out", "held_out_not_averaged"))
    return row["candidate"], *levels, len(row["seeds"]), fixed(accuracy, "3"), fixed(raw, "3")


def _views(row: dict, alone: list[float]) -> tuple:
    accuracy, loss = (sum(row[key]) / len(row[key]) for key in ("held_out", "held_out_loss"))
    gain = round(accuracy - sum(alone) / len(alone), 6)  # half a digit is not a little less
    told = "" if row["count"] == 1 else fixed(gain, "3")
    return row["views"], row["count"], f"`{row['size']}`", fixed(accuracy, "3"), told, f"{loss:.4f}"


def _place(name: str) -> tuple[str, int]:
    """Run 10 after run 9."""
    start, _, number = name.rpartition("run ")
    return (start, int(number)) if start else (name, 0)
