"""What records say about the studies' claims, at the looks that each study's plan fixed beforehand.

A claim is a conjunction of parts, each a contrast of means over seeds. A part's one-sided tests are made at every look
that is complete, with the seeds of that look alone, and give sequential p-values: for it, against it, and of a
difference within its margin (two one-sided tests).

- supported: every part is shown. `p_for` is the largest of its parts'.
- contradicted: some part is shown to go the other way. `p_against` is the smallest of its parts', times their number.
- no difference: every part is shown to lie within its margin. `p_equal` is the largest of its parts'.
- supported, below the margin: the first and the third. A difference within the margin alone contradicts nothing.
- undecided: none of these yet, or no look has been made (`in_words`). missing: an arm was not run.

A claim has a p of its direction, twice the smaller of p_for and p_against, and one of equality; its p is the smaller.
They are corrected for all claims of the family, those not run included, by `sequential.step_down`: a study's published
claims are one family, our own questions on the same arms another.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from s6lib.evidence import sequential, statistics
from s6lib.evidence.measures import MEASURES, left_out
from s6lib.evidence.statistics import Difference
from s6lib.records import Record, counted, replace_file
from s6lib.studies import STUDIES
from s6lib.studies.base import Claim, Part, Study
from s6lib.trial import make_trial

LEVEL = 0.05
UNTESTED = "not tested yet"
FILE = "verdicts.json"
KINDS = ("p_for", "p_against", "p_equal")
TWOFOLD = "twofold"  # of a row, until its family is decided
Records = dict[str, Record]
Asked = Iterable[tuple[Study, Claim]]


# --- parts -----------------------------------------------------------------------------------------


def weigh_part(part: Part, records: Records, study: Study, planned: Sequence[int], looks: Sequence[int]) -> dict:
    """A part's row at the looks made, of those planned: the last one's contrast and interval, sequential p-values.

    Before the first look the contrast is that of all seeds at hand, for reading only.
    """
    by_look = [contrast(part, records, study, seeds) for seeds in looks]
    found = by_look[-1] if by_look else contrast(part, records, study)
    row: dict[str, Any] = {"text": part.text, "measure": part.measure, "unit": part.unit or MEASURES[part.measure][1]}
    row |= {"relation": part.relation, "bound": part.bound, "margin": part.margin, "weights": part.weights}
    numbers = zip(("estimate", "low", "high"), (found.mean, *statistics.shown(found)), strict=True)
    row |= {key: round(float(value), 9) for key, value in numbers}  # 0, not 3e-14, where means are equal
    return row | dict(zip(KINDS, map(float, p_of_part(part, by_look, planned)), strict=True))


def weighed(part: Part, study: Study, values: Sequence[ArrayLike]) -> Difference:
    """The part's contrast of its arms' values [..., seeds], positive as claimed, from its bound."""
    sign = -1.0 if part.relation == "below" else 1.0
    weights = [sign * weight for weight in part.weights.values()]
    if is_paired(part, study):
        values, weights = [sum(w * np.asarray(x) for w, x in zip(weights, values, strict=True))], [1.0]
    found = statistics.contrast(values, weights)
    return found if part.relation == "within" else found.minus(sign * part.bound)


def contrast(part: Part, records: Records, study: Study, seeds: int | None = None) -> Difference:
    """`weighed` for the records' seeds 0 to `seeds` - 1 (None: all); of pairs, for the seeds that all arms have."""
    values = [measured(records[arm], part.measure, seeds) for arm in part.weights]
    if is_paired(part, study):
        return weighed(part, study, pd.concat(values, axis=1).dropna().to_numpy().T)
    return weighed(part, study, values)


def measured(record: Record, measure: str, seeds: int | None = None) -> pd.Series:
    """A measure by seed, of the replicas that did not diverge among seeds 0 to `seeds` - 1 (None: all)."""
    kept = sorted(record.seeds[r] for r in record.non_diverged)
    values = pd.Series(MEASURES[measure][0](record), index=kept)
    return values if seeds is None else values[values.index < seeds]


