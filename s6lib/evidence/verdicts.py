"""What records say about the studies' claims.

A claim is a conjunction of parts, each a contrast of means over seeds with a one-sided p for and against it. The
claim's p for is the largest of its parts' (all must hold), its p against the smallest times their number (one failing
part is enough). Twice the smaller is the claim's p, corrected by Holm over the claims tested together. A claim that
something is better is also contradicted when some part's difference is shown to be within the part's margin.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from s6lib.evidence import statistics
from s6lib.evidence.measures import MEASURES, left_out
from s6lib.evidence.statistics import Difference
from s6lib.records import Record
from s6lib.studies import STUDIES
from s6lib.studies.base import Claim, Part, Study
from s6lib.trial import make_trial

ENOUGH_SEEDS = 5
LEVEL = 0.05
Records = dict[str, Record]


@dataclass(frozen=True)
class Result:
    """What records say of one part. `found` is oriented so that positive values go the claimed way."""

    part: Part
    found: Difference
    unit: str
    p_for: float
    p_against: float
    p_equal: float = float("nan")

    def __str__(self) -> str:
        if np.isnan(self.found.low):
            return f"{self.part.text}: {self.found.mean:+.3g} {self.unit}, no interval"
        return f"{self.part.text}: {self.found.mean:+.3g} [{self.found.low:+.3g}, {self.found.high:+.3g}] {self.unit}"


def weigh_part(part: Part, records: Records) -> Result:
    """The part's contrast, its interval, and p for, against and, where it has a margin, of equality."""
    measure, unit = MEASURES[part.measure]
    values = [measure(records[arm]) for arm in part.weights]
    sign = -1.0 if part.relation == "below" else 1.0
    found = statistics.contrast(values, [sign * weight for weight in part.weights.values()])
    unit = part.unit or unit
    if part.relation == "within":
        against = min(1.0, 2 * min(found.above(part.bound), found.below(-part.bound)))
        return Result(part, found, unit, found.within(part.bound), against)
    found = found.minus(sign * part.bound)
    p_equal = float("nan") if part.margin is None else found.within(part.margin)
    return Result(part, found, unit, found.above(), found.below(), p_equal)


# --- verdicts --------------------------------------------------------------------------------------


def select(records: Iterable[Record], study: str) -> Records:
    """The records of one study by name; of two with one name, the one with more replicas that did not diverge."""
    found = sorted((r for r in records if r.trial.study == study), key=lambda r: len(r.non_diverged))
    return {record.name: record for record in found}


def claims(studies: Iterable[Study] | None = None) -> list[tuple[Study, Claim]]:
    """Every claim of every study, with its study."""
    return [(study, claim) for study in studies or STUDIES.values() for claim in study.claims]


def verdicts(records: Iterable[Record], asked: Iterable[tuple[Study, Claim]] | None = None) -> pd.DataFrame:
    """A row per claim: study, claim, sentence, verdict, p (Holm), evidence, parts, seeds, note.

    Verdicts are "supported", "contradicted", "undecided" and "missing: ...". `evidence` is the claim's weakest part
    with its 95 % interval, `parts` how many point the claimed way, `note` what stands in the way of a verdict.
    """
    records, rows = list(records), []
    for study, claim in claims() if asked is None else asked:
        chosen = select(records, study.name)
        lacking = [name for name in claim.arms if name not in chosen]
        rows.append(_missing(study, claim, lacking) if lacking else _weigh(study, claim, chosen))
    table = pd.DataFrame(rows)
    p, p_equal = statistics.holm(table.p), statistics.holm(table.p_equal)
    free = table.verdict.isna()
    found = [_verdict(*row) for row in zip(p, table.p_for, table.p_against, p_equal, strict=True)]
    table["verdict"], table["p"] = np.where(free, found, table.verdict), p
    return table.drop(columns=["p_for", "p_against", "p_equal"])


