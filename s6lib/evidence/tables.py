"""Tables for the summary notebook: what records show side by side, what is missing, what was left out."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from s6lib import paths, records
from s6lib.evidence import measures, statistics
from s6lib.evidence import verdicts as judged
from s6lib.evidence.measures import last, published_for
from s6lib.records import Record
from s6lib.studies import STUDIES


def collect(results_dir: str) -> tuple[list[Record], list[str]]:
    """All records below `results_dir` ("": the reference run), and a line for each that had to be left out."""
    return records.find(folder(results_dir))


def folder(results_dir: str) -> Path:
    return Path(results_dir).expanduser() if results_dir else paths.reference()


def headline(found: Sequence[Record], left_out: Sequence[str], results_dir: str) -> str:
    """What the summary is of: data, records, replicas, where from."""
    where = paths.relative_to_home(folder(results_dir))
    if not found:
        return f"No records in {where}" + (f"; {len(left_out)} left out." if left_out else ".")
    data = {r.dataset["checksum"]: r.dataset for r in found}.values()
    sizes = [f"{d['title']}: {d['train_images']:,} training and {d['test_images']:,} test images" for d in data]
    lost = sum(map(measures.left_out, found))
    counts = f"{len(found)} trials, {sum(len(r.seeds) for r in found)} replicas, {lost} of them diverged"
    return f"{'; '.join(sizes)}. {counts}. From {where}" + (f"; {len(left_out)} records left out." if left_out else ".")


def study(record: Record, root: Path) -> str:
    """The folder a record lies in below `root`, which holds what was run to be compared; else its protocol."""
    parent = _below(record, root).parent.as_posix()
    return record.trial.study if parent == "." else parent


def by_study(found: Sequence[Record], results_dir: str = "") -> dict[str, list[Record]]:
    """Records worth drawing together: of one study and data set, in the order of the study's arms."""
    root = folder(results_dir)
    groups: dict[str, list[Record]] = {}
    for record in sorted(found, key=lambda r: (study(r, root), _rank(r), r.name)):
        groups.setdefault(f"{study(record, root)}, {record.dataset['checksum']}", []).append(record)
    return groups


def _rank(record: Record) -> int:
    """A record's place among its study's arms; trials of the user's own come last."""
    arms = list(STUDIES[record.trial.study].arms) if record.trial.study in STUDIES else []
    return arms.index(record.name) if record.name in arms else len(arms)


def table(found: Sequence[Record], results_dir: str = "") -> pd.DataFrame:
    """A row per record, numbers as numbers: percent, points, seconds."""
    ordered = [record for group in by_study(found, results_dir).values() for record in group]
    return pd.DataFrame([{"study": study(r, folder(results_dir)), **_row(r)} for r in ordered], columns=COLUMNS)


def shown(found: Sequence[Record], results_dir: str = "") -> pd.DataFrame:
    """`table` for reading: the last epoch's mean, sd and 95 % interval; best epochs labelled for what they are."""
    rows = table(found, results_dir)
    columns = {
        "study": rows.study,
        "trial": rows.trial,
        "data": rows.data,
        "parameters": rows.parameters.map("{:,}".format),
        "seeds": rows.seeds,
        "diverged": rows.diverged,
        "test %, last epoch": rows.test.map(_number),
        "± sd": rows.test_sd.map(_number),
        "95 % interval": [_interval(low, high) for low, high in zip(rows.test_low, rows.test_high, strict=True)],
        "train %, while learning": rows.train.map(_number),
        "train − test, points": rows.gap.map(_number),
        "best epoch %, chosen on the test set": rows.best.map(_number),
        "published best %, likewise, 1 seed": rows.published_best.map(_number),
        "seconds, all seeds": rows.seconds.map("{:.0f}".format),
        "precision": rows.precision,
    }
    return pd.DataFrame(columns)


def replication(found: Sequence[Record], results_dir: str = "") -> pd.DataFrame:
    """Whether a published last epoch, one seed, lies where one more seed of ours would fall in 95 of 100 cases."""
    rows = []
    for record in (record for group in by_study(found, results_dir).values() for record in group):
        published, ours = published_for(record)["last"].dropna(), last(record, "test_accuracy")
        if not len(published) or len(ours) < 2:
            continue
        span = statistics.prediction_interval(ours)
        rows.append(
            {
                "study": study(record, folder(results_dir)),
                "trial": record.name,
                "mean of ours, %": _number(span.mean),
                "95 % of single seeds": _interval(span.low, min(span.high, 100)),
                "published last epoch, %": _number(published.iloc[0]),
                "replicates": "yes" if span.low <= published.iloc[0] <= span.high else "no",
            }
        )
    return pd.DataFrame(rows)