def is_paired(part: Part, study: Study) -> bool:
    families = {study.arms[arm].family for arm in part.weights if arm in study.arms}
    return len(part.weights) > 1 and len(families) == 1 and families <= set(study.plan.paired)


def p_of_part(part: Part, by_look: Sequence[Difference], planned: Sequence[int]) -> tuple:
    """Sequential p-values of a part from its contrasts at the looks made, in the order of KINDS, each [...].

    nan before the first look, and of equality where the part has no margin.
    """
    if not by_look:
        return np.nan, np.nan, np.nan
    times, tests = [seeds / planned[-1] for seeds in planned], [_one_sided(part, found) for found in by_look]
    p_for, p_against, p_equal = (
        [sequential.p_value(sequential.z_score(np.stack(p, -1)), times) for p in zip(*kind, strict=True)]
        for kind in zip(*tests, strict=True)
    )
    contradicted = np.minimum(1.0, len(p_against) * np.min(p_against, 0))
    return np.max(p_for, 0), contradicted, np.max(p_equal, 0) if p_equal else np.full_like(contradicted, np.nan)


def _one_sided(part: Part, found: Difference) -> tuple[list, list, list]:
    """The one-sided p-values for the part, of which all must be small, those against it, and those of equality."""
    if part.relation == "within":
        inside = [found.above(-part.bound), found.below(part.bound)]
        return inside, [found.above(part.bound), found.below(-part.bound)], inside
    equal = [] if part.margin is None else [found.above(-part.margin), found.below(part.margin)]
    return [found.above()], [found.below()], equal


def looks_made(records: Sequence[Record], planned: Sequence[int]) -> list[int]:
    """The looks, as numbers of seeds, for which every record has all seeds from 0 on."""
    return [look for look in planned if all(record.seeds_from_0 >= look for record in records)]


def next_look(study: Study, claim: Claim, records: Records) -> int:
    """The seeds of a claim's next look; of its last one where all were made."""
    looks, used = study.looks(claim), [records[arm] for arm in claim.arms if arm in records]
    made = looks_made(used, looks) if len(used) == len(claim.arms) else []
    return looks[min(len(made), len(looks) - 1)]


# --- claims ----------------------------------------------------------------------------------------


def select(records: Iterable[Record], study: str) -> Records:
    """The records of one study by name; of two with one name, the one that is as its arm, or the one with more replicas
    that did not diverge."""
    found: Records = {}
    for record in (one for one in records if one.trial.study == study):
        rival = found.get(record.name)
        found[record.name] = max(record, rival, key=_rank) if rival else record
    return found


def precision_of(record: Record) -> str:
    return record.provenance.get("precision", "unknown")


def of_claim(claim: Claim, records: Iterable[Record], study: str) -> Records:
    """`select`'s records; where all arms of the claim were run in one precision, those of that precision, and of two
    such precisions those with more seeds."""
    mine = [record for record in records if record.trial.study == study]
    kinds = sorted(set(map(precision_of, mine)))
    alike = [select([one for one in mine if precision_of(one) == kind], study) for kind in kinds]
    whole = [found for found in alike if set(claim.arms) <= set(found)]
    return max(whole, key=lambda found: min(_rank(found[arm]) for arm in claim.arms), default=select(mine, study))


def is_as_planned(record: Record) -> bool:
    """Whether a record is of an arm of its study, with the arm's settings, on the plan's data."""
    study = STUDIES.get(record.trial.study)
    known = study and record.name in study.arms and record.dataset["name"] == study.plan.dataset
    return bool(study and known and not other_settings(study, record))


def _rank(record: Record) -> tuple[bool, int]:
    return is_as_planned(record), len(record.non_diverged)


def claims() -> list[tuple[Study, Claim]]:
    """Every claim of every study, with its study."""
    return [(study, claim) for study in STUDIES.values() for claim in study.claims]


