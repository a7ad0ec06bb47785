"""How many seeds per arm would decide an undecided claim, if the means and spreads found so far were the true ones."""

import math
from collections import Counter
from collections.abc import Sequence

from scipy import stats as scipy_stats

from s6lib.evidence import verdicts
from s6lib.evidence.images import least_sd
from s6lib.evidence.verdicts import LEVEL, Records
from s6lib.records import Record
from s6lib.studies.base import Claim, Part, Study

POWER = 0.8
FEWEST = 3  # below that the normal distribution says nothing of Student's t


def verdict_rows(found: Sequence[Record]) -> list[dict]:
    """What verdicts.json holds, the page shows and the results quote: `verdicts.verdicts`, each with `seeds_wanted`.

    None where it is decided, or where it cannot be said.
    """
    rows = verdicts.verdicts(found)
    claims = list(verdicts.claims())
    size: Counter[str] = Counter()
    for row, (_, claim) in zip(rows, claims, strict=True):
        size[row["family"]] += 1 + verdicts.is_twofold(claim)  # it counts twice in the family's correction
    for row, (study, claim) in zip(rows, claims, strict=True):
        known = verdicts.of_claim(claim, found, study.name)
        undecided = row["verdict"] == "undecided"
        row["seeds_wanted"] = seeds_wanted(study, claim, known, size[row["family"]]) if undecided else None
    return rows


def told(row: dict) -> str:
    """The seeds wanted in words: "about 36", "about 3; the next look is at 10"; nothing where none can be said."""
    if row.get("seeds_wanted") is None:
        return ""
    later = [look for look in row["planned_looks"] if look > row["seeds"]]
    more = f"; the next look is at {later[0]}" if later and row["seeds_wanted"] < later[0] else ""
    return f"about {_two_digits(row['seeds_wanted']):,}{more}"


def _two_digits(count: int) -> int:
    """An extrapolation has no more of them that mean something."""
    return int(float(f"{count:.2g}"))


def seeds_wanted(study: Study, claim: Claim, records: Records, family: int) -> int | None:
    """Seeds n at which one look decides the claim with 80 % power, tested at LEVEL / `family`, the number of claims in
    its family, some counted twice; None without two seeds.

    n = V ((z_level + z_power) / d)^2 for a contrast with variance V / n at a distance d from what it must exclude.
    """
    if any(arm not in records or len(records[arm].non_diverged) < 2 for arm in claim.arms):
        return None
    parts = [_part(part, study, records, family, len(claim.parts)) for part in claim.parts]
    ways = max(p[0] for p in parts), min(p[1] for p in parts), max(p[2] for p in parts)
    return max(FEWEST, math.ceil(min(ways))) if math.isfinite(min(ways)) else None


def _part(part: Part, study: Study, records: Records, family: int, parts: int) -> tuple[float, float, float]:
    """Seeds that show the part, that show it goes the other way, and that show a difference within its margin."""
    mean, variance = contrast(part, study, records)

    def seeds(distance: float, level: float) -> float:
        z = scipy_stats.norm.isf(level / family) + scipy_stats.norm.isf(1 - POWER)
        return variance * (z / distance) ** 2 if distance > 0 else math.inf

    way, against = LEVEL / 2, LEVEL / 2 / parts  # two directions share the level; any part contradicts
    if part.relation == "within":
        inside = part.bound - abs(mean)
        return seeds(inside, way), seeds(-inside, against / 2), math.inf  # beyond it on either side
    equal = math.inf if part.margin is None else seeds(part.margin - abs(mean), LEVEL)
    return seeds(mean, way), seeds(-mean, against), equal


def contrast(part: Part, study: Study, records: Records) -> tuple[float, float]:
    """The part's estimate, positive as claimed, and n times its variance; of test accuracy the larger spread counts."""
    found = verdicts.contrast(part, records, study)
    if verdicts.is_paired(part, study):
        seeds = [set(verdicts.measured(records[arm], part.measure).dropna().index) for arm in part.weights]
        return found.mean, found.se**2 * len(set.intersection(*seeds))
    values = {arm: verdicts.measured(records[arm], part.measure) for arm in part.weights}
    sds = {arm: max(x.std(), least_sd(records[arm], part.measure)) for arm, x in values.items()}
    return found.mean, sum((w * sds[arm]) ** 2 for arm, w in part.weights.items())
