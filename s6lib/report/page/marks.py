"""Static drawings as SVG, in the page's own colours, so that they read without JavaScript, in print and in the dark."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from s6lib.plots.style import ACCURACY_TICKS, from_scale, to_scale
from s6lib.studies.base import BLACK, MARGIN

# Markers of figures as paths of radius 1 around 0.
SHAPES = {
    "o": "M-1,0a1,1 0 1,0 2,0a1,1 0 1,0 -2,0z",
    "s": "M-.9,-.9h1.8v1.8h-1.8z",
    "^": "M0,-1.1L1,.8H-1z",
    "v": "M0,1.1L1,-.8H-1z",
    "D": "M0,-1.2L1.2,0L0,1.2L-1.2,0z",
    "P": "M-.4,-1.1h.8v.7h.7v.8h-.7v.7h-.8v-.7h-.7v-.8h.7z",
    "<": "M-1.1,0L.8,-1V1z",
    ">": "M1.1,0L-.8,-1V1z",
}
DASHES = {"-": "", "--": "6 4", "-.": "8 3 2 3", ":": "2 3"}
STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def ink(colour: str) -> str:
    """A trial's colour; black is the page's own ink, which is pale in the dark."""
    return "var(--ink)" if colour == BLACK else colour


def swatch(looks: dict[str, str], size: int = 14) -> Markup:
    """A trial's marker in its colour."""
    body = Markup('<path d="{}" transform="translate(8 8) scale(5)" fill="{}"/>').format(
        SHAPES[looks["marker"]], ink(looks["colour"])
    )
    return Markup(
        '<svg class="swatch" viewBox="0 0 16 16" width="{0}" height="{0}" aria-hidden="true">{1}</svg>'
    ).format(size, body)


# --- differences: zero, the margin, an interval ----------------------------------------------------


class Effects:
    """A scale for differences of one unit: linear around 0 as far as the margin, then logarithmic, the same each way."""

    def __init__(self, values: Iterable[float], width: int = 320, linear: float = MARGIN):
        self.width, self.linear = width, linear
        self.end = 1.15 * max([linear * 2, *(abs(value) for value in values)])

    def x(self, value: float) -> float:
        share = math.asinh(value / self.linear) / math.asinh(self.end / self.linear)
        return round(self.width / 2 * (1 + max(-1.0, min(1.0, share))), 1)

    def ticks(self) -> list[float]:
        """0 and steps each way that keep 34 pixels apart, the margin first."""
        kept: list[float] = []
        for step in (self.linear, *sorted(STEPS, reverse=True)):
            near = [*kept, 0.0]
            if (
                step < self.end
                and all(abs(self.x(step) - self.x(other)) > 34 for other in near)
                and self.x(step) < self.width - 12
            ):
                kept.append(step)
        return sorted([*kept, *(-step for step in kept), 0.0])


def effect(scale: Effects, one: dict[str, Any], kind: str, axis: bool = True) -> Markup:
    """One estimate with its interval on the scale: zero line, margin band, whisker, dot. `kind` is a CSS class."""
    height, middle = (40, 13) if axis else (26, 13)
    parts = []
    margin = one.get("margin") or (one.get("bound") if one.get("relation") == "within" else None)
    if margin:
        left, right = scale.x(-margin), scale.x(margin)
        parts.append(
            Markup('<rect class="band" x="{}" y="1" width="{}" height="24"/>').format(left, round(right - left, 1))
        )
    parts.append(Markup('<path class="zero" d="M{0},0V26"/>').format(scale.x(0)))
    if one["low"] is not None:
        parts.append(
            Markup('<path class="whisker" d="M{0},{1}H{2}M{0},{3}v8M{2},{3}v8"/>').format(
                scale.x(one["low"]), middle, scale.x(one["high"]), middle - 4
            )
        )
    parts.append(Markup('<circle class="estimate" cx="{}" cy="{}" r="5"/>').format(scale.x(one["estimate"]), middle))
    for tick in scale.ticks() if axis else []:
        parts.append(Markup('<text x="{}" y="38">{}</text>').format(scale.x(tick), signed(tick)))
    label = f"estimate {one['estimate']:+.3g}" + (
        "" if one["low"] is None else f", 95 % interval {one['low']:+.3g} to {one['high']:+.3g}"
    )
    return Markup('<svg class="effect {}" viewBox="0 0 {} {}" role="img" aria-label="{} {}">{}</svg>').format(
        kind, scale.width, height, label, one.get("unit", ""), Markup("").join(parts)
    )


def signed(value: float) -> str:
    return "0" if value == 0 else f"{value:+g}".replace("-", "−")


# --- last epochs: a dot per seed, mean, interval, published ----------------------------------------


class Accuracies:
    """A scale for accuracies in percent: linear, or of the logarithm of the error where arms are far apart."""

    def __init__(self, values: Iterable[float], width: int = 340):
        known = [value for value in values if value is not None and math.isfinite(value)] or [99.0, 100.0]
        self.width, self.log = width, max(known) - min(known) > 2
        ends = self._z(np.array([min(known), max(known)]))
        room = max(float(np.ptp(ends)) * 0.06, 1e-2)
        self.low, self.high = ends[0] - room, ends[1] + room

    def _z(self, value: Any) -> Any:
        return to_scale(np.clip(value, 0, 100)) if self.log else value

    def x(self, value: float) -> float:
        return round(float((self._z(value) - self.low) / (self.high - self.low)) * self.width, 1)

    def ticks(self) -> list[float]:
        if not self.log:
            step = next((s for s in STEPS if (self.high - self.low) / s <= 6), 100)
            first = math.ceil(self.low / step - 1e-9)
            return [round(k * step, 6) for k in range(first, math.floor(min(self.high, 100) / step + 1e-9) + 1)]
        low, high = from_scale(np.array([self.low, self.high]))
        kept: list[float] = []
        for tick in ACCURACY_TICKS:
            if low <= tick <= high and all(abs(self.x(tick) - self.x(other)) > 34 for other in kept):
                kept.append(tick)
        return sorted(kept)


