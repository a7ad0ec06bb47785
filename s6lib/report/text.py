"""Numbers and tables as Markdown has them."""

from collections.abc import Iterable

from s6lib.evidence.statistics import Interval
from s6lib.evidence.verdicts import ENOUGH_SEEDS


def fixed(value: float, digits: str = "2") -> str:
    """So many digits after the point, with a real minus."""
    return f"{value:.{digits}f}".replace("-", "−")


def span(low: float, high: float, digits: str = "2") -> str:
    return f"{fixed(low, digits)} to {fixed(high, digits)}"


def ends(found: Interval, digits: str = "2") -> str:
    """An interval's in percent, 100 at most; below ENOUGH_SEEDS seeds none."""
    return span(found.low, min(found.high, 100), digits) if found.n >= ENOUGH_SEEDS else "not shown"


def percent(share: float, digits: str = "0") -> str:
    return f"{100 * share:.{digits}f} %"


def table(head: list[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
