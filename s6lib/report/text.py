"""Numbers and tables as Markdown has them."""

from collections.abc import Iterable
from math import isnan

from s6lib.evidence.statistics import Difference, Interval, shown


def fixed(value: float, digits: str = "2") -> str:
    """So many digits after the point, with a real minus."""
    return f"{value:.{digits}f}".replace("-", "−")


def span(low: float, high: float, digits: str = "2") -> str:
    """A range, or an interval, which is nan where there are too few seeds for one."""
    return "not shown" if isnan(low) else f"{fixed(low, digits)} to {fixed(high, digits)}"


def ends(found: Interval | Difference, digits: str = "2") -> str:
    """An interval's in percent or points, 100 at most, where there are seeds enough for one."""
    low, high = shown(found)
    return span(low, min(high, 100), digits)


def percent(share: float, digits: str = "0") -> str:
    return f"{100 * share:.{digits}f} %"


def table(head: list[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
