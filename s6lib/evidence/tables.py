"""Tables for the summary notebook: what records show side by side, what is missing, what was left out."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from s6lib import paths, records
from s6lib.evidence import measures, statistics
from s6lib.evidence import verdicts as judged
from s6lib.evidence.measures import last, published_for
from s6lib.records import Record
from s6lib.studies import STUDIES, find_arm, trained_by


def collect(results_dir: str) -> tuple[list[Record], list[str]]:
    """All records below `results_dir` ("": the reference run), and a line for each that had to be left out."""
    return records.find(folder(results_dir))


def folder(results_dir: str) -> Path:
    path = Path(results_dir).expanduser()
    if not results_dir:
        return paths.reference()
    return path if path.exists() else paths.home() / path  # a kernel's working directory is its notebook's


def headline(found: Sequence[Record], left_out: Sequence[str], results_dir: str) -> str:
    """What the summary is about: data, records, replicas, and where they are from."""
    where = paths.relative_to_home(folder(results_dir))
    if not found:
        return f"No records in {where}" + (f"; {len(left_out)} left out." if left_out else ".")
    data = {r.dataset["checksum"]: r.dataset for r in found}.values()
    names = [re.sub(r", [\d,]+ train / [\d,]+ test", "", d["title"]) for d in data]  # its sizes follow
    sizes = [
        f"{name}: {d['train_images']:,} training and {d['test_images']:,} test images"
        for name, d in zip(names, data, strict=True)
    ]
    lost = sum(map(measures.left_out, found))
    counts = f"{len(found)} trials, {sum(len(r.seeds) for r in found)} replicas, {lost} of them diverged"
    old = " Some were trained by an earlier version of the code." if any(r.stale for r in found) else ""
    text = f"{'; '.join(sizes)}. {counts}. From {where}"
    return text + (f"; {len(left_out)} left out." if left_out else ".") + old


def family(record: Record) -> str:
    """What a record is compared with: its study, and its arm's family where the study has several."""
    arm = find_arm(record.trial.study, record.name)
    return f"{record.trial.study}, {arm.family}" if arm and arm.family else record.trial.study


def by_study(found: Sequence[Record]) -> dict[str, list[Record]]:
    """Records worth drawing together: of one family and data set, in the order of the study's arms."""
    groups: dict[str, list[Record]] = {}
    for record in sorted(found, key=_rank):
        groups.setdefault(f"{family(record)}, {record.dataset['checksum']}", []).append(record)
    return groups


def _rank(record: Record) -> tuple:
    """Studies and arms in the order of their files; trials of the user's own come last, by name."""
    known = [(study.name, arm) for study in STUDIES.values() for arm in study.arms]
    key = record.trial.study, record.name
    return (known.index(key) if key in known else len(known), key)


def in_order(found: Sequence[Record]) -> list[Record]:
    return [record for group in by_study(found).values() for record in group]


def shown(found: Sequence[Record]) -> pd.DataFrame:
    """A row per record: the last epoch's mean, sd and 95 % interval; best epochs labelled for what they are."""
    return pd.DataFrame([_row(record) for record in in_order(found)])


def replication(found: Sequence[Record]) -> pd.DataFrame:
    """Whether each published last epoch, one seed, lies inside the 95 % interval for one more seed of ours."""
    rows = []
    for record in in_order(found):
        published, ours = published_for(record)["last"].dropna(), last(record, "test_accuracy")
        if len(published) and len(ours) > 1:
            seen, one_seed = published.iloc[0], statistics.prediction_interval(ours)
            numbers = (number(one_seed.mean), span(one_seed.low, one_seed.high), number(seen))
            rows.append((family(record), record.name, *numbers, "yes" if one_seed.holds(seen) else "no"))
    columns = ["study", "trial", "mean of ours, %", "95 % of single seeds", "published last epoch, %", "replicates"]
    return pd.DataFrame(rows, columns=columns)


def differences(found: Sequence[Record]) -> pd.DataFrame:
    """Every trial of a study against the study's first, in last-epoch test accuracy; trials with no seed left are out.

    Two intervals: for new seeds on these test images (Welch), and for new seeds and new images (two-way bootstrap).
    """
    groups = by_study([record for record in found if record.non_diverged]).values()
    return pd.DataFrame([_against(first, other) for first, *others in groups for other in others])


def averaging(found: Sequence[Record]) -> pd.DataFrame:
    """What averaging the weights brings in the last epoch, points: mean over seeds, and its 95 % interval."""
    gains = {record.name: statistics.mean_interval(measures.averaging_gain(record)) for record in found}
    rows = {
        name: (number(gain.mean, "+.3f"), span(*statistics.shown(gain), "+.3f", percent=False))
        for name, gain in gains.items()
    }
    return pd.DataFrame(rows, ["averaged − not averaged, points", "95 % interval"]).T


def verdicts(found: Sequence[Record]) -> pd.DataFrame:
    """`judged.verdicts` for reading: a row per claim whose trials were run, then those that were not."""
    rows = sorted(judged.verdicts(found), key=lambda row: row["verdict"] == "missing")
    return pd.DataFrame([_claim_row(row) for row in rows])


