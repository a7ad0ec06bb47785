"""What the page shows of every record, as plain data: percent, points, nats per image, seconds."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from s6lib.evidence import images, measures, statistics
from s6lib.evidence.tables import by_study, family
from s6lib.plots.style import trial_style
from s6lib.plots.weights import convolutions, layer_weights, percent
from s6lib.records import Record
from s6lib.studies import STUDIES, find_arm
from s6lib.trial import make_trial

Facts = dict[str, Any]
# Column of the history: decimals kept, column of published logs.
CURVES = {"test_accuracy": (3, "test_accuracy_pct"), "test_loss": (5, "test_loss")}
CURVES["train_accuracy"] = (2, "train_accuracy_pct")
SMALL = 1e-3  # a weight below it counts as switched off


def groups(found: Sequence[Record]) -> list[Facts]:
    """Records that are compared with each other: of one study, family and data set; each with a title and its arms."""
    made: list[Facts] = []
    seen: set[str] = set()
    several = len({record.dataset["checksum"] for record in found}) > 1
    for members in by_study(found).values():
        first = members[0]
        study = STUDIES.get(first.trial.study)
        name = family(first) + (f", {first.dataset['title']}" if several else "")
        arms = [arm(record, unique(f"{first.trial.study}/{record.name}", seen)) for record in members]
        title = study.title if study else first.trial.study
        about = {"study": first.trial.study, "source": study.source if study else "", "data": first.dataset["title"]}
        made.append({"name": name, "title": title, **about, "arms": arms})
    return made


def unique(name: str, seen: set[str]) -> str:
    """`name`, or with a number where another record has it: other settings of one trial."""
    number = 1
    while (wanted := name if number == 1 else f"{name}~{number}") in seen:
        number += 1
    seen.add(wanted)
    return wanted


def arm(record: Record, name: str) -> Facts:
    """One record: who it is, its last epoch, curves, settings that differ, what its networks look like inside."""
    colour, line, marker = trial_style(record)
    known = find_arm(record.trial.study, record.name)
    test = measures.test_accuracy(record)
    return {
        "id": name,
        "name": record.name,
        "label": known.label if known else "a trial of your own",
        "looks": {"colour": colour, "line": line, "marker": marker},
        "checksum": record.dataset["checksum"],
        "seeds": [record.seeds[r] for r in record.non_diverged],
        "diverged": [f"seed {one['seed']} at epoch {one['epoch']}" for one in record.diverged],
        "who": measures.who(record),
        "epochs": record.trial.epochs,
        "parameters": record.provenance.get("parameters", 0),
        "seconds": record.seconds_per_seed,
        "test": test,
        "accuracy": interval(test),
        "loss": interval(measures.test_loss(record)),
        "train": interval(measures.running_train_accuracy(record)),
        "published": published_last(record),
        "curves": {column: measures.by_epoch(record, column).round(n) for column, (n, _) in CURVES.items()},
        "published_curves": published_curves(record),
        "settings": settings(record),
        "inside": inside(record),
        "sd_of_images": images.predicted_sd(record),
        "record": record,
    }


def interval(values: np.ndarray) -> Facts:
    """Mean, sd and the mean's 95 % interval."""
    found = statistics.mean_interval(values)
    return {"n": found.n, "mean": found.mean, "sd": found.sd, **ends(found)}


def ends(found: statistics.Interval | statistics.Difference) -> Facts:
    """The interval's; None where there are too few seeds for one."""
    low, high = statistics.shown(found)
    return {"low": None, "high": None} if np.isnan(low) else {"low": low, "high": high}


def published_last(record: Record) -> Facts:
    """The published last and best epoch, where there are any."""
    rows = measures.published_for(record)
    return {name: float(rows[name].iloc[0]) if len(rows[name].dropna()) else None for name in ("last", "best")}


def published_curves(record: Record) -> dict[str, list[list[float]]]:
    """[epoch, value] of every published epoch, by column; none on other data than MNIST."""
    rows = measures.published_for(record, "per_epoch")
    found = {c: rows[["epoch", source]].dropna().to_numpy(float).tolist() for c, (_, source) in CURVES.items()}
    return {column: values for column, values in found.items() if values}


def settings(record: Record) -> Facts:
    """Settings that differ from the study's protocol, and those in which the record is not as its arm."""
    now, study = record.trial.settings(), STUDIES.get(record.trial.study)
    if study is None:
        return {"differs": [], "not_as_arm": []}
    plain = make_trial(study.name, "plain", like="").settings()
    own = make_trial(study.name, record.name).settings() if record.name in study.arms else now
    differs = [(k, shown(v), shown(plain[k])) for k, v in now.items() if v != plain[k] and k not in ("name", "study")]
    changed = [f"{k} {shown(v)}, not {shown(own[k])}" for k, v in now.items() if v != own[k]]
    return {"differs": differs, "not_as_arm": changed}


def shown(value: Any) -> str:
    """A setting for reading."""
    if value is None:
        return "the network's own"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def inside(record: Record) -> Facts:
    """Of the trained networks, as far as the record holds them: sum|w| by epoch, sizes of weights, ghost splits."""
    sums = measures.weight_norms_kept(record).groupby("epoch").sum_abs.mean()
    return {"sums": sums.round(2).tolist(), **weight_sizes(record), **split_spread(record)}


def weight_sizes(record: Record) -> Facts:
    """Counts of log10|w| of all convolutions from -5 to 1 in steps of 0.2, and the percent smaller than SMALL."""
    if not (kept := convolutions(record)):
        return {}
    sizes = np.concatenate([size.ravel() for size in kept])
    counts = np.histogram(np.log10(np.clip(sizes, 1e-5, 9.9)), np.linspace(-5, 1, 31))[0]
    return {"small": percent(sizes < SMALL), "sizes": counts.astype(float).tolist()}


def split_spread(record: Record) -> Facts:
    """How far ghost splits' running means are from their average: root mean square, percent of the running sd."""
    kept = layer_weights(record, lambda _, weight: weight.ndim == 3)  # [R, splits, channels]
    away = []
    for name in (name for name in kept if name.endswith("running_mean")):
        mean, variance = kept[name], kept[name.replace("running_mean", "running_var")]
        sd = np.sqrt(np.maximum(variance.mean(1, keepdims=True), 1e-12))
        away.append((((mean - mean.mean(1, keepdims=True)) / sd) ** 2).ravel())
    return {"splits": 100 * float(np.sqrt(np.concatenate(away).mean()))} if away else {}
