"""Accuracy, loss and size of the weights per epoch, and the last epoch's accuracy."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from s6lib.evidence import measures, statistics
from s6lib.plots.shared import (
    NAMES,
    accuracy_scale,
    data_title,
    epoch_axis,
    kept_weight_norms,
    legend_beside,
    loss_scale,
    published_line,
    seed_mean_lines,
    some,
    title,
    trial_style,
)
from s6lib.records import Record
from s6lib.studies.base import BLACK, GREY


def curves(record: Record) -> Figure:
    """Accuracy, loss and learning rate per epoch: every seed thin, their mean thick, published numbers dashed."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), width_ratios=(5, 5, 3))
    title(figure, [record], measures.who(record))
    seen = measures.published_for(record, "per_epoch")
    published_line(axes[0], seen, "train_accuracy_pct", GREY, "published training, 1 seed")
    published_line(axes[0], seen, "test_accuracy_pct", BLACK, "published test, 1 seed")
    published_line(axes[1], seen, "test_loss", BLACK, "published test, 1 seed")
    smoothed = ", smoothed labels" if record.trial.label_smoothing else ""
    for ax, kind in zip(axes, ("accuracy", "loss"), strict=False):
        _seed_lines(ax, record, f"train_{kind}", GREY, ":", f"training, while learning{smoothed}")
        _seed_lines(ax, record, f"test_{kind}", trial_style(record)[0], "-", "test")
    accuracy_scale(axes[0], "accuracy (%)")
    loss_scale(axes[1], "loss (nats per image)")
    rates = record.trial.learning_rates()
    axes[2].step(range(1, len(rates) + 1), rates, where="mid", color=BLACK)
    axes[2].set(ylabel=NAMES["learning_rate"], ylim=(0, 1.08 * max(rates)))
    for ax in axes:
        epoch_axis(ax, record.trial.epochs)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def overlay(records: Sequence[Record], column: str = "test_accuracy", ax: Axes | None = None) -> Axes:
    """One column of the history per epoch for all trials: mean over seeds, lowest to highest seed shaded."""
    ax = ax or plt.subplots(figsize=(8, 4.5))[1]
    if not some(ax, records):
        return ax
    for record in records:
        colour, line, marker = trial_style(record)
        table = measures.history(record).groupby("epoch")[column]
        mean, low, high = table.mean(), table.min(), table.max()
        ax.fill_between(mean.index, low, high, color=colour, alpha=0.10, linewidth=0)
        marks = max(len(mean) // 8, 1)
        ax.plot(mean, color=colour, ls=line, marker=marker, ms=4.5, markevery=marks, label=f"{record.name}")
    _scale(ax, column)
    epoch_axis(ax, max(record.trial.epochs for record in records))
    ax.set_title(f"{data_title(records)}\nmean over seeds; shaded: lowest to highest seed", loc="left")
    legend_beside(ax)
    return ax


def small_multiples(records: Sequence[Record], column: str = "test_accuracy") -> Figure:
    """A panel per trial on shared axes: its seeds thin, its mean thick, the other trials' means in grey."""
    across = min(4, max(len(records), 1))
    down = -(-max(len(records), 1) // across)
    size = (2.7 * across + 0.6, 2.3 * down + 0.6)
    figure, grid = plt.subplots(down, across, figsize=size, sharex=True, sharey=True, squeeze=False)
    if not some(grid[0, 0], records):
        return figure
    title(figure, records, f"{NAMES[column].split(' (')[0]}, one thin line per seed; grey: the other trials")
    for ax, record in zip(grid.flat, records, strict=False):
        for other in records:
            ax.plot(measures.history(other).groupby("epoch")[column].mean(), color="#cccccc", lw=0.8)
        _seed_lines(ax, record, column, trial_style(record)[0], "-", None)
        ax.set_title(f"{record.name} ({measures.who(record)})", loc="left", fontsize=9)
    _scale(grid[0, 0], column)
    epoch_axis(grid[0, 0], max(record.trial.epochs for record in records))
    _outer_labels(figure, grid, len(records), "epoch", grid[0, 0].get_ylabel())
    return figure


def dots(records: Sequence[Record], ax: Axes | None = None) -> Axes:
    """Last-epoch test accuracy: a dot per seed, the mean with its 95 % interval, the published best and last."""
    ax = ax or plt.subplots(figsize=(8, 1.4 + 0.42 * max(len(records), 1)))[1]
    if not some(ax, records):
        return ax
    for row, record in enumerate(records):
        values, colour = measures.last(record, "test_accuracy"), trial_style(record)[0]
        ax.scatter(values, row + _spread(len(values)), s=20, color=colour, alpha=0.65, linewidths=0)
        found = statistics.mean_interval(values)
        half = found.high - found.mean  # nan with one seed: then only the mean is drawn
        bar = None if np.isnan(half) else half
        ax.errorbar(found.mean, row, xerr=bar, fmt="|", ms=13, color="black", lw=1.3, capsize=3, mew=1.6, zorder=3)
        for seen in measures.published_for(record).itertuples():
            ax.plot(seen.best, row, "D", mfc="white", mec="black", ms=6.5, zorder=4)
            ax.plot(seen.last, row, "x", color="black", ms=7, mew=1.8, zorder=5)
    ax.plot([], [], "o", color=GREY, label="one seed, last epoch")
    ax.errorbar([], [], xerr=[], fmt="|", ms=13, color="black", capsize=3, label="mean, 95 % interval")
    if any(len(measures.published_for(record)) for record in records):
        ax.plot([], [], "D", mfc="white", mec="black", label="published best epoch (1 seed)")
        ax.plot([], [], "x", color="black", mew=1.8, label="published last epoch (1 seed)")
    legend_beside(ax)
    ax.set_yticks(range(len(records)), [f"{record.name}\n{measures.who(record)}" for record in records], fontsize=8)
    ax.set(ylim=(len(records) - 0.5, -0.5), xlabel=NAMES["test_accuracy"])
    ax.grid(axis="y", visible=False)
    ax.set_title(f"{data_title(records)}\ntest accuracy after the last epoch", loc="left")
    return ax


def time_and_accuracy(records: Sequence[Record]) -> Figure:
    """Training time per seed (left, evaluations included) beside `dots` (right), a row per trial."""
    figure, axes = plt.subplots(1, 2, figsize=(11.5, 1.5 + 0.5 * max(len(records), 1)), sharey=True)
    if not some(axes[0], records):
        return figure
    seconds = [record.seconds_per_seed for record in records]
    for row, (record, value) in enumerate(zip(records, seconds, strict=True)):
        colour, _, marker = trial_style(record)
        axes[0].plot(value, row, marker, color=colour, ms=9)
        axes[0].annotate(f"{value:.3g} s", (value, row), (8, 0), textcoords="offset points", va="center")
    axes[0].set(xscale="log", xlim=(min(seconds) / 2, max(seconds) * 4), xlabel="time per seed (s, log scale)")
    axes[0].xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    axes[0].xaxis.set_minor_locator(NullLocator())
    axes[0].xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[0].grid(axis="y", visible=False)
    axes[0].set_title(f"{data_title(records)}\ntraining and evaluation", loc="left")
    dots(records, axes[1])
    axes[1].set_title("\ntest accuracy after the last epoch", loc="left")
    return figure


def weight_norms(record: Record) -> Figure:
    """sum|w| and sqrt(sum w^2) over all parameters per epoch; epoch 0 is after the first batch."""
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.4))
    title(figure, [record], f"all parameters, {measures.who(record)}; epoch 0 is after the first batch")
    table = kept_weight_norms(record)
    pairs = (
        ("sum_abs", 1.0, "sum of |w| (no unit)"),
        ("sum_squares", 0.5, "root of the sum of w² (no unit)"),
    )
    for ax, (column, power, label) in zip(axes, pairs, strict=True):
        wide = table.pivot(index="epoch", columns="seed", values=column) ** power
        seed_mean_lines(ax, wide, trial_style(record)[0], "-", None)
        ax.set(ylabel=label, ylim=(0, None), xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return figure


def _scale(ax: Axes, column: str) -> None:
    if column.endswith("accuracy"):
        accuracy_scale(ax, NAMES[column])
    elif column.endswith("loss"):
        loss_scale(ax, NAMES[column])
    else:
        ax.set_ylabel(NAMES[column])


def _seed_lines(ax: Axes, record: Record, column: str, colour: str, line: str, label: str | None) -> None:
    seed_mean_lines(
        ax, measures.history(record).pivot(index="epoch", columns="seed", values=column), colour, line, label
    )


def _outer_labels(figure: Figure, grid: np.ndarray, used: int, x: str, y: str) -> None:
    """Labels on the outer panels of a shared grid only; panels that hold nothing are removed."""
    across = grid.shape[1]
    for k, ax in enumerate(grid.flat):
        if k >= used:
            ax.remove()
            continue
        ax.set_xlabel(x if k + across >= used else "")
        ax.set_ylabel("")
        ax.tick_params(labelbottom=k + across >= used)
    figure.supylabel(y, fontsize=10)


def _spread(count: int) -> np.ndarray:
    """Small vertical steps that keep dots apart."""
    return np.linspace(-0.22, 0.22, count) if count > 1 else np.zeros(count)
