"""What more seeds would decide: families of claims simulated, many studies at once, by the rules of `verdicts`.

Everything works on the last axis, seeds; leading axes hold simulated studies.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from s6lib.evidence import images, verdicts
from s6lib.evidence.verdicts import Records
from s6lib.studies.base import Claim, Study

Values = Callable[[str, str], np.ndarray]  # (arm, measure) -> [..., seeds]


def settle(
    study: Study, claims: Sequence[Claim], values: Values, seeds: int, unrun: Sequence[Claim] = ()
) -> verdicts.Decided:
    """The verdicts of one family once every arm has `seeds` seeds: of `claims`, then of those `unrun`, which cannot be
    tested and still count in the family's correction."""
    p = [_p_values(study, claim, values, seeds) for claim in claims] + [(np.nan,) * 3] * len(unrun)
    columns = [np.stack(np.broadcast_arrays(*column), -1) for column in zip(*p, strict=True)]
    return verdicts.decide(*columns, twofold=np.array([verdicts.is_twofold(claim) for claim in (*claims, *unrun)]))


def _p_values(study: Study, claim: Claim, values: Values, seeds: int) -> tuple:
    planned, parts = study.looks(claim), []
    for part in claim.parts:
        arms = [values(arm, part.measure) for arm in part.weights]
        by_look = [verdicts.weighed(part, study, [x[..., :n] for x in arms]) for n in planned if n <= seeds]
        parts.append(verdicts.p_of_part(part, by_look, planned))
    return verdicts.p_of_claim(claim, parts)


# --- from the records so far -----------------------------------------------------------------------


class Outlook(NamedTuple):
    """Of every claim of a family: the chance that it is decided at the next look, by the end, and seeds on average."""

    claims: list[Claim]
    next_look: np.ndarray
    by_the_end: np.ndarray
    seeds: np.ndarray


def outlook(study: Study, family: Sequence[Claim], records: Records, draws: int = 400) -> Outlook | None:
    """Of those claims of a family whose arms have at least two seeds each, from these seeds; None where none is.

    The luck of new seeds, and the error of the means so far, is that of the seeds at hand drawn with replacement: the
    same seeds for all arms of a paired family and for all measures. For test accuracy it is widened to the sd that
    independent errors per image predict, where that is larger.
    """
    known = {name for name, record in records.items() if len(record.non_diverged) > 1}
    claims = [claim for claim in family if known.issuperset(claim.arms)]
    if not claims:
        return None
    unrun = [claim for claim in family if claim not in claims]
    last = max(study.looks(claim)[-1] for claim in claims)
    values = _drawn(study, records, last, draws, np.random.default_rng(0))
    ends = sorted({n for claim in claims for n in study.looks(claim)})
    words = np.stack([settle(study, claims, values, n, unrun).verdict[..., : len(claims)] for n in ends])
    decided = words != "undecided"  # [looks, draws, claims]
    after = [ends.index(verdicts.next_look(study, claim, records)) for claim in claims]
    first = np.where(decided.any(0), decided.argmax(0), len(ends) - 1)
    seeds = np.minimum(np.array(ends)[first], [study.looks(claim)[-1] for claim in claims]).mean(0)
    at_next = np.array([decided[k, :, c].mean() for c, k in enumerate(after)])
    return Outlook(claims, at_next, decided[-1].mean(0), seeds)


def _drawn(study: Study, records: Records, seeds: int, draws: int, source: np.random.Generator) -> Values:
    """What is there, and as many new seeds as are wanting, [draws, seeds]; the same for every claim that asks."""
    picked: dict[tuple[str, int], np.ndarray] = {}

    def values(arm: str, measure: str) -> np.ndarray:
        known = verdicts.measured(records[arm], measure, seeds).to_numpy()
        n, family = len(known), study.arms[arm].family
        key = (family if family in study.plan.paired else f"arm {arm}", n)
        if key not in picked:
            picked[key] = source.integers(0, n, (draws, max(n, seeds)))
        luck = _luck(known, images.least_sd(records[arm], measure))[picked[key]]
        means = known.mean() + luck[:, :n].mean(1, keepdims=True)
        return np.hstack([np.broadcast_to(known, (draws, n)), means + luck[:, n:seeds]])

    return values


def _luck(known: np.ndarray, least_sd: float) -> np.ndarray:
    """By how much each seed is off the mean, so scaled that its variance is the sample's, or `least_sd` squared."""
    sd = known.std(ddof=1)
    return (known - known.mean()) * (len(known) / (len(known) - 1)) ** 0.5 * (max(1.0, least_sd / sd) if sd else 1.0)
