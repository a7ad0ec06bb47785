"""Static drawings as SVG, in the page's own colours, so that they read without JavaScript, in print and in the dark."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from s6lib.plots.style import ACCURACY_TICKS, apart, from_scale, to_scale
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


def drawn(template: str, *values: Any) -> Markup:
    """SVG with every value escaped; a sequence of drawings is joined."""
    joined = [Markup("").join(value) if isinstance(value, list) else value for value in values]
    return Markup(template).format(*joined)


def swatch(looks: dict[str, str], size: int = 14) -> Markup:
    """A trial's marker in its colour."""
    shape = '<path d="{}" transform="translate(8 8) scale(5)" fill="{}"/>'
    body = drawn(shape, SHAPES[looks["marker"]], ink(looks["colour"]))
    frame = '<svg class="swatch" viewBox="0 0 16 16" width="{0}" height="{0}" aria-hidden="true">{1}</svg>'
    return drawn(frame, size, body)


def stroke(looks: dict[str, str]) -> Markup:
    """A trial's line as its mean curve is drawn."""
    line = '<path d="M1,8H35" stroke="{}" stroke-width="2.6" stroke-dasharray="{}"/>'
    frame = '<svg class="swatch" viewBox="0 0 36 16" width="32" height="14" aria-hidden="true">{}</svg>'
    return drawn(frame, drawn(line, ink(looks["colour"]), DASHES[looks["line"]]))


def definitions() -> Markup:
    """The markers, once for the whole page."""
    shapes = [drawn('<path id="{}" d="{}"/>', mark_id(name), d) for name, d in SHAPES.items()]
    return drawn('<svg width="0" height="0" class="hidden" aria-hidden="true"><defs>{}</defs></svg>', shapes)


def mark_id(marker: str) -> str:
    return f"mark{list(SHAPES).index(marker)}"


# --- differences: zero, the margin, an interval ----------------------------------------------------


class Effects:
    """A scale for differences of one unit: linear around 0 as far as `linear`, then logarithmic, alike each way."""

    width = 320

    def __init__(self, values: Iterable[float], linear: float = MARGIN):
        self.linear = linear
        self.end = 1.15 * max([linear * 2, *(abs(value) for value in values)])

    def x(self, value: float) -> float:
        share = math.asinh(value / self.linear) / math.asinh(self.end / self.linear)
        return round(self.width / 2 * (1 + max(-1.0, min(1.0, share))), 1)

    def ticks(self) -> list[float]:
        """0 and steps each way that keep apart, the linear part's end first."""
        kept: list[float] = []
        for step in (self.linear, *sorted(STEPS, reverse=True)):
            room = 10 + 6 * len(signed(step))
            apart = all(abs(self.x(step) - self.x(other)) > room for other in [*kept, 0.0])
            if step < self.end and apart and self.x(step) < self.width - 12:
                kept.append(step)
        return sorted([*kept, *(-step for step in kept), 0.0])


def effect_axis(scale: Effects) -> Markup:
    frame = '<svg class="effect" viewBox="0 0 {} 14">{}</svg>'
    return drawn(frame, scale.width, tick_texts(scale, 11))


def tick_texts(scale: Effects, y: int) -> list[Markup]:
    return [drawn('<text x="{}" y="{}">{}</text>', scale.x(tick), y, signed(tick)) for tick in scale.ticks()]


def effect(scale: Effects, one: dict[str, Any], kind: str, axis: bool = True) -> Markup:
    """One estimate with its interval on the scale: zero line, margin band, whisker, dot. `kind` is a CSS class."""
    parts = []
    if margin := one["margin"] or (one["bound"] if one["relation"] == "within" else None):
        left, right = scale.x(-margin), scale.x(margin)
        parts.append(drawn('<rect class="band" x="{}" y="1" width="{}" height="24"/>', left, round(right - left, 1)))
    parts.append(drawn('<path class="zero" d="M{},0V26"/>', scale.x(0)))
    label = f"estimate {one['estimate']:+.3g} {one['unit']}"
    if one["low"] is not None:
        whisker = '<path class="whisker" d="M{0},13H{1}M{0},9v8M{1},9v8"/>'
        parts.append(drawn(whisker, scale.x(one["low"]), scale.x(one["high"])))
        label += f", 95 % interval {one['low']:+.3g} to {one['high']:+.3g}"
    parts.append(drawn('<circle class="estimate" cx="{}" cy="13" r="5"/>', scale.x(one["estimate"])))
    parts += tick_texts(scale, 38) if axis else []
    frame = '<svg class="effect {}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    return drawn(frame, kind, scale.width, 40 if axis else 26, label, parts)


def signed(value: float) -> str:
    return "0" if value == 0 else f"{value:+g}".replace("-", "−")


# --- last epochs: a dot per seed, mean, interval, published ----------------------------------------


