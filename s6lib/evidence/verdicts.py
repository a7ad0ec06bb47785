"""What records say about the studies' claims, at the looks that each study's plan fixed beforehand.

A claim is a conjunction of parts, each a contrast of means over seeds. A part's one-sided tests are made at every look
that is complete, with the seeds of that look alone, and give sequential p-values: for it, against it, and of a
difference within its margin (two one-sided tests).

- supported: every part is shown. `p_for` is the largest of its parts'.
- contradicted: some part is shown to go the other way. `p_against` is the smallest of its parts', times their number.
- no difference: every part is shown to lie within its margin. `p_equal` is the largest of its parts'.
- supported, below the margin: the first and the third. A difference within the margin alone contradicts nothing.
- undecided: none of these yet. missing: an arm was not run.

A claim has a p of its direction, twice the smaller of p_for and p_against, and one of equality; its p is the smaller.
They are corrected for all claims of the family, those not run included, by `sequential.step_down`: a study's published
claims are one family, our own questions on the same arms another.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from s6lib.evidence import sequential, statistics
from s6lib.evidence.measures import MEASURES, left_out
from s6lib.evidence.statistics import Difference
from s6lib.records import Record
from s6lib.studies import STUDIES
from s6lib.studies.base import Claim, Part, Study
from s6lib.trial import make_trial

ENOUGH_SEEDS = 5  # below that no interval is shown
LEVEL = 0.05
KINDS = ("p_for", "p_against", "p_equal")
Records = dict[str, Record]
Asked = Iterable[tuple[Study, Claim]]


@dataclass(frozen=True)
class Result:
    """What records say of one part; positive values of `found` go the claimed way. p-values are nan before a look."""

    part: Part
    found: Difference
    unit: str
    p_for: float
    p_against: float
    p_equal: float


# --- parts -----------------------------------------------------------------------------------------


def weigh_part(part: Part, records: Records, study: Study, planned: Sequence[int], looks: Sequence[int]) -> Result:
    """A part at the looks made, of those planned: the last one's contrast and interval, and sequential p-values.

    Before the first look the contrast is that of all seeds at hand, for reading only.
    """
    by_look = [contrast(part, records, study, seeds) for seeds in looks]
    tests = [_one_sided(part, found) for found in by_look]
    times = [seeds / planned[-1] for seeds in planned]
    p = {kind: _sequential([test[kind] for test in tests], times) for kind in (tests[0] if tests else {})}
    found = by_look[-1] if by_look else contrast(part, records, study)
    p_for, p_equal = max(p.get("for", [np.nan])), max(p.get("equal") or [np.nan])
    p_against = min(1.0, len(p.get("against", [])) * min(p.get("against", [np.nan])))
    return Result(part, found, part.unit or MEASURES[part.measure][1], p_for, p_against, p_equal)


def looks_made(records: Sequence[Record], planned: Sequence[int]) -> list[int]:
    """The looks, as numbers of seeds, for which every record has all seeds from 0 on."""
    return [look for look in planned if all(set(range(look)) <= set(record.seeds) for record in records)]


def contrast(part: Part, records: Records, study: Study, seeds: int | None = None) -> Difference:
    """The part's contrast over seeds 0 to `seeds` - 1 (None: all), positive as claimed, from its bound."""
    sign = -1.0 if part.relation == "below" else 1.0
    weights = [sign * weight for weight in part.weights.values()]
    values = [measured(records[arm], part.measure, seeds) for arm in part.weights]
    if is_paired(part, study):
        both = pd.concat([w * x for w, x in zip(weights, values, strict=True)], axis=1).dropna()
        values, weights = [both.sum(axis=1)], [1.0]
    found = statistics.contrast(values, weights)
    return found if part.relation == "within" else found.minus(sign * part.bound)


def measured(record: Record, measure: str, seeds: int | None = None) -> pd.Series:
    """A measure by seed, of the replicas that did not diverge among seeds 0 to `seeds` - 1 (None: all)."""
    kept = sorted(record.seeds[r] for r in record.non_diverged)
    values = pd.Series(MEASURES[measure][0](record), index=kept)
    return values if seeds is None else values[values.index < seeds]


