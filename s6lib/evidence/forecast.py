"""What more seeds would decide: families of claims simulated, many studies at once, by the rules of `verdicts`.

Everything works on the last axis, seeds; leading axes hold simulated studies. `settle` gives of values what
`verdicts.verdicts` gives of records, and a test holds the two alike.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats as scipy_stats

from s6lib.evidence import images, sequential, verdicts
from s6lib.evidence.verdicts import LEVEL, Records
from s6lib.studies.base import Claim, Part, Study

WORDS = np.array(["undecided", "no difference", "contradicted", "supported", "supported, below the margin"], object)
Values = Callable[[str, str], np.ndarray]  # (arm, measure) -> [..., seeds]


class Settled(NamedTuple):
    """Of every claim [..., claims]: its verdict and Holm's p."""

    verdict: np.ndarray
    p: np.ndarray


def settle(study: Study, claims: Sequence[Claim], values: Values, seeds: int) -> Settled:
    """The verdicts of one family once every arm has `seeds` seeds."""
    p_for, p_against, p_equal = (
        np.stack(column, -1) for column in zip(*(_claim(study, c, values, seeds) for c in claims), strict=True)
    )
    direction = np.minimum(1.0, 2 * np.minimum(p_for, p_against))
    found = sequential.corrected(direction, p_equal, sequential.step_down(direction, p_equal))
    shown, equal = found[0] <= LEVEL, found[1] <= LEVEL
    supported, contradicted = shown & (p_for < p_against), shown & (p_against < p_for)
    place = np.where(supported, 3 + equal, np.where(equal, 1, 2 * contradicted))
    return Settled(WORDS[place], np.fmin(*found))


def _claim(study: Study, claim: Claim, values: Values, seeds: int) -> tuple[np.ndarray, ...]:
    """p for, against, of equality, each [...]: `verdicts._p_values`."""
    planned = study.looks(claim)
    looks = [n for n in planned if n <= seeds]
    parts = [_part(part, study, values, planned, looks) for part in claim.parts]
    p_for, p_equal = (np.max([part[k] for part in parts], axis=0) for k in (0, 2))
    p_against = np.minimum(1.0, len(parts) * np.min([part[1] for part in parts], axis=0))
    if all(part.relation == "within" for part in claim.parts):
        p_equal = np.full_like(p_for, np.nan)
    return p_for, p_against, p_equal


def _part(part: Part, study: Study, values: Values, planned: Sequence[int], looks: Sequence[int]) -> list[np.ndarray]:
    """Sequential p for, against, of equality, each [...]."""
    arms = [values(arm, part.measure) for arm in part.weights]
    if not looks:
        return [np.ones(arms[0].shape[:-1])] * 3
    times = [n / planned[-1] for n in planned]
    tests = [_one_sided(part, study, [x[..., :n] for x in arms]) for n in looks]  # [looks][kind][tests]

    def over_looks(kind: int) -> list[np.ndarray]:
        columns = zip(*(test[kind] for test in tests), strict=True)
        return [sequential.p_value(sequential.z_score(np.stack(column, -1)), times) for column in columns]

    p_for, p_against, p_equal = (over_looks(kind) for kind in range(3))
    equal = np.max(p_equal, axis=0) if p_equal else np.full_like(p_for[0], np.nan)
    return [np.max(p_for, axis=0), np.minimum(1.0, len(p_against) * np.min(p_against, axis=0)), equal]


def _one_sided(part: Part, study: Study, arms: list[np.ndarray]) -> list[list[np.ndarray]]:
    """`verdicts._one_sided`: the tests for, against and of equality."""
    sign = -1.0 if part.relation == "below" else 1.0
    weights = [sign * w for w in part.weights.values()]
    if verdicts.is_paired(part, study):
        arms, weights = [sum(w * x for w, x in zip(weights, arms, strict=True))], [1.0]  # type: ignore[list-item]
    mean, se, df = welch(arms, weights)
    mean = mean if part.relation == "within" else mean - sign * part.bound

    def above(bound: float) -> np.ndarray:
        return _one_tail(mean - bound, se, df)

    def below(bound: float) -> np.ndarray:
        return _one_tail(bound - mean, se, df)

    if part.relation == "within":
        inside = [above(-part.bound), below(part.bound)]
        return [inside, [above(part.bound), below(-part.bound)], inside]
    equal = [] if part.margin is None else [above(-part.margin), below(part.margin)]
    return [[above(0.0)], [below(0.0)], equal]