def verdicts(records: Iterable[Record], asked: Asked | None = None) -> list[dict]:
    """A row per claim, JSON-plain: study, claim, sentence, place, reading, family, verdict, p (Holm), looks,
    planned_looks, seeds (fewest of its arms), parts (a row each, positive as claimed), note."""
    records = list(records)
    rows = [_weigh(study, claim, of_claim(claim, records, study.name)) for study, claim in asked or claims()]
    for family in dict.fromkeys(row["family"] for row in rows):
        _settle([row for row in rows if row["family"] == family])
    return rows


def _weigh(study: Study, claim: Claim, records: Records) -> dict:
    row: dict[str, Any] = {"study": study.name, "claim": claim.id, "sentence": claim.sentence, "place": claim.place}
    row |= {"reading": claim.reading, "family": f"{study.name}, our own" if claim.own else study.name}
    row |= {"arms": list(claim.arms), "planned_looks": list(study.looks(claim)), "looks": [], "seeds": 0}
    row |= {"p": np.nan, "parts": [], "note": "", TWOFOLD: is_twofold(claim)}
    if lacking := [name for name in claim.arms if name not in records]:
        return row | {"verdict": "missing", "note": f"not run: {', '.join(lacking)}"}
    used = {name: records[name] for name in claim.arms}
    looks = looks_made(list(used.values()), study.looks(claim))
    parts = [weigh_part(part, used, study, study.looks(claim), looks) for part in claim.parts]
    reasons, lost = reservations(study, claim, used), sum(map(left_out, used.values()))
    row |= {"seeds": min(len(record.non_diverged) for record in used.values()), "parts": parts}
    row["note"] = "; ".join(reasons + [f"{lost} diverged, left out"] * bool(lost))
    if reasons:
        return row | {"verdict": "undecided"}
    p = p_of_claim(claim, [[part[kind] for kind in KINDS] for part in parts])
    return row | {"looks": looks, **dict(zip(KINDS, p, strict=True))}


def in_words(row: dict) -> str:
    """A row's verdict for reading. What no look has tested is not called undecided."""
    return UNTESTED if row["verdict"] == "undecided" and not row["looks"] else row["verdict"]


def p_of_claim(claim: Claim, parts: Sequence[Sequence]) -> tuple:
    """That all parts hold, that one fails, that all lie within their margins (nan: that is the claim), each [...]."""
    p_for, p_against, p_equal = zip(*parts, strict=True)
    contradicted = np.minimum(1.0, len(parts) * np.min(p_against, 0))
    only_within = all(part.relation == "within" for part in claim.parts)
    return np.max(p_for, 0), contradicted, np.full_like(contradicted, np.nan) if only_within else np.max(p_equal, 0)


def is_twofold(claim: Claim) -> bool:
    """Whether the claim can be wrong in its direction and in equality at once: of several parts, all with margins."""
    return len(claim.parts) > 1 and all(part.margin is not None for part in claim.parts)


class Decided(NamedTuple):
    """Of every claim of a family [..., claims]: its verdict, p, and the numbers that its two p were multiplied by."""

    verdict: np.ndarray
    p: np.ndarray
    factors: tuple[np.ndarray, np.ndarray]


def decide(
    p_for: np.ndarray, p_against: np.ndarray, p_equal: np.ndarray, *, twofold: np.ndarray | bool = False
) -> Decided:
    """The verdicts on one family, p [..., claims], those `twofold` (`is_twofold`) counted twice; a claim that was not
    tested (nan) counts with a p of 1."""
    tested = ~np.isnan(p_for)
    direction = np.where(tested, np.minimum(1.0, 2 * np.fmin(p_for, p_against)), 1.0)
    equality = np.where(tested, p_equal, 1.0)
    factors = sequential.step_down(direction, equality, twofold)
    found = sequential.corrected(direction, equality, factors)
    shown, equal = found[0] <= LEVEL, found[1] <= LEVEL
    return Decided(word(shown & (p_for < p_against), shown & (p_against < p_for), equal), np.fmin(*found), factors)


