"""What a reader wants first: who leads each study, by how much, how surely; then three sentences."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from s6lib.evidence import statistics
from s6lib.evidence.statistics import ENOUGH_SEEDS
from s6lib.evidence.tables import listed
from s6lib.evidence.verdicts import LEVEL, UNTESTED
from s6lib.records import counted
from s6lib.report.page.facts import Facts, ends

ONE_LINE = 40  # characters of a label that stands beside an arm's name in a sentence


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
    lead = {"mean": found[0].mean, **ends(found[0]), "arm": others[0]} if others else None
    return {"arm": first, "lead": lead, "tied": tied, "others": others, "word": word(tied, others)}


def word(tied: list[Facts] | None, others: list[Facts]) -> str:
    """How sure, in two words."""
    if not others:
        return "alone"
    if tied is None:
        return "too few seeds"
    return "clear" if not tied else "not clear"


def pairs(arms: Sequence[Facts]) -> dict[str, list[float | None]]:
    """Every pair by its places, "a b": a - b in points, low and high of its interval, the share of seeds won."""
    found = {}
    for i, a in enumerate(arms):
        for j, b in enumerate(arms[:i]):
            if a["checksum"] == b["checksum"] and len(a["test"]) and len(b["test"]):
                found[f"{i} {j}"] = pair(a["test"], b["test"])
    return found


def pair(a: np.ndarray, b: np.ndarray) -> list[float | None]:
    found = statistics.difference(a, b)
    numbers = [None if value is None else round(value, 4) for value in (found.mean, *ends(found).values())]
    return [*numbers, round(statistics.probability_of_improvement(a, b), 3)]


def sentences(groups: Sequence[Facts], claims: Sequence[Facts], sets: Sequence[Facts]) -> list[str]:
    """Three: who leads, what became of the claims, how much chance there is and what no seed reads."""
    found = [who_leads(groups), fate(claims), chance(groups, sets)]
    return [sentence for sentence in found if sentence]


def who_leads(groups: Sequence[Facts]) -> str:
    """A sentence per comparison with a clear leader, in their order; one for those without, where the first is."""
    open_ = [group for group in groups if group["leader"] and group["leader"]["tied"]]
    parts = []
    for group in groups:
        if group["leader"] and group["leader"]["word"] == "clear":
            parts.append(f"In {short(group)}, {beats(group['leader'])} of test accuracy.")
        elif open_ and group is open_[0]:
            largest = max(one["leader"]["lead"]["mean"] for one in open_)
            nobody = f"In {listed(map(short, open_))} no arm is shown to beat all others"
            parts.append(f"{nobody}; the largest lead is {largest:.2f} points of test accuracy.")
    return " ".join(parts)


def short(group: Facts) -> str:
    return str(group["name"]).replace(", ", "/")


def beats(led: Facts) -> str:
    others, rival = len(led["others"]), named(led["lead"]["arm"])
    all_ = "both" if others == 2 else f"all {others}"
    whom = rival if others == 1 else f"{all_} others, the next, {rival},"
    return f"{named(led['arm'])} beats {whom} by {led['lead']['mean']:.2f} points"


def named(arm: Facts) -> str:
    """An arm's name, and what it is where that fits in one line."""
    return f"{arm['name']} ({arm['label']})" if len(arm["label"]) <= ONE_LINE else str(arm["name"])


def fate(claims: Sequence[Facts]) -> str:
    if not claims:
        return ""
    found = [claim["words"] for claim in claims]
    held = sum(verdict.startswith("supported") for verdict in found)
    words = {"contradicted": "contradicted", "no difference": "without a difference", "undecided": "undecided"}
    words[UNTESTED] = UNTESTED
    words["missing"] = "without records of all their arms"
    rest = [f"{found.count(verdict)} {text}" for verdict, text in words.items() if verdict in found]
    supported = f"{held} {'is' if held == 1 else 'are'} supported"
    return f"Of {counted(len(claims), 'claim')}, {listed([supported, *rest])}."


def chance(groups: Sequence[Facts], sets: Sequence[Facts]) -> str:
    spread = [arm["accuracy"]["sd"] for group in groups for arm in group["arms"] if arm["accuracy"]["n"] > 1]
    parts = []
    if spread:
        parts.append(f"Seeds of one arm have a standard deviation of {np.median(spread):.2f} points (median over arms)")
    parts += [unread(one) for one in sets if one["always"]]
    return ", and ".join(parts) + "." if parts else ""


def unread(one: Facts) -> str:
    always, errors = one["always"], one["always_errors"]
    error = "a confirmed label error" if errors == 1 else "confirmed label errors"
    some = f"{errors} of them " if always > 1 else ""
    which = f", {some}{error}" if errors else ""
    total = f"{one['test_images']:,} test images of {one['title']}"
    return f"{always} of {total} {'is' if always == 1 else 'are'} missed by every seed of every arm{which}"


def which_fail(confusions: np.ndarray) -> str:
    """The three digits of which the largest share is missed and the three commonest confusions, in words.

    `confusions`, images per network by label and answer [10, 10], as `evidence.images.confusions` gives them.
    """
    wrong = confusions * (1 - np.eye(10))
    if not wrong.any():
        return ""
    rates = 100 * wrong.sum(1) / np.maximum(confusions.sum(1), 1)
    digits = [f"{i} ({rates[i]:.1f})" for i in np.argsort(-rates, kind="stable")[:3] if rates[i]]
    pairs = [divmod(int(place), 10) for place in np.argsort(-wrong, axis=None, kind="stable")[:3]]
    taken = [f"{i} taken for {j} ({wrong[i, j]:.1f})" for i, j in pairs if wrong[i, j]]
    missed = f"Digits missed most, in percent of their images: {listed(digits)}"
    return f"{missed}; commonest confusions, in images per network: {listed(taken)}. Means over all arms and seeds."