def is_paired(part: Part, study: Study) -> bool:
    families = {study.arms[arm].family for arm in part.weights if arm in study.arms}
    return len(part.weights) > 1 and len(families) == 1 and families <= set(study.plan.paired)


def _one_sided(part: Part, found: Difference) -> dict[str, list[float]]:
    """The one-sided p-values for the part and of equality, of which all must be small, and those against it."""
    if part.relation == "within":
        inside = [found.above(-part.bound), found.below(part.bound)]
        return {"for": inside, "against": [found.above(part.bound), found.below(-part.bound)], "equal": inside}
    equal = [] if part.margin is None else [found.above(-part.margin), found.below(part.margin)]
    return {"for": [found.above()], "against": [found.below()], "equal": equal}


def _sequential(tests: list[list[float]], times: Sequence[float]) -> list[float]:
    """The sequential p-value of every one-sided test, from its p-values at the looks made."""
    return [float(sequential.p_value(sequential.z_score(np.array(p)), times)) for p in zip(*tests, strict=True)]


# --- claims ----------------------------------------------------------------------------------------


def select(records: Iterable[Record], study: str) -> Records:
    """The records of one study by name; of two with one name, the one with more replicas that did not diverge."""
    found = sorted((r for r in records if r.trial.study == study), key=lambda r: len(r.non_diverged))
    return {record.name: record for record in found}


def claims(studies: Iterable[Study] | None = None) -> list[tuple[Study, Claim]]:
    """Every claim of every study, with its study."""
    return [(study, claim) for study in studies or STUDIES.values() for claim in study.claims]


def verdicts(records: Iterable[Record], asked: Asked | None = None) -> list[dict]:
    """A row per claim, JSON-plain: study, claim, sentence, place, reading, family, verdict, p (Holm), looks,
    planned_looks, seeds (fewest of its arms), parts (a row each, positive as claimed), note."""
    records = list(records)
    rows = [_weigh(study, claim, select(records, study.name)) for study, claim in asked or claims()]
    for family in dict.fromkeys(row["family"] for row in rows):
        _settle([row for row in rows if row["family"] == family])
    return rows


def _weigh(study: Study, claim: Claim, records: Records) -> dict:
    row: dict[str, Any] = {"study": study.name, "claim": claim.id, "sentence": claim.sentence, "place": claim.place}
    row |= {"reading": claim.reading, "family": f"{study.name}, our own" if claim.own else study.name}
    row |= {
        "arms": list(claim.arms),
        "planned_looks": list(study.looks(claim)),
        "looks": [],
        "seeds": 0,
        "p": np.nan,
        "parts": [],
        "note": "",
    }
    if lacking := [name for name in claim.arms if name not in records]:
        return row | {"verdict": "missing", "note": f"not run: {', '.join(lacking)}"}
    used = {name: records[name] for name in claim.arms}
    looks = looks_made(list(used.values()), study.looks(claim))
    parts = [weigh_part(part, used, study, study.looks(claim), looks) for part in claim.parts]
    reasons, lost = reservations(study, claim, used), sum(map(left_out, used.values()))
    row |= {"seeds": min(len(record.non_diverged) for record in used.values()), "parts": list(map(_part_row, parts))}
    row["note"] = "; ".join(reasons + [f"{lost} diverged, left out"] * bool(lost))
    if reasons:
        return row | {"verdict": "undecided"}
    return row | {"looks": looks, **_p_values(parts)}


def _p_values(parts: list[Result]) -> dict[str, float]:
    """Of a claim: that all parts hold, that one fails, that all lie within their margins (nan: that is the claim)."""
    p_for, p_against = max(part.p_for for part in parts), len(parts) * min(part.p_against for part in parts)
    only_within = all(part.part.relation == "within" for part in parts)
    p_equal = np.nan if only_within else float(np.max([part.p_equal for part in parts]))  # nan where one has no margin
    return {"p_for": p_for, "p_against": min(1.0, p_against), "p_equal": p_equal}


