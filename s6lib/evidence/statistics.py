"""Intervals and tests on seeds and on seeds x images.

Accuracies are in percent and their differences in percentage points, losses in nats per image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as scipy_stats

from s6lib.studies.base import MARGIN

ENOUGH_SEEDS = 5  # below that no interval is shown


@dataclass(frozen=True)
class Interval:
    """Mean, standard deviation over seeds (n - 1), and a 95 % interval for the mean; nan where n is too small."""

    mean: float
    sd: float
    low: float
    high: float
    n: int

    def holds(self, value: float) -> bool:
        return bool(self.low <= value <= self.high)


@dataclass(frozen=True)
class Difference:
    """An estimate, its standard error and degrees of freedom: numbers, or arrays with a place per simulated study.

    `n` is the number of seeds of the group that has fewest.
    """

    mean: Any
    se: Any
    df: Any
    n: int

    @property
    def low(self) -> Any:
        """The lower end of the 95 % interval."""
        return self.mean - scipy_stats.t.ppf(0.975, self.df) * self.se

    @property
    def high(self) -> Any:
        return 2 * self.mean - self.low

    @property
    def p(self) -> Any:
        """Two-sided, against 0."""
        return np.minimum(2 * np.minimum(self.above(), self.below()), 1.0)

    def above(self, bound: float = 0.0) -> Any:
        """One-sided p of the hypothesis "at most `bound`": small when the truth is above it."""
        gap = np.asarray(self.mean - bound)
        with np.errstate(divide="ignore", invalid="ignore"):
            p = scipy_stats.t.sf(gap / self.se, self.df)
        return np.where(self.se == 0, np.where(gap == 0, 0.5, gap < 0), p)[()]  # every seed alike: t would be 0/0

    def below(self, bound: float = 0.0) -> Any:
        """One-sided p of the hypothesis "at least `bound`"."""
        return replace(self, mean=-self.mean).above(-bound)

    def within(self, margin: float) -> Any:
        """p of two one-sided tests: small when |difference| < margin is shown. Schuirmann 1987."""
        return np.maximum(self.above(-margin), self.below(margin))

    def minus(self, bound: float) -> "Difference":
        """The same estimate counted from `bound`."""
        return replace(self, mean=self.mean - bound)


def shown(found: Interval | Difference) -> tuple[float, float]:
    """The ends of its interval; nan where there are too few seeds for one."""
    return (found.low, found.high) if found.n >= ENOUGH_SEEDS else (np.nan, np.nan)


# --- over seeds ----------------------------------------------------------------------------------


def mean_interval(values: ArrayLike) -> Interval:
    """Mean +- t * sd / sqrt(n), Student's t with n - 1 degrees of freedom; one value has no interval (nan)."""
    x = np.asarray(values, float)
    if not len(x):
        return Interval(np.nan, np.nan, np.nan, np.nan, 0)
    sd = float(x.std(ddof=1)) if len(x) > 1 else np.nan
    half = scipy_stats.t.ppf(0.975, max(len(x) - 1, 1)) * sd / len(x) ** 0.5
    return Interval(float(x.mean()), sd, float(x.mean() - half), float(x.mean() + half), len(x))


def prediction_interval(values: ArrayLike) -> Interval:
    """Where one more value of the same kind falls: mean +- t * sd * sqrt(1 + 1/n), n - 1 degrees of freedom."""
    mean = mean_interval(values)
    half = (mean.high - mean.mean) * (mean.n + 1) ** 0.5
    return Interval(mean.mean, mean.sd, mean.mean - half, mean.mean + half, mean.n)


def difference(a: ArrayLike, b: ArrayLike) -> Difference:
    """mean(a) - mean(b) with Welch's standard error; the seeds are treated as independent."""
    return contrast([a, b], [1, -1])


def contrast(groups: Sequence[ArrayLike], weights: Sequence[float]) -> Difference:
    """sum_i w_i * mean(x_i), x_i [..., seeds], with unequal variances; nothing but the mean below two seeds.

    Degrees of freedom after Welch 1947 and Satterthwaite 1946.
    """
    x = [np.asarray(group, float) for group in groups]
    n = [group.shape[-1] for group in x]
    mean = sum(w * g.mean(-1) for w, g in zip(weights, x, strict=True)) if all(n) else np.nan
    if min(n) < 2:
        return Difference(mean, np.nan, np.nan, min(n))
    parts = [w**2 * g.var(-1, ddof=1) / k for w, g, k in zip(weights, x, n, strict=True)]
    variance, pooled = np.sum(parts, 0), np.sum([part**2 / (k - 1) for part, k in zip(parts, n, strict=True)], 0)
    df = np.where(variance > 0, variance**2 / np.where(pooled > 0, pooled, 1.0), sum(n) - len(n))
    return Difference(mean, variance**0.5, df[()], min(n))


def equivalence(a: ArrayLike, b: ArrayLike, margin: float = MARGIN) -> float:
    """p of two one-sided tests: small when |mean(a) - mean(b)| < margin is shown."""
    return difference(a, b).within(margin)


def probability_of_improvement(a: ArrayLike, b: ArrayLike) -> float:
    """P(A > B) for one replica of each arm, ties counting half; nan when an arm is empty. Mann and Whitney 1947."""
    a, b = np.asarray(a, float)[:, None], np.asarray(b, float)[None]
    if not (a.size and b.size):
        return float("nan")
    return float(((a > b) + 0.5 * (a == b)).mean())


def holm(p_values: ArrayLike) -> np.ndarray:
    """p-values corrected for their number, step down: max over smaller p of (m - rank) * p, at most 1. Holm 1979.

    nan stands for a test that could not be made; it stays nan and does not count.
    """
    p = np.asarray(p_values, float)
    made = np.flatnonzero(~np.isnan(p))
    order = made[np.argsort(p[made], kind="stable")]
    corrected = np.full(p.shape, np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


# --- over seeds and images -----------------------------------------------------------------------


def two_way_bootstrap(correct_a: np.ndarray, correct_b: np.ndarray, draws: int = 2000) -> Interval:
    """Difference of mean accuracy in points, resampling each arm's seeds and, together for both arms, the images.

    `correct_a` and `correct_b` are bool [R, n] on the same n images. The interval answers for new seeds AND new
    images of the same kind; from few seeds, resampling understates their variation, which Welch's t does not.
    `sd` is the bootstrap's, `n` the number of seeds of the arm that has fewer.
    Owen 2007, "The pigeonhole bootstrap". Raises ValueError when the images differ in number.
    """
    a, b = (100 * np.asarray(arm, np.float32) for arm in (correct_a, correct_b))
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"two_way_bootstrap: arms of {a.shape[1]} and {b.shape[1]} images; both need the same images")
    source, images = np.random.default_rng(0), a.shape[1]
    found = []
    for start in range(0, draws, 100):  # a block of [100, n] at a time bounds memory
        block = min(100, draws - start)
        gap = _seed_weights(source, block, len(a)) @ a - _seed_weights(source, block, len(b)) @ b  # [block, n]
        found.append(np.take_along_axis(gap, source.integers(0, images, (block, images)), 1).mean(1))
    values = np.concatenate(found).astype(float)
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(a.mean() - b.mean()), float(values.std(ddof=1)), float(low), float(high), min(len(a), len(b)))


def _seed_weights(source: np.random.Generator, draws: int, seeds: int) -> np.ndarray:
    return (source.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds).astype(np.float32)