def _settle(rows: list[dict]) -> None:
    """Writes the verdicts of one family, and those of its parts."""
    p = [np.array([row.pop(kind, np.nan) for row in rows], float) for kind in KINDS]
    found = decide(*p, twofold=np.array([row.pop(TWOFOLD) for row in rows]))
    for k, row in enumerate(rows):
        row.setdefault("verdict", str(found.verdict[k]))
        row["p"] = None if np.isnan(p[0][k]) else float(found.p[k])
        level, level_equal = (LEVEL / factor[k] for factor in found.factors)
        for part in row["parts"]:
            supported, contradicted = 2 * part["p_for"] <= level, 2 * len(row["parts"]) * part["p_against"] <= level
            one = word(supported, contradicted, part["p_equal"] <= level_equal, part["relation"] == "within")
            part["verdict"] = str(one) if row["looks"] else "undecided"


def word(supported: ArrayLike, contradicted: ArrayLike, equal: ArrayLike, within: bool = False) -> np.ndarray:
    """A difference the other way that is shown to be within the margin is no difference; nor is one that is `within`
    its margin as claimed anything but supported."""
    equal = np.logical_and(equal, not within)
    otherwise = np.where(equal, "no difference", np.where(contradicted, "contradicted", "undecided"))
    return np.where(supported, np.where(equal, "supported, below the margin", "supported"), otherwise)


def reservations(study: Study, claim: Claim, records: Records) -> list[str]:
    """Why these records cannot decide the claim, whatever they show."""
    used, planned = [records[name] for name in claim.arms], study.looks(claim)
    reasons = []
    if not looks_made(used, planned):
        have = min(len(record.seeds) for record in used)
        reasons.append(f"{counted(have, 'seed')}; the first look is at {planned[0]}, seeds 0 on")
    if other := sorted({r.dataset["name"] for r in used if r.dataset["name"] != study.plan.dataset}):
        reasons.append(f"on {' and '.join(other)}, not {study.plan.dataset}")
    if len(kinds := Counter(map(precision_of, used))) > 1:
        reasons.append(
            f"in {' and '.join(sorted(kinds))}; `make decide PRECISION={max(kinds, key=kinds.__getitem__)}` "
            "makes them alike"
        )
    return reasons + [line for record in used if (line := other_settings(study, record))]


def other_settings(study: Study, record: Record) -> str:
    """In which settings a record differs from its arm; "" where it does not."""
    wanted, found = make_trial(study.name, record.name).settings(), record.trial.settings()
    changed = [f"{key} {found[key]}, not {value}" for key, value in wanted.items() if found[key] != value]
    return f"{record.name}: {', '.join(changed)}" if changed else ""


def plain(value: Any) -> Any:
    """Rows, or other nested values, as JSON has them: numbers that are none are None."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def weakest(row: dict) -> dict | None:
    """The part of a claim's row that is least shown; None where none was weighed."""
    return max(row["parts"], key=lambda part: (np.nan_to_num(part["p_for"], nan=1.0), -part["estimate"]), default=None)


def shown(part: dict) -> str:
    """A part's row in words: "gbn − bn: +0.021 [−0.042, +0.084] points"; the interval's half-width has two digits."""
    if np.isnan(part["estimate"]):
        return f"{part['text']}: needs more epochs"
    half = (part["high"] - part["low"]) / 2
    digits = max(0, 1 - int(np.floor(np.log10(half)))) if half > 0 else 3
    estimate, low, high = (f"{part[key]:+.{digits}f}".replace("-", "−") for key in ("estimate", "low", "high"))
    interval = "" if np.isnan(half) else f" [{low}, {high}]"
    return f"{part['text']}: {estimate}{interval} {part['unit']}"


def write(rows: Iterable[dict], folder: Path, name: str = FILE) -> None:
    """The rows as `name` of the run in `folder`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain(rows), indent=1, allow_nan=False, ensure_ascii=False)
    replace_file(folder / name, f"{text}\n".encode())
