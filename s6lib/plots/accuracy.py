"""The last epoch's accuracy: a dot per seed, means with intervals; beside published values, settings and time."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from s6lib.evidence.measures import last, published_for, who
from s6lib.evidence.statistics import ENOUGH_SEEDS, mean_interval
from s6lib.plots.style import FEW, NAMES, PLAIN, accuracy_scale, panel, said_empty, trial_style
from s6lib.records import Record
from s6lib.studies.base import BLACK, BLUE, GREY


def interval(values: np.ndarray) -> tuple[float, float]:
    """Ends of the mean's 95 % interval, kept within 0 to 100 %; the mean twice where there are too few seeds."""
    found = mean_interval(values)
    if found.n < ENOUGH_SEEDS:
        return found.mean, found.mean
    return max(found.low, 0.0), min(found.high, 100.0)


@panel(8, 1.4, per_record=0.42)
def dots(records: Sequence[Record], *, ax: Axes) -> str:
    """Last-epoch test accuracy: a dot per seed, the mean with its 95 % interval, the published best and last."""
    rows = [(k, value) for k, record in enumerate(records) for value in last(record, "test_accuracy")]
    table = pd.DataFrame(rows, columns=["trial", "accuracy"])
    colours = [trial_style(record)[0] for record in records]
    present = sorted(set(table.trial))
    look = {"x": "accuracy", "y": "trial", "orient": "h", "native_scale": True, "ax": ax}
    if rows:
        palette = [colours[k] for k in present]
        sns.swarmplot(table, hue="trial", palette=palette, legend=False, size=5.5, alpha=0.8, warn_thresh=1, **look)
        marks = {"linestyle": "none", "marker": "|", "markersize": 9, "color": BLACK, "linewidth": 1.3}
        below = table.assign(trial=table.trial + 0.3)
        sns.pointplot(below, errorbar=interval, capsize=0.15, **marks, **look)
    for row, record in enumerate(records):
        for seen in published_for(record).itertuples():
            ax.plot(seen.best, row, "D", mfc="white", mec=BLACK, ms=6.5, zorder=6)
            ax.plot(seen.last, row, "x", color=BLACK, ms=7, mew=1.8, zorder=7)
    _explain(ax, records)
    ax.set_yticks(range(len(records)), [f"{record.name}\n{who(record)}" for record in records], fontsize=8)
    ax.set(ylim=(len(records) - 0.5, -0.5), ylabel="")
    ax.grid(axis="y", visible=False)
    if np.ptp(table.accuracy) > 2 if rows else False:  # one arm far below must not squeeze the others
        accuracy_scale(ax, NAMES["test_accuracy"], "x")
    else:
        ax.set(xlabel=NAMES["test_accuracy"], xlim=(None, min(ax.get_xlim()[1], 100.05)))
    return "test accuracy after the last epoch"


def _explain(ax: Axes, records: Sequence[Record]) -> None:
    """The legend's entries, which belong to no trial."""
    ax.plot([], [], "o", color=GREY, label="one seed, last epoch")
    ax.plot([], [], "|", ms=13, color=BLACK, label=f"mean; 95 % interval\n({FEW})")
    if any(len(published_for(record)) for record in records):
        ax.plot([], [], "D", mfc="white", mec=BLACK, ls="none", label="published best epoch (1 seed)")
        ax.plot([], [], "x", color=BLACK, mew=1.8, ls="none", label="published last epoch (1 seed)")


@panel(7, 4)
def by_setting(records: Sequence[Record], values: Sequence[float | str], label: str, *, ax: Axes) -> str:
    """Last-epoch running training and test accuracy against a setting: a dot per seed, means with 95 % intervals."""
    kinds = {"train_accuracy": "running training", "test_accuracy": "test"}
    rows = [
        (k, name, value)
        for k, record in enumerate(records)
        for column, name in kinds.items()
        for value in last(record, column)
    ]
    table = pd.DataFrame(rows, columns=["setting", "accuracy of", "accuracy"])
    look = {"data": table, "x": "setting", "y": "accuracy", "hue": "accuracy of", "dodge": True, "ax": ax}
    look |= {"order": range(len(records)), "hue_order": list(kinds.values()), "palette": [GREY, BLUE]}
    if rows:
        sns.swarmplot(size=3.5, alpha=0.5, legend=False, warn_thresh=1, **look)
        marks = {"dodge": 0.4, "linewidth": 1, "markersize": 5, "markers": ["s", "o"], "capsize": 0.08}
        sns.pointplot(errorbar=interval, **(look | marks))
        accuracy_scale(ax, "accuracy (%)")
    ax.set_xticks(range(len(records)), [value if isinstance(value, str) else f"{value:g}" for value in values])
    ax.set(xlabel=label, ylabel=ax.get_ylabel() or "accuracy (%)")
    if ax.get_legend():
        sns.move_legend(ax, "best", title=None)
    return f"last epoch: every seed, mean, 95 % interval ({FEW})"


def time_and_accuracy(records: Sequence[Record]) -> Figure:
    """Training time per seed (left, evaluations included) beside `dots` (right), a row per trial."""
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 1.5 + 0.5 * max(len(records), 1)), sharey=True)
    if said_empty(axes[0], records):
        return figure
    _times(list(records), ax=axes[0])
    dots(records, ax=axes[1])
    return figure


@panel(6, 1.5, per_record=0.5)
def _times(records: Sequence[Record], *, ax: Axes) -> str:
    seconds = [record.seconds_per_seed for record in records]
    for row, (record, value) in enumerate(zip(records, seconds, strict=True)):
        colour, _, marker = trial_style(record)
        ax.plot(value, row, marker, color=colour, ms=9)
        ax.annotate(f"{value:.3g} s", (value, row), (8, 0), textcoords="offset points", va="center")
    ax.set(xscale="log", xlim=(min(seconds) / 2, max(seconds) * 4), xlabel="time per seed (s, log scale)")
    ax.xaxis.set(major_locator=LogLocator(10, (1, 2, 5)), minor_locator=NullLocator(), major_formatter=PLAIN)
    ax.grid(axis="y", visible=False)
    return "training and evaluation"
