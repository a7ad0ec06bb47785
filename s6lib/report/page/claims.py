"""The claims with their verdicts in the shape that the page shows: from verdicts.json of a run, else from its records.

Each is {study, claim, sentence, verdict, p, seeds, note, parts, ...}; a part is {text, unit, estimate, low, high,
margin, verdict, ...} with positive estimates going the claimed way.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from s6lib.evidence import verdicts as judged
from s6lib.evidence.verdicts import ENOUGH_SEEDS
from s6lib.records import Record

VERDICTS = "verdicts.json"
KINDS = ("supported", "supported, below the margin", "contradicted", "no difference", "undecided", "missing")


def claims(found: Sequence[Record], folder: Path) -> list[dict[str, Any]]:
    """Every claim of every study. What a run's verdicts.json holds was decided by its own rule and goes first."""
    try:
        rows = json.loads((folder / VERDICTS).read_bytes())
        return [complete(row) for row in rows]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return [complete(row) for row in judged.verdicts(found)]


def complete(row: dict[str, Any]) -> dict[str, Any]:
    """A row with every field that the page reads, numbers that are none as None, its weakest part picked."""
    parts = [
        {
            "verdict": None,
            "unit": "",
            "margin": None,
            "bound": 0,
            "relation": "above",
            **one,
            **{key: number(one.get(key)) for key in ("estimate", "low", "high", "p_for")},
        }
        for one in row["parts"]
    ]
    seeds = int(row.get("seeds") or 0)
    if seeds < ENOUGH_SEEDS:  # too few for an interval
        parts = [{**one, "low": None, "high": None} for one in parts]
    weighed = [one for one in parts if one["estimate"] is not None]
    weakest = max(weighed, key=lambda one: 2.0 if one["p_for"] is None else one["p_for"], default=None)
    verdict = row["verdict"] if row["verdict"] in KINDS else "undecided"
    agree = sum(points_the_claimed_way(one) for one in weighed)
    extra = {
        "seeds": seeds,
        "p": number(row.get("p")),
        "looks": len(row.get("looks") or []),
        "planned_looks": len(row.get("planned_looks") or []),
    }
    texts = {key: str(row.get(key) or "") for key in ("study", "claim", "sentence", "place", "reading", "note")}
    return {**texts, **extra, "verdict": verdict, "parts": parts, "weakest": weakest, "agree": agree}


def points_the_claimed_way(one: dict[str, Any]) -> bool:
    return abs(one["estimate"]) < (one["bound"] or 0) if one.get("relation") == "within" else one["estimate"] > 0


def number(value: Any) -> float | None:
    """A finite number, else None."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