def _one_tail(gap: np.ndarray, se: np.ndarray, df: np.ndarray) -> np.ndarray:
    """`statistics.Difference.above`: where every seed is alike, t would be 0/0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = scipy_stats.t.sf(gap / se, df)
    return np.where(se > 0, p, np.where(gap == 0, 0.5, np.asarray(gap < 0, float)))


def welch(arms: Sequence[np.ndarray], weights: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The contrast, its standard error and degrees of freedom, each [...]: `statistics.contrast`."""
    shares = [w**2 * x.var(-1, ddof=1) / x.shape[-1] for w, x in zip(weights, arms, strict=True)]
    variance = sum(shares)
    pooled = sum(share**2 / (x.shape[-1] - 1) for share, x in zip(shares, arms, strict=True))
    df = np.where(variance > 0, variance**2 / np.where(pooled > 0, pooled, 1.0), 1.0)  # type: ignore[operator]
    mean = sum(w * x.mean(-1) for w, x in zip(weights, arms, strict=True))
    return np.asarray(mean), np.sqrt(variance), np.asarray(df)


# --- from the records so far -----------------------------------------------------------------------


class Outlook(NamedTuple):
    """Of every claim of a family: the chance that it is decided at the next look, by the end, and seeds on average."""

    claims: list[Claim]
    next_look: np.ndarray
    by_the_end: np.ndarray
    seeds: np.ndarray


def outlook(study: Study, claims: Sequence[Claim], records: Records, draws: int = 400, seed: int = 0) -> Outlook | None:
    """From the seeds at hand; None where some arm has fewer than two.

    The luck of new seeds, and the error of the means so far, is that of the seeds at hand drawn with replacement: the
    same seeds for all arms of a paired family and for all measures. For test accuracy it is widened to the sd that
    independent errors per image predict, where that is larger.
    """
    if any(arm not in records or len(records[arm].non_diverged) < 2 for claim in claims for arm in claim.arms):
        return None
    last = max(study.looks(claim)[-1] for claim in claims)
    values = _drawn(study, records, last, draws, np.random.default_rng(seed))
    ends = sorted({n for claim in claims for n in study.looks(claim)})
    decided = np.stack(
        [settle(study, claims, values, n).verdict != "undecided" for n in ends]
    )  # [looks, draws, claims]
    done = [_done(claim, study, records) for claim in claims]
    after = [next((k for k, n in enumerate(ends) if n > have), len(ends) - 1) for have in done]
    first = np.where(decided.any(0), decided.argmax(0), len(ends) - 1)
    seeds = np.minimum(np.array(ends)[first], [study.looks(claim)[-1] for claim in claims]).mean(0)
    at_next = np.array([decided[k, :, c].mean() for c, k in enumerate(after)])
    return Outlook(list(claims), at_next, decided[-1].mean(0), seeds)


def _done(claim: Claim, study: Study, records: Records) -> int:
    return max(verdicts.looks_made([records[arm] for arm in claim.arms], study.looks(claim)), default=0)


def _drawn(study: Study, records: Records, seeds: int, draws: int, source: np.random.Generator) -> Values:
    """What is there, and as many new seeds as are wanting, [draws, seeds]; the same for every claim that asks."""
    picked: dict[tuple[str, int], np.ndarray] = {}

    def values(arm: str, measure: str) -> np.ndarray:
        known = verdicts.measured(records[arm], measure, seeds).to_numpy()
        n, family = len(known), study.arms[arm].family
        key = (family if family in study.plan.paired else f"arm {arm}", n)
        if key not in picked:
            picked[key] = source.integers(0, n, (draws, max(n, seeds)))
        luck = _luck(known, _predicted(records[arm], measure))[picked[key]]
        means = known.mean() + luck[:, :n].mean(1, keepdims=True)
        return np.hstack([np.broadcast_to(known, (draws, n)), means + luck[:, n:seeds]])

    return values


def _luck(known: np.ndarray, least_sd: float) -> np.ndarray:
    """By how much each seed is off the mean, so scaled that its variance is the sample's, or `least_sd` squared."""
    sd = known.std(ddof=1)
    return (known - known.mean()) * (len(known) / (len(known) - 1)) ** 0.5 * (max(1.0, least_sd / sd) if sd else 1.0)


def _predicted(record, measure: str) -> float:
    return images.predicted_sd(record) if measure == "test_accuracy" else 0.0
