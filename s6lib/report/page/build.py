"""The page of a run, its leaderboard, its verdicts and its points of the frontier: from the records below a folder to
files in it."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from s6lib import paths, records
from s6lib.evidence import sizes, verdicts
from s6lib.evidence.images import confusions
from s6lib.evidence.measures import correct
from s6lib.evidence.statistics import ENOUGH_SEEDS
from s6lib.evidence.verdicts import LEVEL, plain
from s6lib.evidence.wanted import verdict_rows
from s6lib.plots.style import FLOOR, NAMES
from s6lib.records import Record, replace_file
from s6lib.report.page import PAGE, TABLE, answers, charts, claims, facts, images, marks, reproduce, size
from s6lib.studies import STUDIES
from s6lib.studies.base import MARGIN

Facts = dict[str, Any]
MEASURES = {column: NAMES[column].split(" (")[0] for column in facts.CURVES}


def write(folder: Path) -> Path:
    """report.html, leaderboard.csv, verdicts.json and, of its points, frontier.json of the run in `folder`, each
    replaced only when whole. Raises RecordError."""
    if not folder.is_dir():
        runs = sorted(path.parent.name for path in folder.parent.glob("*/*/") if path.is_dir())
        raise records.RecordError(f"{folder}: no such run; valid: {', '.join(dict.fromkeys(runs)) or 'none yet'}")
    found, left_out = records.find(folder)
    content = contents(found, left_out, folder)
    verdicts.write(content["verdicts"], folder)
    if points := sizes.rows(found):
        verdicts.write(points, folder, sizes.FILE)
    else:  # an earlier one would be of records that are gone
        (folder / sizes.FILE).unlink(missing_ok=True)
    for name, text in ((TABLE, leaderboard(content["groups"])), (PAGE, render(content))):
        replace_file(folder / name, text.encode())
    return folder / PAGE


def contents(found: Sequence[Record], left_out: Sequence[str], folder: Path) -> Facts:
    """Everything the template reads."""
    grouped = facts.groups(found)
    arms = [arm for group in grouped for arm in group["arms"]]
    for group in grouped:
        group["leader"] = answers.leader(group["arms"])
        group["ranked"] = sorted(group["arms"], key=mean_or_least, reverse=True)
        group["scale"] = marks.Accuracies([value for arm in group["arms"] for value in drawn_accuracies(arm)])
        group["static"] = charts.static(group["arms"])
    sets = []
    for place, checksum in enumerate(dict.fromkeys(arm["checksum"] for arm in arms)):
        alike = [arm for arm in arms if arm["checksum"] == checksum]
        one = images.data_set([arm["record"] for arm in alike])
        for arm in alike:
            arm |= {"set": place, "guesses": images.guesses(arm["record"], one["numbers"])}
            arm["command"] = reproduce.command(arm["record"])
        which_fail = answers.which_fail(confusions([arm["record"] for arm in alike]))
        sets.append({**one, "tiles": tiles(one, alike), "which_fail": which_fail})
    rows = verdict_rows(found)
    claimed = [claims.complete(row) for row in rows]
    return {
        "run": folder.name,
        "groups": grouped,
        "arms": arms,
        "claims": claimed,
        "verdicts": rows,
        "plans": claims.plans(claimed),
        "sets": sets,
        "answers": answers.sentences(grouped, claimed, sets),
        "left_out": [records.plain_text(line).replace(f"{folder}/", "") for line in left_out],
        "stale": any(record.stale for record in found),
        "machines": reproduce.machines(found),
        "bibtex": reproduce.bibtex(),
        "seeds_text": "\n".join(f"{arm['id']}: {', '.join(map(str, arm['seeds']))}" for arm in arms),
        "across": images.ACROSS,
        "sizes": size.drawing(arms),
    }


def mean_or_least(arm: Facts) -> float:
    """Its mean accuracy; below all others where every seed diverged."""
    return arm["accuracy"]["mean"] if arm["accuracy"]["n"] else -math.inf


def drawn_accuracies(arm: Facts) -> list[float | None]:
    """Every accuracy that the leaderboard draws of an arm."""
    return [*arm["test"], arm["accuracy"]["low"], arm["accuracy"]["high"], *arm["published"].values()]


def tiles(one: Facts, arms: Sequence[Facts]) -> list[Facts]:
    """Of every hard image: what most erring seeds take it for, and the percent of seeds that miss it."""
    out = []
    for k, (number, label) in enumerate(zip(one["numbers"], one["labels"], strict=True)):
        said = [int(guess[k]) for arm in arms for guess in arm["guesses"]]
        wrong = [guess for guess in said if guess != label]
        most, missed = max(sorted(set(wrong)), key=wrong.count), round(100 * len(wrong) / len(said))
        error = number in one["errors"]
        out.append({"number": number, "label": label, "error": error, "guess": most, "missed": missed})
    return out


def by_unit(parts: Sequence[Facts]) -> dict[str, marks.Effects]:
    """A scale that holds estimates and intervals of all parts of one unit, which stand below each other, by unit."""
    ends: dict[str, list[float]] = {}
    for part in parts:
        known = [part[key] for key in ("estimate", "low", "high") if part[key] is not None]
        ends.setdefault(part["unit"], []).extend(known)
    linear = {unit: MARGIN if unit.startswith("points") else MARGIN / 25 for unit in ends}
    return {unit: marks.Effects(values, linear=linear[unit]) for unit, values in ends.items()}


def render(content: Facts) -> str:
    """The page as text."""
    here = jinja2.PackageLoader("s6lib.report.page", ".")
    environment = jinja2.Environment(
        loader=here, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "signed": signed, "span": span, "thousands": "{:,}".format}
    environment.globals |= {"marks": marks, "by_unit": by_unit, "STUDIES": STUDIES}
    environment.globals |= {"ENOUGH": ENOUGH_SEEDS, "LEVEL": LEVEL, "MARGIN": MARGIN}
    files = {name: Markup(environment.loader.get_source(environment, name)[0]) for name in ("page.css", "page.js")}  # type: ignore[union-attr]
    data = Markup(json_text(for_script(content)))
    libraries = Markup(charts.libraries().replace("</script", "<\\/script"))
    return environment.get_template("page.html.jinja").render(
        **content, measures=MEASURES, css=files["page.css"], script=files["page.js"], data=data, libraries=libraries
    )


def for_script(content: Facts) -> Facts:
    """What the page's script reads: numbers once, in rows."""
    arms = [arm_for_script(arm) for arm in content["arms"]]
    places = {arm["id"]: k for k, arm in enumerate(content["arms"])}
    return {
        "arms": arms,
        "groups": [{"name": g["name"], "arms": [places[arm["id"]] for arm in g["arms"]]} for g in content["groups"]],
        "sets": [{key: one[key] for key in ("title", "numbers", "labels", "errors")} for one in content["sets"]],
        "pairs": answers.pairs(content["arms"]),
        "charts": {measure: charts.compiled(measure) for measure in MEASURES} if arms else {},
        "across": images.ACROSS,
        "floor": FLOOR,
    }


