"""How often the procedure errs and what it saves: `python benchmarks/null_studies.py [studies, default 10000]`.

Simulated studies with the real families of claims, looks and numbers of seeds, weighed by the code that weighs records
(s6lib.evidence.forecast). Values are normal; an arm's measures are correlated within a seed, and arms that are compared
seed by seed share most of their luck. Writes results/bench/null_studies.json; a few minutes of one core.
"""

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from s6lib import paths
from s6lib.evidence import forecast, statistics
from s6lib.studies import STUDIES
from s6lib.studies.base import Claim, Part, Plan, Study, more

SD, FIXED = 0.05, 30
POSITIVE = ("supported", "supported, below the margin")
Means = dict[tuple[str, str], float]  # (arm, measure) -> the true mean


def main(studies: int) -> None:
    source = np.random.default_rng(0)
    families = [family_error(study, claims, studies, source) for study, claims in families_of(STUDIES.values())]
    found = {
        "studies": studies,
        "families": families,
        "power": [power(difference, studies // 5, source) for difference in (0.0, 0.05, 0.1)],
        "coverage": [coverage(seeds, ratio, 20 * studies, source) for seeds in (5, 10, 30) for ratio in (1.0, 2.0)],
    }
    path = paths.home() / "results" / "bench" / "null_studies.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def families_of(studies: Sequence[Study]) -> Iterator[tuple[Study, list[Claim]]]:
    for study, own in itertools.product(studies, (False, True)):
        if claims := [claim for claim in study.claims if claim.own == own]:
            yield study, claims


# --- false verdicts --------------------------------------------------------------------------------


def family_error(study: Study, claims: list[Claim], studies: int, source: np.random.Generator) -> dict:
    """The share of studies with some false verdict at some look: without differences, and with some of each size."""
    row = {
        "study": study.name,
        "own": claims[0].own,
        "claims": len(claims),
        "looks": sorted({n for claim in claims for n in study.looks(claim)}),
        "no_difference": errors(study, claims, true_means(claims, [0.0], source), studies, source),
    }
    mixed = [
        errors(study, claims, true_means(claims, [0.0, 1.0, 2.0], source), studies // 10, source) for _ in range(20)
    ]
    return row | {"mixed": float(np.mean(mixed)), "worst_mixed": max(mixed)}


def errors(study: Study, claims: list[Claim], means: Means, studies: int, source: np.random.Generator) -> float:
    """The share of studies in which some verdict, at some look, is not borne out by the true means."""
    seeds = sorted({n for claim in claims for n in study.looks(claim)})
    values, wrong = simulated(study, claims, means, studies, seeds[-1], source), np.zeros(studies, bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        for n in seeds:
            verdict = forecast.settle(study, claims, values, n).verdict
            wrong |= np.any([is_false(claim, verdict[:, k], means) for k, claim in enumerate(claims)], axis=0)
    return float(wrong.mean())


def is_false(claim: Claim, verdict: np.ndarray, means: Means) -> np.ndarray:
    """Which verdicts the true means do not bear out."""
    pairs, close = [(part, truth(part, means)) for part in claim.parts], 1e-9
    holds = all(abs(t) < part.bound - close if part.relation == "within" else t > close for part, t in pairs)
    opposite = any(abs(t) > part.bound + close if part.relation == "within" else t < -close for part, t in pairs)
    equal = all(abs(t) < (part.margin or part.bound) - close for part, t in pairs)
    right = {"supported": holds, "contradicted": opposite, "no difference": equal}
    right |= {"supported, below the margin": holds and equal, "undecided": True}
    return np.isin(verdict, [word for word, true in right.items() if not true])


def truth(part: Part, means: Means) -> float:
    """The part's contrast, from its bound, positive as claimed."""
    value = sum(w * means[key] for w, key in zip(part.weights.values(), keys(part), strict=True))
    sign = -1.0 if part.relation == "below" else 1.0
    return value if part.relation == "within" else sign * (value - part.bound)


def keys(part: Part) -> list[tuple[str, str]]:
    return [(arm, part.measure) for arm in part.weights]


def scale(claims: Sequence[Claim], arm: str, measure: str) -> tuple[float, float]:
    """The number that a measure of an arm is held against (0: none; one for all arms where arms are compared), and the
    difference that counts as none (1: none named)."""
    parts = [part for claim in claims for part in claim.parts if part.measure == measure]
    compared = any(len(part.weights) > 1 for part in parts)
    bars = [part for part in parts if len(part.weights) == 1 and part.relation != "within"]
    fixed = [part.bound for part in bars if compared or arm in part.weights]
    margins = [part.margin or part.bound * (part.relation == "within" or len(part.weights) > 1) for part in parts]
    return max(fixed, default=0.0), max(margins) or 1.0


def true_means(claims: Sequence[Claim], sizes: Sequence[float], source: np.random.Generator) -> Means:
    """Every arm's mean in every measure: so many margins, one of `sizes`, from what it is held against."""
    names = dict.fromkeys(key for claim in claims for part in claim.parts for key in keys(part))
    found = {}
    for arm, measure in names:
        centre, margin = scale(claims, arm, measure)
        found[arm, measure] = centre + margin * source.choice(sizes)
    return found


def simulated(
    study: Study, claims: Sequence[Claim], means: Means, studies: int, seeds: int, source: np.random.Generator
) -> forecast.Values:
    """Values of every arm and measure, [studies, seeds]; their sd is the margin."""
    shared = source.standard_normal((studies, seeds))
    own = {arm: source.standard_normal((studies, seeds)) for arm in sorted({arm for arm, _ in means})}
    made = {}
    for (arm, measure), mean in means.items():
        noise = (own[arm] + source.standard_normal((studies, seeds))) / 2**0.5
        if study.arms[arm].family in study.plan.paired:
            noise = 0.8**0.5 * shared + 0.2**0.5 * noise
        made[arm, measure] = mean + scale(claims, arm, measure)[1] * noise
    return lambda arm, measure: made[arm, measure]


# --- what it saves ---------------------------------------------------------------------------------


def power(difference: float, studies: int, source: np.random.Generator, claims: int = 8) -> dict:
    """Eight claims on two arms each, all with one true difference in points: share decided, seeds an arm on average."""
    family = [Claim(str(k), "", (more(f"a{k}", f"b{k}"),)) for k in range(claims)]
    study = replace(STUDIES["regularisers"], claims=tuple(family), plan=Plan((10, 20, 30)))
    fixed = replace(study, plan=Plan((FIXED,)))
    made = {
        f"{side}{k}": SD * source.standard_normal((studies, 30)) + difference * (side == "a")
        for side in "ab"
        for k in range(claims)
    }
    verdicts = [forecast.settle(study, family, lambda arm, _: made[arm], n).verdict for n in study.plan.looks]
    decided = np.stack([one != "undecided" for one in verdicts])  # [looks, studies, claims]
    seeds = np.array(study.plan.looks)[np.where(decided.any(0), decided.argmax(0), len(study.plan.looks) - 1)]
    once = forecast.settle(fixed, family, lambda arm, _: made[arm], FIXED).verdict
    return {
        "difference": difference,
        "decided": float(decided[-1].mean()),
        "supported": float(np.isin(verdicts[-1], POSITIVE).mean()),
        "seeds": float(seeds.mean()),
        "fixed_seeds": FIXED,
        "fixed_decided": float((once != "undecided").mean()),
    }


def coverage(seeds: int, ratio: float, studies: int, source: np.random.Generator) -> dict:
    """How often Welch's 95 % interval for a difference holds it, the sds of the two arms in a `ratio`."""
    arms = [source.standard_normal((studies, seeds)), ratio * source.standard_normal((studies, seeds))]
    found = statistics.contrast(arms, [1, -1])
    return {"seeds": seeds, "ratio": ratio, "covered": float(((found.low <= 0) & (found.high >= 0)).mean())}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
