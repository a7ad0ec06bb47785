"""Tests with several looks fixed beforehand, whose error is that of one test.

At look k of K a share t_k = n_k / n_K of the seeds is there. Under the null hypothesis the z-scores of the looks are
those of Brownian motion, Z_k = B(t_k) / sqrt(t_k), so one bound per look can be found such that together they are
crossed with probability alpha. The share of alpha that each look may spend follows Lan and DeMets' form of
O'Brien and Fleming's rule: very little at first, nearly all at the end.
Lan and DeMets 1983, Biometrika 70; Jennison and Turnbull 2000, chapter 7.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from scipy import optimize, special
from scipy import stats as scipy_stats

NORMAL = scipy_stats.norm
FARTHEST = 8.5  # z-scores beyond it have probability 1e-17
NODES, WEIGHTS = np.polynomial.legendre.leggauss(100)
SCORES = np.linspace(-3.1, 7.0, 150)  # of the levels whose bounds are tabled; between them, interpolated


def spent(time: float, alpha: float) -> float:
    """The share of `alpha` that looks up to `time` (0 to 1) may have spent: 2 - 2 Phi(z_{alpha/2} / sqrt(time))."""
    return float(2 * NORMAL.sf(NORMAL.isf(alpha / 2) / time**0.5))


def bounds(times: Sequence[float], alpha: float) -> np.ndarray:
    """The z-score, one per look, that a one-sided test of level `alpha` must exceed there.

    `times` rise to 1. Each bound is such that a path below all earlier ones crosses it with the probability that its
    look may spend. Armitage, McPherson and Rowe 1969; integrals over the density by Gauss and Legendre.
    """
    if not len(times) or min(np.diff([0.0, *times])) <= 0 or abs(times[-1] - 1) > 1e-9:
        raise ValueError(f"looks at {list(times)} of the seeds; valid: shares that rise to 1")
    levels = [spent(time, alpha) for time in times]
    found = [float(NORMAL.isf(levels[0]))]
    places, weights = _nodes(found[0], times[0])
    weights = weights * NORMAL.pdf(places, scale=times[0] ** 0.5)  # the probability around each place
    for k in range(1, len(times)):
        may, step = levels[k] - levels[k - 1], (times[k] - times[k - 1]) ** 0.5

        def too_much(z: float, k=k, may=may, step=step, places=places, weights=weights) -> float:
            return float(weights @ special.ndtr((places - z * times[k] ** 0.5) / step)) - may

        enough = too_much(FARTHEST) < 0 < too_much(-FARTHEST)
        found.append(float(optimize.brentq(too_much, -FARTHEST, FARTHEST)) if enough else FARTHEST)
        nodes, new = _nodes(found[k], times[k])
        weights = new * (np.exp(-(((nodes[:, None] - places) / step) ** 2) / 2) @ weights) / (step * (2 * np.pi) ** 0.5)
        places = nodes
    return np.array(found)


def _nodes(bound: float, time: float) -> tuple[np.ndarray, np.ndarray]:
    """Places of the Brownian motion at `time` below a z-score, and their weights in an integral."""
    half = (bound + FARTHEST) / 2 * time**0.5
    return half * (NODES + 1) - FARTHEST * time**0.5, half * WEIGHTS


@cache
def _table(times: tuple[float, ...]) -> np.ndarray:
    """The bounds [levels, looks] of tests whose levels have the z-scores `SCORES`."""
    return np.array([bounds(times, float(NORMAL.sf(score))) for score in SCORES])


def p_value(z: Sequence[float] | np.ndarray, times: Sequence[float]) -> np.ndarray:
    """The sequential p-value after the looks made: the smallest alpha at which some look's bound was crossed.

    `z` [looks made] or [studies, looks made]; nan stands for a look that was not made. At most alpha of all studies
    without an effect ever have a p below alpha, whenever they stop. Liu and Anderson 2008, JASA 103.
    """
    z = np.asarray(z, float)
    table = _table(tuple(float(time) for time in times))
    made = range(min(z.shape[-1], table.shape[1]))
    per_look = [NORMAL.sf(np.interp(z[..., k], table[:, k], SCORES)) for k in made]
    return np.nanmin([np.where(np.isnan(z[..., k]), 1.0, p) for k, p in zip(made, per_look, strict=True)], axis=0)


def step_down(
    direction: np.ndarray, equality: np.ndarray, twofold: np.ndarray | bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The number by which the p-values of every claim of a family are to be multiplied, [..., claims] each.

    A claim has a p of its direction and, unless nan, one of equality. Of one difference at most one of the two can be
    wrong in truth (it is none, or as large as the margin), so an error in any of m claims is ruled out by a factor of
    m, and, stepping down from the smallest p, of the number of claims that have a p left: Holm 1979, with the logical
    relation of Shaffer 1986. A claim that was shown to be equal may still be wrong about its direction, so it stays.
    A claim of several differences, `twofold` [claims], counts with each p that it has left: one difference may be none
    while another is as large as the margin, and then both can be wrong.
    """
    p = np.concatenate([direction, np.nan_to_num(equality, nan=np.inf)], -1)  # [..., 2 claims]
    ranks = np.argsort(np.argsort(p, -1, kind="stable"), -1)
    first, second = np.split(ranks, 2, -1)
    alone = np.isnan(equality)
    until = np.where(alone, first, np.maximum(first, second))  # where a claim's last p stands
    before = np.where(twofold & ~alone, np.minimum(first, second), -1)  # and the other one, where it counts
    left = sum((place[..., None, :] >= ranks[..., :, None]).sum(-1) for place in (until, before))
    left = np.maximum(left, 1)
    return tuple(np.split(left, 2, -1))  # type: ignore[return-value]


def corrected(
    direction: np.ndarray, equality: np.ndarray, factors: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """`step_down`'s corrected p-values: never below that of a smaller p, at most 1; nan stays."""
    p = np.concatenate([direction, np.nan_to_num(equality, nan=np.inf)], -1)
    order = np.argsort(p, -1, kind="stable")
    raised = np.take_along_axis(p * np.concatenate(factors, -1), order, -1)
    steps = np.minimum(np.maximum.accumulate(raised, -1), 1.0)
    found = np.take_along_axis(steps, np.argsort(order, -1, kind="stable"), -1)
    first, second = np.split(found, 2, -1)
    return first, np.where(np.isnan(equality), np.nan, second)


def z_score(p: float | np.ndarray) -> np.ndarray:
    """The z-score of a one-sided p-value, such as Student's: how a small sample enters the looks' joint law."""
    return NORMAL.isf(np.clip(p, 1e-16, 1 - 1e-16))