def _claim_row(row: dict) -> dict:
    part = judged.weakest(row)
    made = f"{len(row['looks'])} of {len(row['planned_looks'])}"
    return {
        "study": row["family"],
        "claim": row["claim"],
        "sentence": row["sentence"],
        "verdict": judged.in_words(row),
        "p (Holm)": "" if row["p"] is None else number(row["p"], ".2g"),
        "weakest part [95 %], positive: as claimed": judged.shown(part) if part else "",
        "seeds": row["seeds"],
        "looks": made if row["seeds"] else "",
        "note": row["note"],
    }


def with_claims(found: Sequence[Record]) -> list[str]:
    """The studies of which some claim has all its arms here."""
    have = {(record.trial.study, record.name) for record in found}
    asked = judged.claims()
    return list(dict.fromkeys(s.name for s, claim in asked if {(s.name, arm) for arm in claim.arms} <= have))


def missing(found: Sequence[Record], plan: str, results_dir: str = "") -> list[str]:
    """The "study/trial" names of the JSON list `plan` that no record stands for. Raises ValueError on another shape.

    A record stands for a name that is part of its path below `results_dir`, or its study and trial; an entry that
    trains several arms is there when all of them are.
    """
    names = json.loads(plan) if plan else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"plan={plan!r}: expected a JSON list of study/trial names")
    have = {f"{record.trial.study}/{record.name}" for record in found}
    places = [f"/{_below(record, folder(results_dir)).as_posix()}/" for record in found]
    there = [name for name in names if name in have or any(f"/{name}/" in place for place in places)]
    return [name for name in names if name not in there and not set(_arms(name) or [name]) <= have]


def _arms(entry: str) -> list[str]:
    """The "study/arm" names of the arms that an entry of studies.toml trains."""
    return [f"{entry.partition('/')[0]}/{arm}" for arm in trained_by(entry)]


def lines(texts: Sequence[str], none: str) -> str:
    """One per line, or `none`."""
    return "\n".join(texts) or none


def _row(record: Record) -> dict:
    values = last(record, "test_accuracy"), last(record, "train_accuracy"), measures.best_test_accuracy(record)
    interval, train, best = (statistics.mean_interval(x) for x in values)
    return {
        "study": family(record),
        "trial": record.name,
        "data": record.dataset["name"],
        "parameters": f"{record.provenance.get('parameters', 0):,}",
        "seeds": interval.n,
        "diverged": measures.left_out(record),
        "test %, last epoch": number(interval.mean),
        "± sd": number(interval.sd),
        "95 % interval": span(*statistics.shown(interval)),
        "running train %": number(train.mean),
        "train − test, points": number(train.mean - interval.mean),
        "best epoch %, chosen on the test set": number(best.mean),
        "published best %, likewise, 1 seed": number(published_for(record).best.mean()),
        "seconds, all seeds": f"{record.seconds:.0f}",
        "precision": record.provenance.get("precision", ""),
    }


def _against(first: Record, other: Record) -> dict:
    difference, seeds, both = gap(other, first)
    better = statistics.probability_of_improvement(last(other, "test_accuracy"), last(first, "test_accuracy"))
    return {
        "study": family(first),
        "trial": other.name,
        "against": first.name,
        "difference, points": difference,
        "95 % interval, new seeds": seeds,
        "95 % interval, new seeds and images": both,
        "a seed of it beats one of the other": f"{100 * better:.0f} %",
    }


def gap(a: Record, b: Record) -> tuple[str, str, str]:
    """The difference of two records' last epochs, its interval for new seeds (Welch), and for new images as well (two-
    way bootstrap); no intervals below five seeds."""
    seeds = statistics.difference(last(a, "test_accuracy"), last(b, "test_accuracy"))
    if seeds.n < statistics.ENOUGH_SEEDS:
        return number(seeds.mean, "+.2f"), "", ""
    both = statistics.two_way_bootstrap(measures.correct(a), measures.correct(b))
    spans = [span(one.low, one.high, "+.2f", percent=False) for one in (seeds, both)]
    return number(seeds.mean, "+.2f"), spans[0], spans[1]


def listed(words: Iterable[str]) -> str:
    """In words: "a, b and c"; nothing of none."""
    *others, last = list(words) or [""]
    return f"{', '.join(others)} and {last}" if others else last


def number(value: float, form: str = ".2f") -> str:
    """A number for a table; nothing where there is none."""
    return "" if np.isnan(value) else f"{value:{form}}"


def span(low: float, high: float, form: str = ".2f", percent: bool = True) -> str:
    """An interval for a table, `percent` ones kept within 0 to 100; nothing where there is none."""
    ends = np.clip([low, high], 0, 100) if percent else (low, high)
    return "" if np.isnan(low) else "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}".join(f"{end:{form}}" for end in ends)


def _below(record: Record, root: Path) -> Path:
    path = record.path or Path(record.name)
    return path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
