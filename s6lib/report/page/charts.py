"""The curves: one Vega-Lite chart for every comparison and measure, drawn ahead and again in the browser.

The browser fills `rows` with seeds, means and published values; `shown` names the arms that are switched on, `near` the
curve under the pointer. Colours of the page itself stand in it as var(--name), which the page's script looks up.
"""

import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import vl_convert
from markupsafe import Markup

from s6lib.plots.style import ACCURACY_TICKS, FLOOR, NAMES, to_scale
from s6lib.report.page.marks import DASHES, ink

Facts = dict[str, Any]
SOFT, GRID = "var(--soft)", "var(--line)"
AXIS: Facts = {"labelColor": SOFT, "titleColor": SOFT, "titleFontWeight": "normal", "titleFontSize": 12}
AXIS |= {"labelFontSize": 12, "gridColor": GRID, "domainColor": GRID, "tickColor": GRID}
AXIS |= {"labelOverlap": "greedy", "titlePadding": 8}


@functools.cache
def libraries() -> str:
    """Vega and its embedding as JavaScript."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def specification(measure: str) -> Facts:
    """Vega-Lite for curves of one measure: thin seeds, thick means, dashed published values."""
    accuracy = measure.endswith("accuracy")
    ticks = sorted(float(to_scale(tick)) for tick in ACCURACY_TICKS)
    label = f"format({100 + FLOOR} - pow(10, -datum.value), '.4~r')"
    y: Facts = {"field": "y", "type": "quantitative", "scale": {"nice": False, "zero": False}}
    if accuracy:
        y |= {"title": [NAMES[measure], "log scale of the error"], "axis": {"values": ticks, "labelExpr": label}}
    else:
        y |= {"title": [NAMES[measure], "log scale"], "scale": {**y["scale"], "type": "log"}}
        y["axis"] = {"tickCount": 6, "labelExpr": "format(datum.value, '.2~r')"}
    x = {"field": "epoch", "type": "quantitative", "title": "epoch", "scale": {"nice": False, "zero": False}}
    x["axis"] = {"tickMinStep": 1, "grid": False}
    both = {"x": x, "y": y, "color": {"field": "colour", "type": "nominal", "scale": None}, "detail": {"field": "key"}}

    def lines(kind: str, **mark: Any) -> Facts:
        dash = {"strokeDash": {"field": "dash", "type": "nominal", "scale": None}} if kind == "mean" else {}
        chosen = [{"filter": f"datum.kind == '{kind}' && (shown == null || indexof(shown, datum.arm) >= 0)"}]
        return {"transform": chosen, "mark": {"type": "line", "clip": True, **mark}, "encoding": {**both, **dash}}

    under = {"transform": [{"filter": "datum.key == near"}], "encoding": both}
    under["mark"] = {"type": "line", "strokeWidth": 2.2, "point": {"size": 26, "filled": True}}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": 860,
        "height": 360,
        "autosize": {"type": "fit", "contains": "padding"},
        "background": None,
        "data": {"name": "rows", "values": []},
        "params": [{"name": "shown", "value": None}, {"name": "near", "value": ""}],
        "layer": [
            lines("seed", strokeWidth=0.8, opacity=0.3),
            lines("mean", strokeWidth=2.6),
            lines("published", strokeWidth=1.5, strokeDash=[2, 3], point={"size": 14, "filled": True}),
            under,
        ],
        "config": {"font": "system-ui, sans-serif", "view": {"stroke": None}, "axis": AXIS},
    }


@functools.cache
def compiled(measure: str) -> Facts:
    """The same as Vega, which the browser runs."""
    found: Facts = vl_convert.vegalite_to_vega(specification(measure))
    found.pop("$schema", None)
    return found


def static(arms: Sequence[Facts]) -> Markup:
    """The means and published values of some arms as SVG, for readers without JavaScript and for print."""
    rows = [row for arm in arms for row in mean_rows(arm)]
    if not rows:
        return Markup("")
    spec = specification("test_accuracy") | {"data": {"name": "rows", "values": rows}}
    svg = str(vl_convert.vegalite_to_svg(spec))
    svg = re.sub(r"<svg ([^>]*)>", lambda found: f"<svg {without_size(found[1])}>", svg, count=1)
    return Markup(svg)  # made from numbers and the colours of arms; arms' names go into no text of it


def without_size(attributes: str) -> str:
    kept = re.sub(r'\s(width|height|xmlns:xlink|xmlns|version|class)="[^"]*"', "", " " + attributes)
    return f'class="static" role="img" aria-label="mean curves, also in the table below"{kept}'


def mean_rows(arm: Facts) -> list[Facts]:
    """Rows of the chart for an arm's mean test accuracy and its published one."""
    look = {"arm": 0, "colour": ink(arm["looks"]["colour"]), "dash": dash(arm["looks"]["line"])}
    seeds, published = arm["curves"]["test_accuracy"], arm["published_curves"].get("test_accuracy", [])
    mean = np.nanmean(seeds, 0) if seeds.size else []
    rows = [("mean", f"{arm['id']} mean", epoch, value) for epoch, value in enumerate(mean, 1)]
    rows += [("published", f"{arm['id']} published", *pair) for pair in published]
    return [{**look, "kind": kind, "key": key, "epoch": e, "y": float(to_scale(v))} for kind, key, e, v in rows]


def dash(line: str) -> list[int]:
    return [int(number) for number in DASHES[line].split()]
