"""What a reader wants first: who leads each study, by how much, how surely; then three sentences."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from s6lib.evidence import statistics
from s6lib.evidence.tables import listed
from s6lib.evidence.verdicts import ENOUGH_SEEDS, LEVEL

Facts = dict[str, Any]


def leader(arms: Sequence[Facts]) -> Facts | None:
    """The arm with the highest mean, its lead over the next, and which arms it is not shown to beat.

    It was picked by its mean, which favours it, so p is corrected for all pairs of arms and not for its own alone
    (Welch, two-sided; Holm). Without enough seeds there are no tests: `tied` is None.
    """
    ranked = sorted((arm for arm in arms if len(arm["test"])), key=lambda arm: -arm["accuracy"]["mean"])
    if not ranked:
        return None
    first, others = ranked[0], ranked[1:]
    found = [statistics.difference(a["test"], b["test"]) for a, b in combinations(ranked, 2)]  # the leader's first
    enough = all(arm["accuracy"]["n"] >= ENOUGH_SEEDS for arm in ranked)
    p = statistics.holm([one.p for one in found])[: len(others)]
    tied = [arm for arm, value in zip(others, p, strict=True) if not value < LEVEL] if enough else None
    lead = {**difference(found[0], enough), "arm": others[0]} if others else None
    return {"arm": first, "lead": lead, "tied": tied, "others": others, "word": word(tied, others)}


def word(tied: list[Facts] | None, others: list[Facts]) -> str:
    """How sure, in two words."""
    if not others:
        return "alone"
    if tied is None:
        return "too few seeds"
    return "clear" if not tied else "not clear"


def difference(found: statistics.Difference, enough: bool) -> Facts:
    """Points, and the ends of the interval where there are seeds `enough` for one."""
    return {"mean": found.mean, "low": found.low if enough else None, "high": found.high if enough else None}


def pairs(arms: Sequence[Facts]) -> dict[str, list[float | None]]:
    """Every pair by its places, "a b": a - b in points, low and high of its interval, the share of seeds won."""
    found = {}
    for i, a in enumerate(arms):
        for j, b in enumerate(arms[:i]):
            if a["checksum"] == b["checksum"] and len(a["test"]) and len(b["test"]):
                found[f"{i} {j}"] = pair(a["test"], b["test"])
    return found


def pair(a: np.ndarray, b: np.ndarray) -> list[float | None]:
    one = difference(statistics.difference(a, b), min(len(a), len(b)) >= ENOUGH_SEEDS)
    numbers = [None if value is None else round(value, 4) for value in one.values()]
    return [*numbers, round(statistics.probability_of_improvement(a, b), 3)]


def sentences(groups: Sequence[Facts], claims: Sequence[Facts], sets: Sequence[Facts]) -> list[str]:
    """Three: who leads, what became of the claims, how much chance there is and what no seed reads."""
    found = [who_leads(groups), fate(claims), chance(groups, sets)]
    return [sentence for sentence in found if sentence]


def who_leads(groups: Sequence[Facts]) -> str:
    led = [group["leader"] for group in groups if group["leader"] and group["leader"]["others"]]
    if not led:
        return ""
    clear = [one for one in led if one["word"] == "clear"]
    open_ = [group for group in groups if group["leader"] and group["leader"]["tied"]]
    parts = [
        f"{one['arm']['name']} beats {rivals(one)} by {one['lead']['mean']:.2f} points of test accuracy"
        for one in clear
    ]
    if open_:
        largest = max(group["leader"]["lead"]["mean"] for group in open_)
        names = listed([group["name"].replace(", ", "/") for group in open_])
        parts.append(f"in {names} no arm is shown to beat all others; the largest lead is {largest:.2f} points")
    text = "; ".join(parts)
    return f"{text if clear else text[:1].upper() + text[1:]}."


def rivals(led: Facts) -> str:
    return led["others"][0]["name"] if len(led["others"]) == 1 else f"all {len(led['others'])} others, the next"


def fate(claims: Sequence[Facts]) -> str:
    if not claims:
        return ""
    found = [claim["verdict"] for claim in claims]
    held = sum(verdict.startswith("supported") for verdict in found)
    words = {"contradicted": "contradicted", "no difference": "without a difference", "undecided": "undecided"}
    words["missing"] = "without records of all their arms"
    rest = [f"{found.count(verdict)} {text}" for verdict, text in words.items() if verdict in found]
    supported = f"{held} {'is' if held == 1 else 'are'} supported"
    return f"Of {len(claims)} claim{'s' * (len(claims) != 1)}, {listed([supported, *rest])}."


def chance(groups: Sequence[Facts], sets: Sequence[Facts]) -> str:
    spread = sorted(arm["accuracy"]["sd"] for group in groups for arm in group["arms"] if arm["accuracy"]["n"] > 1)
    parts = []
    if spread:
        middle = spread[len(spread) // 2]
        parts.append(f"Seeds of one arm have a standard deviation of {middle:.2f} points (median over arms)")
    parts += [unread(one) for one in sets if one["always"]]
    return ", and ".join(parts) + "." if parts else ""


def unread(one: Facts) -> str:
    verb = "is" if one["always"] == 1 else "are"
    errors = f", {one['always_errors']} of them confirmed label errors" if one["always_errors"] else ""
    total = f"{one['test_images']:,} test images of {one['title']}"
    return f"{one['always']} of {total} {verb} missed by every seed of every arm{errors}"
