"""The claims with their verdicts in the shape that the page shows.

Each is {study, claim, sentence, verdict, p, seeds, note, parts, ...}; a part is {text, unit, estimate, low, high,
margin, verdict, ...} with positive estimates going the claimed way.
"""

import math
from collections.abc import Sequence
from typing import Any

from s6lib.evidence.sequential import bounds
from s6lib.evidence.verdicts import ENOUGH_SEEDS, LEVEL
from s6lib.evidence.wanted import told

PART = {"verdict": None, "unit": "", "margin": None, "bound": 0, "relation": "above"}  # where a file lacks it
KINDS = ("supported", "supported, below the margin", "contradicted", "no difference", "undecided", "missing")


def complete(row: dict[str, Any]) -> dict[str, Any]:
    """A row with every field that the page reads, numbers that are none as None, its weakest part picked."""
    numbers = ("estimate", "low", "high")
    parts = [{**PART, **one, **{key: number(one.get(key)) for key in numbers}} for one in row["parts"]]
    seeds = int(row.get("seeds") or 0)
    if seeds < ENOUGH_SEEDS:  # too few for an interval
        parts = [{**one, "low": None, "high": None} for one in parts]
    weighed = [one for one in parts if one["estimate"] is not None]
    weakest = min(weighed, key=slack, default=None)
    verdict = row["verdict"] if row["verdict"] in KINDS else "undecided"
    agree = sum(distance(one) > 0 for one in weighed)
    extra = {
        "seeds": seeds,
        "p": number(row.get("p")),
        "wanted": told(row),
        "looks": list(row.get("looks") or []),  # seeds an arm
        "planned_looks": list(row.get("planned_looks") or []),
    }
    texts = {key: str(row.get(key) or "") for key in ("study", "claim", "sentence", "place", "reading", "note")}
    return {**texts, **extra, "verdict": verdict, "parts": parts, "weakest": weakest, "agree": agree}


def distance(one: dict[str, Any]) -> float:
    """How far a part's estimate is on the claimed side."""
    return (one["bound"] or 0) - abs(one["estimate"]) if one["relation"] == "within" else one["estimate"]


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


def number(value: Any) -> float | None:
    """A finite number, else None."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