def accuracy_axis(scale: Accuracies) -> Markup:
    texts = [
        Markup('<text x="{0}" y="11">{1:g}</text><path class="tick" d="M{0},14v5"/>').format(scale.x(t), t)
        for t in scale.ticks()
    ]
    return Markup('<svg class="dots axis" viewBox="0 0 {} 20" aria-hidden="true">{}</svg>').format(
        scale.width, Markup("").join(texts)
    )


def dots(scale: Accuracies, arm: dict[str, Any]) -> Markup:
    """One arm's seeds as dots, piled where they meet; below them mean and interval; crosses: published."""
    colour, shape, parts = ink(arm["looks"]["colour"]), SHAPES[arm["looks"]["marker"]], []
    for tick in scale.ticks():
        parts.append(Markup('<path class="grid" d="M{},0V44"/>').format(scale.x(tick)))
    radius = 3.4 if len(arm["test"]) <= 12 else 2.4
    for x, row in piled([scale.x(value) for value in arm["test"]], 2 * radius):
        y = round(18 + (row // 2 + row % 2) * (-1 if row % 2 else 1) * 1.6 * radius, 1)
        parts.append(
            Markup('<use href="#{}" transform="translate({} {}) scale({})"/>').format(
                mark_id(arm["looks"]["marker"]), x, max(4.0, min(32.0, y)), radius
            )
        )
    found = arm["accuracy"]
    if found["n"]:
        middle = scale.x(found["mean"])
        if found["low"] is not None:
            parts.append(
                Markup('<path class="whisker" d="M{0},37H{1}M{0},34v6M{1},34v6"/>').format(
                    scale.x(found["low"]), scale.x(min(found["high"], 100))
                )
            )
        parts.append(Markup('<path class="mean" d="M{},31v12"/>').format(middle))
    for name, mark in (("best", "M0,-5L5,0L0,5L-5,0z"), ("last", "M-4,-4L4,4M-4,4L4,-4")):
        if (value := arm["published"][name]) is not None and scale.low <= scale._z(value) <= scale.high:
            parts.append(
                Markup('<path class="published" d="{}" transform="translate({} 18)"/>').format(mark, scale.x(value))
            )
    label = f"{arm['name']}: " + ", ".join(f"{value:.2f}" for value in sorted(arm["test"])) + " %"
    return (
        Markup(
            '<svg class="dots" viewBox="0 0 {} 44" role="img" aria-label="{}"><g fill="{}" fill-opacity=".75">{}</g></svg>'
        ).format(scale.width, label, colour, Markup("").join(parts))
        if shape
        else Markup("")
    )


def mark_id(marker: str) -> str:
    return f"mark{list(SHAPES).index(marker)}"


def definitions() -> Markup:
    """The markers, once for the whole page."""
    shapes = [Markup('<path id="{}" d="{}"/>').format(mark_id(name), d) for name, d in SHAPES.items()]
    return Markup('<svg width="0" height="0" class="hidden" aria-hidden="true"><defs>{}</defs></svg>').format(
        Markup("").join(shapes)
    )


def piled(places: Sequence[float], size: float) -> list[tuple[float, int]]:
    """Each place with the first row in which no earlier one is nearer than `size`."""
    rows: list[list[float]] = []
    out = []
    for x in sorted(places):
        row = next((k for k, taken in enumerate(rows) if x - taken[-1] >= size), len(rows))
        rows.extend([[]] * 0 if row < len(rows) else [[]])
        rows[row].append(x)
        out.append((x, row))
    return out


# --- small curves ----------------------------------------------------------------------------------


def spark(values: Sequence[float], looks: dict[str, str], label: str, bars: bool = False) -> Markup:
    """A curve (or bars) without axes, 120 by 30."""
    if len(values) < 2:
        return Markup("")
    low, high = (0.0, max(values)) if bars else (min(values), max(values))
    span = (high - low) or 1.0
    x, y = (
        [round(2 + 116 * k / (len(values) - 1), 1) for k in range(len(values))],
        [round(27 - 24 * (v - low) / span, 1) for v in values],
    )
    colour = ink(looks["colour"])
    if bars:
        d = "".join(f"M{a},27V{b}" for a, b in zip(x, y, strict=True))
        line = Markup('<path d="{}" stroke="{}" stroke-width="3.2" fill="none"/>').format(d, colour)
    else:
        line = Markup('<polyline points="{}" stroke="{}" stroke-width="1.8" fill="none"/>').format(
            " ".join(f"{a},{b}" for a, b in zip(x, y, strict=True)), colour
        )
    return Markup(
        '<svg class="spark" viewBox="0 0 120 30" width="120" height="30" role="img" aria-label="{}">{}</svg>'
    ).format(label, line)