def differences(found: Sequence[Record], results_dir: str = "") -> pd.DataFrame:
    """Every trial of a study against the study's first, in last-epoch test accuracy; trials with no seed left are out.

    Two intervals: for new seeds on these test images (Welch), and for new seeds and new images (two-way bootstrap).
    """
    rows = []
    for group in by_study([record for record in found if record.non_diverged], results_dir).values():
        first, *others = group
        rows += [{"study": study(first, folder(results_dir)), **_against(first, other)} for other in others]
    return pd.DataFrame(rows)


def verdicts(found: Sequence[Record]) -> pd.DataFrame:
    """`judged.verdicts` for reading."""
    rows = judged.verdicts(found)
    names = {"p": "p (Holm)", "evidence": "weakest part [95 %], positive: as claimed", "parts": "parts as claimed"}
    return rows.assign(p=rows.p.map(lambda p: "" if np.isnan(p) else f"{p:.3g}")).rename(columns=names)


def evidence(found: Sequence[Record]) -> pd.DataFrame:
    """`judged.evidence` for reading."""
    rows = judged.evidence(found)
    columns = {
        "study": rows.study,
        "claim": rows.claim,
        "part": rows.part,
        "estimate": [_number(value, "+.3g") for value in rows.estimate],
        "95 % interval": [_interval(low, high, "+.3g") for low, high in zip(rows.low, rows.high, strict=True)],
        "unit": rows.unit,
        "p, one-sided, uncorrected": [_number(p, ".2g") for p in rows.p_for],
    }
    return pd.DataFrame(columns)


def missing(found: Sequence[Record], plan: str, results_dir: str = "") -> list[str]:
    """The "study/trial" names of the JSON list `plan` that no record stands for. Raises ValueError on another shape.

    A record stands for a name that is part of its path below `results_dir`, or its protocol and trial.
    """
    names = json.loads(plan) if plan else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"plan={plan!r}: expected a JSON list of study/trial names")
    have = {f"{record.trial.study}/{record.name}" for record in found}
    places = [f"/{_below(record, folder(results_dir)).as_posix()}/" for record in found]
    return [name for name in names if name not in have and not any(f"/{name}/" in place for place in places)]


def lines(texts: Sequence[str], none: str) -> str:
    """One per line, or `none`."""
    return "\n".join(texts) or none


COLUMNS = ["study", "trial", "data", "parameters", "seeds", "diverged", "test", "test_sd", "test_low", "test_high"]
COLUMNS += ["train", "gap", "best", "published_best", "seconds", "precision"]


def _row(record: Record) -> dict:
    test, train = last(record, "test_accuracy"), last(record, "train_accuracy")
    interval, best = statistics.mean_interval(test), measures.best_test_accuracy(record)
    published = published_for(record).best
    return {
        "trial": record.name,
        "data": record.dataset["name"],
        "parameters": record.provenance.get("parameters", 0),
        "seeds": interval.n,
        "diverged": measures.left_out(record),
        "test": interval.mean,
        "test_sd": interval.sd,
        "test_low": interval.low,
        "test_high": interval.high,
        "train": train.mean() if len(train) else np.nan,
        "gap": train.mean() - test.mean() if len(train) else np.nan,
        "best": best.mean() if len(best) else np.nan,
        "published_best": published.iloc[0] if len(published) else np.nan,
        "seconds": record.seconds,
        "precision": record.provenance.get("precision", ""),
    }


def _against(first: Record, other: Record) -> dict:
    a, b = (last(record, "test_accuracy") for record in (other, first))
    seeds = statistics.difference(a, b)
    both = statistics.two_way_bootstrap(measures.correct(other), measures.correct(first))
    return {
        "trial": other.name,
        "against": first.name,
        "difference, points": f"{seeds.mean:+.2f}",
        "95 % interval, new seeds": _interval(seeds.low, seeds.high, "+.2f"),
        "95 % interval, new seeds and images": _interval(both.low, both.high, "+.2f"),
        "a seed of it beats one of the other": f"{100 * statistics.probability_of_improvement(a, b):.0f} %",
    }


def _number(value: float, form: str = ".2f") -> str:
    return "" if np.isnan(value) else f"{value:{form}}"


def _interval(low: float, high: float, form: str = ".2f") -> str:
    return "" if np.isnan(low) else f"{low:{form}}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{high:{form}}"


def _below(record: Record, root: Path) -> Path:
    path = record.path or Path(record.name)
    return path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