def _settle(rows: list[dict]) -> None:
    """Writes the verdicts of one family, and those of its parts; a claim that was not tested counts with a p of 1."""
    p_for, p_against, p_equal = (np.array([row.pop(kind, np.nan) for row in rows], float) for kind in KINDS)
    tested = ~np.isnan(p_for)
    direction = np.where(tested, np.minimum(1.0, 2 * np.fmin(p_for, p_against)), 1.0)
    equality = np.where(tested, p_equal, 1.0)
    factors = sequential.step_down(direction, equality)
    found = sequential.corrected(direction, equality, factors)
    for k, row in enumerate(rows):
        shown, alike = found[0][k] <= LEVEL, found[1][k] <= LEVEL
        row.setdefault("verdict", word(shown and p_for[k] < p_against[k], shown and p_against[k] < p_for[k], alike))
        row["p"] = float(np.fmin(found[0][k], found[1][k])) if tested[k] else None
        for part in row["parts"]:
            p = 2 * part["p_for"], 2 * len(row["parts"]) * part["p_against"], part["p_equal"]
            level = LEVEL / factors[0][k], LEVEL / factors[0][k], LEVEL / factors[1][k]
            supported, contradicted, equal = (value <= most for value, most in zip(p, level, strict=True))
            one = word(supported, contradicted, equal, part["relation"] == "within")
            part["verdict"] = one if row["looks"] else "undecided"


def word(supported: bool, contradicted: bool, equal: bool, within: bool = False) -> str:
    """A difference the other way that is shown to be within the margin is no difference; nor is one that is `within`
    its margin as claimed anything but supported."""
    if supported:
        return "supported, below the margin" if equal and not within else "supported"
    if equal and not within:
        return "no difference"
    return "contradicted" if contradicted else "undecided"


def _part_row(result: Result) -> dict:
    part, found = result.part, result.found
    about: dict[str, Any] = {"text": part.text, "measure": part.measure, "unit": result.unit, "relation": part.relation}
    about |= {"bound": part.bound, "margin": part.margin, "weights": part.weights}
    numbers = {"estimate": found.mean, "low": found.low, "high": found.high}
    return {**about, **numbers, "p_for": result.p_for, "p_against": result.p_against, "p_equal": result.p_equal}


def reservations(study: Study, claim: Claim, records: Records) -> list[str]:
    """Why these records cannot decide the claim, whatever they show."""
    used, planned = [records[name] for name in claim.arms], study.looks(claim)
    reasons = []
    if not looks_made(used, planned):
        have = min(len(record.seeds) for record in used)
        reasons.append(f"{have} seed{'s' * (have != 1)}; the first look is at {planned[0]}, seeds 0 on")
    if other := sorted({r.dataset["name"] for r in used if r.dataset["name"] != study.plan.dataset}):
        reasons.append(f"on {' and '.join(other)}, not {study.plan.dataset}")
    return reasons + [line for record in used if (line := other_settings(study, record))]


def other_settings(study: Study, record: Record) -> str:
    """In which settings a record differs from its arm; "" where it does not."""
    wanted, found = make_trial(study.name, record.name).settings(), record.trial.settings()
    changed = [f"{key} {found[key]}, not {value}" for key, value in wanted.items() if found[key] != value]
    return f"{record.name}: {', '.join(changed)}" if changed else ""


def plain(rows: Iterable[dict]) -> list[dict]:
    """The rows as JSON has them: numbers that are none are None."""

    def number(value: Any) -> Any:
        return None if isinstance(value, float) and not np.isfinite(value) else value

    made = [{**row, "parts": [{key: number(v) for key, v in part.items()} for part in row["parts"]]} for row in rows]
    return [{key: number(value) for key, value in row.items()} for row in made]


def weakest(row: dict) -> dict | None:
    """The part of a claim's row that is least shown; None where none was weighed."""
    return max(row["parts"], key=lambda part: (np.nan_to_num(part["p_for"], nan=1.0), -part["estimate"]), default=None)


def shown(part: dict) -> str:
    """A part's row in words: "gbn − bn: +0.021 [−0.042, +0.084] points"; the interval's half-width has two digits."""
    half = (part["high"] - part["low"]) / 2
    digits = max(0, 1 - int(np.floor(np.log10(half)))) if half > 0 else 3
    estimate, low, high = (f"{part[key]:+.{digits}f}".replace("-", "−") for key in ("estimate", "low", "high"))
    interval = "no interval" if np.isnan(half) else f"[{low}, {high}]"
    return f"{part['text']}: {estimate} {interval} {part['unit']}"