def arm_for_script(arm: Facts) -> Facts:
    kept = ("id", "name", "label", "set", "seeds", "curves", "published_curves", "guesses")
    return {
        **{key: arm[key] for key in kept},
        "colour": marks.ink(arm["looks"]["colour"]),
        "marker": marks.SHAPES[arm["looks"]["marker"]],
        "dash": charts.dash(arm["looks"]["line"]),
        "test": [round(float(v), 3) for v in arm["test"]],
        "by_digit": by_digit(arm["record"]),
    }


def by_digit(record: Record) -> list[float]:
    """Images of each digit that a seed misses, on average over seeds."""
    missed = ~correct(record)
    if not len(missed):
        return [0.0] * 10
    return [round(float(missed[:, record.labels == digit].sum(1).mean()), 2) for digit in range(10)]


def json_text(value: Any) -> str:
    """JSON that can stand in a <script>: no < > & or line separators in it; what is no number is null."""
    text = json.dumps(plain(value), separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def leaderboard(grouped: Sequence[Facts]) -> str:
    """A row per record as CSV: percent, nats per image, seconds."""
    columns = ["study", "trial", "data", "seeds", "diverged", "test_mean", "test_sd", "test_low", "test_high"]
    columns += ["test_loss", "running_train_mean", "published_last", "published_best", "parameters", "epochs"]
    rows = []
    for group, arm in [(one, arm) for one in grouped for arm in one["arms"]]:
        test, seen = arm["accuracy"], arm["published"]
        about = group["name"], arm["name"], group["data"], test["n"], len(arm["diverged"])
        numbers = test["mean"], test["sd"], test["low"], test["high"], arm["loss"]["mean"], arm["train"]["mean"]
        rows.append((*about, *numbers, seen["last"], seen["best"], arm["parameters"], arm["epochs"], arm["seconds"]))
    table = pd.DataFrame(rows, columns=[*columns, "seconds_per_seed"])
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


# --- numbers for reading ---------------------------------------------------------------------------


def percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """+0.031, with a real minus; `digits` significant ones."""
    return "–" if value is None or not math.isfinite(value) else f"{value:+.{digits}g}".replace("-", "−")


def span(one: Facts, sign: bool = False) -> str:
    """An interval in brackets; nothing where there is none."""
    if one["low"] is None:
        return ""
    ends = [f"{one[key]:{'+' if sign else ''}.2f}".replace("-", "−") for key in ("low", "high")]
    return f"[{ends[0]}, {ends[1]}]"


def main(folder: Path) -> int:
    """`python -m s6lib report`: writes them and says where the page is."""
    page = write(folder)
    print(f"report: {paths.relative_to_home(page)} ({page.stat().st_size / 2**20:.1f} MB)")
    return 0