def evidence(records: Iterable[Record], asked: Iterable[tuple[Study, Claim]] | None = None) -> pd.DataFrame:
    """A row per part of every claim whose arms are there: estimate, interval, unit, uncorrected one-sided p."""
    records, rows = list(records), []
    for study, claim in claims() if asked is None else asked:
        chosen = select(records, study.name)
        complete = all(name in chosen for name in claim.arms)
        for result in [weigh_part(part, chosen) for part in claim.parts] if complete else []:
            found = {"estimate": result.found.mean, "low": result.found.low, "high": result.found.high}
            about = {"study": study.name, "claim": claim.id, "part": result.part.text}
            rows.append({**about, **found, "unit": result.unit, "p_for": result.p_for})
    return pd.DataFrame(rows, columns=["study", "claim", "part", "estimate", "low", "high", "unit", "p_for"])


def reservations(study: Study, claim: Claim, records: Records) -> list[str]:
    """Why these records cannot decide the claim, whatever they show."""
    used = [records[name] for name in claim.arms]
    reasons, fewest = [], min(len(record.non_diverged) for record in used)
    if fewest < ENOUGH_SEEDS:
        reasons.append(f"{fewest} seed{'s' * (fewest != 1)}, at least {ENOUGH_SEEDS} needed")
    if other := sorted({r.dataset["name"] for r in used if r.dataset["name"] != "mnist"}):
        reasons.append(f"on {' and '.join(other)}, not MNIST")
    return reasons + [line for record in used if (line := other_settings(study, record))]


def other_settings(study: Study, record: Record) -> str:
    """In which settings a record differs from its arm; "" where it does not."""
    wanted, found = make_trial(study.name, record.name).settings(), record.trial.settings()
    changed = [f"{key} {found[key]}, not {value}" for key, value in wanted.items() if found[key] != value]
    return f"{record.name}: {', '.join(changed)}" if changed else ""


def _weigh(study: Study, claim: Claim, records: Records) -> dict:
    parts, reasons = [weigh_part(part, records) for part in claim.parts], reservations(study, claim, records)
    p_for, p_against = _worst_p(parts), min(1.0, len(parts) * np.nanmin([1.0, *(part.p_against for part in parts)]))
    p_equal = min(1.0, len(parts) * np.nanmin([1.0, *(part.p_equal for part in parts)]))
    weakest = max(parts, key=lambda part: np.nan_to_num(part.p_for, nan=2.0))
    lost = sum(left_out(records[name]) for name in claim.arms)
    remarks = [f"{lost} diverged, left out"] * bool(lost) + [claim.note] * bool(claim.note)
    tested = {"p": min(1.0, 2 * min(p_for, p_against)), "p_for": p_for, "p_against": p_against, "p_equal": p_equal}
    return {
        **_row(study, claim, "undecided" if reasons else None),
        **(NOT_TESTED if reasons else tested),
        "evidence": str(weakest),
        "parts": f"{sum(part.p_for < 0.5 for part in parts)} of {len(parts)}",
        "seeds": min(len(records[name].non_diverged) for name in claim.arms),
        "note": "; ".join(reasons + remarks),
    }


NOT_TESTED = dict.fromkeys(("p", "p_for", "p_against", "p_equal"), np.nan)


def _worst_p(parts: list[Result]) -> float:
    return float(np.max([1.0 if np.isnan(part.p_for) else part.p_for for part in parts]))


def _missing(study: Study, claim: Claim, names: list[str]) -> dict:
    empty = {"evidence": "", "parts": "", "seeds": 0, "note": claim.note}
    return {**_row(study, claim, f"missing: {', '.join(names)}"), **NOT_TESTED, **empty}


def _row(study: Study, claim: Claim, verdict: str | None) -> dict:
    return {"study": study.name, "claim": claim.id, "sentence": claim.sentence, "verdict": verdict}


def _verdict(p: float, p_for: float, p_against: float, p_equal: float) -> str:
    if p < LEVEL:
        return "supported" if p_for < p_against else "contradicted"
    return "contradicted" if p_equal < LEVEL else "undecided"