class Accuracies:
    """A scale for accuracies in percent: linear, or of the logarithm of the error where arms are far apart."""

    width = 260

    def __init__(self, values: Iterable[float | None]):
        known = [value for value in values if value is not None and math.isfinite(value)] or [99.0, 100.0]
        self.log = max(known) - min(known) > 2
        low, high = self.place(min(known)), self.place(max(known))
        room = max((high - low) * 0.06, 1e-2)
        self.low, self.high = low - room, high + room

    def place(self, value: float) -> float:
        return float(to_scale(min(max(value, 0.0), 100.0))) if self.log else value

    def x(self, value: float) -> float:
        return round((self.place(value) - self.low) / (self.high - self.low) * self.width, 1)

    def ticks(self) -> list[float]:
        if not self.log:
            step = next((s for s in STEPS if (self.high - self.low) / s <= 6), 100)
            first, last = math.ceil(self.low / step - 1e-9), math.floor(min(self.high, 100) / step + 1e-9)
            return [round(k * step, 6) for k in range(first, last + 1)]
        room = 34 * (self.high - self.low) / self.width
        return sorted(apart(ACCURACY_TICKS, room, from_scale(np.array([self.low, self.high]))))


def accuracy_axis(scale: Accuracies) -> Markup:
    tick = '<text x="{0}" y="11">{1:g}</text><path class="tick" d="M{0},14v5"/>'
    frame = '<svg class="dots" viewBox="0 0 {} 20" aria-hidden="true">{}</svg>'
    return drawn(frame, scale.width, [drawn(tick, scale.x(value), value) for value in scale.ticks()])


def dots(scale: Accuracies, arm: dict[str, Any]) -> Markup:
    """One arm's seeds as its markers, piled where they meet; below them mean and interval; published values."""
    grid = [drawn('<path class="grid" d="M{},0V44"/>', scale.x(tick)) for tick in scale.ticks()]
    label = f"{arm['name']}: " + ", ".join(f"{value:.2f}" for value in sorted(arm["test"])) + " %"
    frame = '<svg class="dots" viewBox="0 0 {} 44" role="img" aria-label="{}">{}<g fill="{}">{}</g>{}{}</svg>'
    parts = seed_marks(scale, arm), mean_marks(scale, arm["accuracy"]), published_marks(scale, arm)
    return drawn(frame, scale.width, label, grid, ink(arm["looks"]["colour"]), *parts)


def seed_marks(scale: Accuracies, arm: dict[str, Any]) -> list[Markup]:
    radius, marks = 4.0 if len(arm["test"]) <= 12 else 2.6, []
    for x, row in piled([scale.x(value) for value in arm["test"]], 2 * radius):
        away = (row // 2 + row % 2) * (-1 if row % 2 else 1) * 1.6 * radius  # rows above and below in turn
        y = round(max(4.0, min(31.0, 17 + away)), 1)
        mark = '<use href="#{}" transform="translate({} {}) scale({})"/>'
        marks.append(drawn(mark, mark_id(arm["looks"]["marker"]), x, y, radius))
    return marks


def mean_marks(scale: Accuracies, found: dict[str, Any]) -> list[Markup]:
    if not found["n"]:
        return []
    marks = [drawn('<path class="mean" d="M{},31v12"/>', scale.x(found["mean"]))]
    if found["low"] is not None:
        whisker = '<path class="whisker" d="M{0},37H{1}M{0},34v6M{1},34v6"/>'
        marks.append(drawn(whisker, scale.x(found["low"]), scale.x(min(found["high"], 100))))
    return marks


def published_marks(scale: Accuracies, arm: dict[str, Any]) -> list[Markup]:
    shapes = {"best": "M0,-5L5,0L0,5L-5,0z", "last": "M-4,-4L4,4M-4,4L4,-4"}
    mark = '<path class="published" d="{}" transform="translate({} 17)"/>'
    there = {name: value for name, value in arm["published"].items() if value is not None}
    return [drawn(mark, shapes[name], scale.x(value)) for name, value in there.items()]


def piled(places: Sequence[float], size: float) -> list[tuple[float, int]]:
    """Each place with the first row in which no earlier one is nearer than `size`."""
    ends: list[float] = []  # the last place of every row
    out = []
    for x in sorted(places):
        row = next((k for k, end in enumerate(ends) if x - end >= size), len(ends))
        ends[row : row + 1] = [x]
        out.append((x, row))
    return out


# --- small curves ----------------------------------------------------------------------------------


def spark(values: Sequence[float], looks: dict[str, str], label: str, bars: bool = False) -> Markup:
    """A curve (or bars from 0) without axes, 120 by 30."""
    if len(values) < 2:
        return Markup("")
    low, high = 0.0 if bars else min(values), max(values)
    x = [round(2 + 116 * k / (len(values) - 1), 1) for k in range(len(values))]
    y = [round(27 - 24 * (value - low) / ((high - low) or 1.0), 1) for value in values]
    joints = "".join(f"M{a},27V{b}" if bars else f"L{a},{b}" for a, b in zip(x, y, strict=True))
    line = drawn('<path d="{}" stroke-width="{}"/>', joints if bars else f"M{joints[1:]}", 3.2 if bars else 1.8)
    frame = '<svg class="spark" viewBox="0 0 120 30" width="120" height="30" role="img" aria-label="{}">{}</svg>'
    return drawn(frame, label, drawn('<g fill="none" stroke="{}">{}</g>', ink(looks["colour"]), line))
