"""Accuracy against the number of parameters on MNIST: our means among published single runs, as SVG."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from s6lib.evidence import sizes
from s6lib.plots.style import ACCURACY_TICKS, apart, from_scale, to_scale
from s6lib.report.page.marks import drawn, ink, mark_id
from s6lib.studies.base import published_table

Facts = dict[str, Any]
WIDTH, HEIGHT, LEFT, BOTTOM = 860, 380, 44, 40
COUNTS = tuple(step * 10**k for k in range(2, 7) for step in (1, 2, 5))


class Plane:
    """Logarithms of parameters across, of the error upwards."""

    def __init__(self, points: Sequence[tuple[float, float]]):
        across = [math.log10(count) for count, _ in points]
        up = [float(to_scale(accuracy)) for _, accuracy in points]
        self.x0, self.x1 = min(across) - 0.08, max(across) + 0.08
        self.y0, self.y1 = min(up) - 0.06, max(up) + 0.06

    def x(self, count: float) -> float:
        return round(LEFT + (math.log10(count) - self.x0) / (self.x1 - self.x0) * (WIDTH - LEFT - 8), 1)

    def y(self, accuracy: float) -> float:
        share = (float(to_scale(accuracy)) - self.y0) / (self.y1 - self.y0)
        return round((1 - share) * (HEIGHT - BOTTOM), 1)

    def axes(self) -> list[Markup]:
        room = 22 * (self.y1 - self.y0) / (HEIGHT - BOTTOM)
        up = apart(ACCURACY_TICKS, room, from_scale(np.array([self.y0, self.y1])))
        rows = '<path class="grid" d="M{0},{1}H{2}"/><text class="end" x="{3}" y="{1}" dy=".35em">{4:g}</text>'
        columns = '<path class="grid" d="M{0},0V{1}"/><text x="{0}" y="{2}">{3:,}</text>'
        across = [count for count in COUNTS if self.x0 < math.log10(count) < self.x1]
        return [drawn(rows, LEFT, self.y(tick), WIDTH - 8, LEFT - 6, tick) for tick in up] + [
            drawn(columns, self.x(count), HEIGHT - BOTTOM, HEIGHT - BOTTOM + 16, count) for count in across
        ]


def drawing(arms: Sequence[Facts]) -> Markup:
    """The chart, with what each point is in its tooltip; nothing where no point of study `frontier` is there."""
    shown = [arm for arm in arms if sizes.is_small(arm["record"]) and arm["accuracy"]["n"]]
    if not any(arm["record"].trial.study == sizes.STUDY for arm in shown):
        return Markup("")
    seen = list(published_table("small_networks").itertuples())
    ours = [(arm["parameters"], value) for arm in shown for value in ends(arm["accuracy"])]
    plane = Plane([*ours, *((one.parameters, one.accuracy) for one in seen)])
    label = '<text x="{}" y="{}">parameters, logarithmic</text>'
    parts = [*plane.axes(), drawn(label, WIDTH / 2, HEIGHT - 4)]
    parts += [published(plane, one) for one in seen] + [point(plane, arm) for arm in shown]
    frame = '<svg class="sizes" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    return drawn(frame, WIDTH, HEIGHT, "test accuracy against parameters; the numbers are in the leaderboard", parts)


def ends(found: Facts) -> list[float]:
    """A mean and the ends of its interval, as far as there is one."""
    return [value for value in (found["mean"], found["low"], found["high"]) if value is not None]


def published(plane: Plane, one: Any) -> Markup:
    mark = '<g class="published"><path d="M0,-6L6,0L0,6L-6,0z" transform="translate({} {})"/><title>{}</title></g>'
    told = f"{one.source}: {one.accuracy:g} %, {one.what}, {one.parameters:,} parameters"
    return drawn(mark, plane.x(one.parameters), plane.y(one.accuracy), told)


def point(plane: Plane, arm: Facts) -> Markup:
    """An arm's mean with its interval, and its name beside the lower end, where those of one size do not meet."""
    found, looks, x = arm["accuracy"], arm["looks"], plane.x(arm["parameters"])
    low, high = (plane.y(value) for value in (ends(found)[1:] or [found["mean"]] * 2))
    whisker = drawn('<path class="whisker" d="M{0},{1}V{2}M{3},{1}h10M{3},{2}h10"/>', x, low, high, x - 5)
    mark = '<use href="#{}" stroke="none" transform="translate({} {}) scale(5)"/>'
    mark = drawn(mark, mark_id(looks["marker"]), x, plane.y(found["mean"]))
    name = drawn('<text class="end" x="{}" y="{}" dy=".35em">{}</text>', x - 12, low, arm["record"].name)
    told = f"{arm['id']}: mean of {found['n']} seeds, last of {arm['epochs']} epochs, {found['mean']:.2f} %"
    told += sizes.in_views(arm["record"])
    group = '<a href="#{0}" fill="{1}" stroke="{1}">{2}<title>{3}</title></a>'
    return drawn(group, arm["id"], ink(looks["colour"]), [whisker, mark, name], told)
