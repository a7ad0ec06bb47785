"""The claims with their verdicts in the shape that the page shows.

Each is {study, claim, sentence, verdict, p, seeds, note, parts, ...}; a part is {text, unit, estimate, low, high,
margin, verdict, ...} with positive estimates going the claimed way.
"""

from collections.abc import Sequence
from typing import Any

from s6lib.evidence.sequential import bounds
from s6lib.evidence.verdicts import LEVEL, in_words, plain
from s6lib.evidence.wanted import told


def complete(row: dict[str, Any]) -> dict[str, Any]:
    """A verdict's row, numbers that are none as None, its weakest part picked."""
    row = plain(row)
    weighed = [one for one in row["parts"] if one["estimate"] is not None]
    agree = sum(distance(one) > 0 for one in weighed)
    words = {"words": in_words(row)}
    return {**row, **words, "wanted": told(row), "weakest": min(weighed, key=slack, default=None), "agree": agree}


def distance(one: dict[str, Any]) -> float:
    """How far a part's estimate is on the claimed side."""
    return one["bound"] - abs(one["estimate"]) if one["relation"] == "within" else one["estimate"]


def slack(one: dict[str, Any]) -> float:
    """`distance` in widths of the part's interval: the least is the weakest part's."""
    width = 1.0 if None in (one["low"], one["high"]) else max(one["high"] - one["low"], 1e-12)
    return float(distance(one) / width)


def plans(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each sequence of looks once: seeds an arm, and the z-score that a one-sided test must exceed at each look.

    At half of LEVEL, because two directions share the error, and before the correction for several claims.
    """
    found = dict.fromkeys(tuple(row["planned_looks"]) for row in rows if row["planned_looks"])
    return [{"seeds": seeds, "bounds": bounds([n / seeds[-1] for n in seeds], LEVEL / 2).tolist()} for seeds in found]
