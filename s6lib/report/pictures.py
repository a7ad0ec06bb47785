"""The committed figures, drawn from committed records. Each carries a checksum of what it shows, so that one can see
without drawing it again whether it still does."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import pandas as pd

from s6lib import plots
from s6lib.evidence import measures, statistics
from s6lib.records import Record, replace_file
from s6lib.records.files import digest_of
from s6lib.report.committed import Committed
from s6lib.studies import STUDIES
from s6lib.trial import make_trial

KEY = "Description"  # the text field of a PNG that holds the checksum
REGULARISERS = ("bn", "bn_l1", "bn_l2", "bn_l1_l2", "gbn", "gbn_l1_l2", "bn_batch64", "gbn_batch128")
NORMALISERS = ("bn_l1", "ln_l1", "gn_l1")
# By the name of the file; others are `plots.dots`.
DRAW: dict[str, Callable[[list], Any]] = {"speedrun": plots.time_and_accuracy, "cpu": plots.training_speed}
DRAW |= {"sizes": plots.accuracy_and_size, "growing": lambda shown: plots.growing(*shown)}


def pictures(e: Committed) -> dict[Path, list]:
    """Each figure and the records, or the rows of a benchmark, that it is drawn from."""
    return {
        e.results / "reference" / "regularisers.png": [e.records[f"regularisers/{arm}"] for arm in REGULARISERS],
        e.results / "reference" / "normalisers.png": [e.records[f"normalisers/{arm}"] for arm in NORMALISERS],
        e.results / "reference" / "ingredients.png": e.study("ingredients"),
        e.results / "reference" / "sizes.png": e.small,
        e.results / "bench" / "speedrun.png": [_rung(one) for one in e.measured("speedrun")],
        e.results / "bench" / "cpu.png": e.measured("cpu")["rows"],
        e.results / "bench" / "growing.png": [e.measured("growing")[key] for key in ("seeds", "trials")],
    }


def draw(e: Committed) -> list[Path]:
    """Writes the figures anew."""
    matplotlib.use("Agg")
    plots.style()
    for path, shown in pictures(e).items():
        drawn = DRAW.get(path.stem, plots.dots)(shown)
        content = io.BytesIO()
        drawn.get_figure(root=True).savefig(content, metadata={KEY: checksum(shown)})
        replace_file(path, content.getvalue())
    return list(pictures(e))


def outdated(e: Committed) -> list[str]:
    """A line for each figure that shows other numbers than the committed records hold."""
    drawn = {path: path.read_bytes() if path.exists() else b"" for path in pictures(e)}
    old = [path.name for path, shown in pictures(e).items() if checksum(shown).encode() not in drawn[path]]
    return [f"{name}: shows other numbers than the records hold; `make figures` draws it anew" for name in old]


def checksum(shown: list) -> str:
    """Of the numbers in a figure: names and last epochs of records, rows of a benchmark as they are."""
    numbers = [_numbers(one) if hasattr(one, "name") else one for one in shown]
    return digest_of(numbers)[:16]


def _numbers(record: Any) -> list:
    return [record.name, *measures.last(record, "test_accuracy").round(6).tolist()]


# --- the speedrun's ladder -------------------------------------------------------------------------


def write_ladder(e: Committed, rungs: list[Record]) -> Path:
    """results/bench/speedrun.json: the last epoch of every seed of the speedrun's records, without their weights. Rungs
    of which there is no record, or one of fewer seeds than the file has, stay as they are."""
    path = e.results / "bench" / "speedrun.json"
    kept = {one["trial"]["name"]: one for one in e.measured("speedrun")} if path.exists() else {}
    for record in rungs:
        if len(record.seeds) >= len(kept.get(record.name, {"seeds": []})["seeds"]):
            kept[record.name] = _summary(record)
    rows = [kept[name] for name in STUDIES["speedrun"].arms if name in kept]
    replace_file(path, (json.dumps(rows, indent=1) + "\n").encode())
    return path


def _summary(record: Record) -> dict[str, Any]:
    values = measures.test_accuracy(record)
    found, kept = statistics.mean_interval(values), [record.seeds[r] for r in record.non_diverged]
    about = {"trial": record.trial.settings(), "dataset": record.dataset, "seeds": kept}
    numbers = {key: round(getattr(found, key), 4) for key in ("mean", "sd", "low", "high")}
    seconds = {"seconds_per_seed": round(record.seconds_per_seed, 2), "provenance": record.provenance}
    return {**about, "diverged": record.diverged, "test_accuracy": values.tolist(), **numbers, **seconds}


def _rung(one: dict[str, Any]) -> SimpleNamespace:
    """What figures read of a record, from a rung of the ladder."""
    trial = make_trial("speedrun", one["trial"]["name"])
    table = {"seed": one["seeds"], "epoch": trial.epochs, "test_accuracy": one["test_accuracy"]}
    history = pd.DataFrame(table)
    return SimpleNamespace(
        **{key: one[key] for key in ("dataset", "seeds", "diverged", "seconds_per_seed", "provenance")},
        name=trial.name,
        trial=trial,
        history=history,
        last=lambda: history,
        non_diverged=list(range(len(one["seeds"]))),
    )
