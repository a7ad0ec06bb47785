"""Accuracy against the number of parameters, beside published results of networks this small."""

from collections.abc import Sequence
from itertools import cycle
from math import isnan

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from s6lib.evidence import sizes
from s6lib.evidence.measures import last
from s6lib.evidence.statistics import mean_interval, shown
from s6lib.plots.style import FEW, MARKERS, PLAIN, accuracy_scale, panel, trial_style
from s6lib.records import Record
from s6lib.studies.base import BLACK, GREY, published_table


@panel(8.5, 4.6)
def accuracy_and_size(records: Sequence[Record], *, ax: Axes) -> str:
    """Last-epoch test accuracy over parameters: means over seeds with 95 % intervals; hollow, published single runs;
    grey, arms of other studies than the frontier, whose own colours would be taken for its points'."""
    seen = published_table("small_networks")
    label = "published single runs,\nmost of them best epochs"
    ax.plot(seen.parameters, seen.accuracy, "D", mfc="white", mec=GREY, ms=6, label=label)
    markers = cycle(MARKERS)
    for record in records:
        ours = record.trial.study == sizes.STUDY
        colour, marker = trial_style(record)[::2] if ours else (GREY, next(markers))
        found, size = mean_interval(last(record, "test_accuracy")), record.provenance["parameters"]
        low, high = shown(found)
        ends = None if isnan(low) else [[found.mean - low], [high - found.mean]]
        label = f"{record.trial.study}/{record.name}: mean of {found.n} seeds, {record.trial.epochs} epochs"
        label += sizes.in_views(record)
        ax.errorbar([size], [found.mean], ends, fmt=marker, color=colour, ms=6, capsize=3, label=label)
    ax.axhline(99.4, color=BLACK, lw=0.8, ls=":")
    ax.set(xscale="log", xlabel="parameters (count, log scale)")
    ax.xaxis.set(major_locator=LogLocator(10, (1, 2, 5)), major_formatter=PLAIN, minor_formatter=NullFormatter())
    accuracy_scale(ax, "test accuracy (%)")
    return f"last epoch, mean and 95 % interval ({FEW}); dotted: 99.4 %"
