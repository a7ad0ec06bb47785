"""Records that differ in one setting, against that setting."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from s6lib.evidence import measures, statistics
from s6lib.plots.shared import (
    accuracy_scale,
    convolutions,
    data_title,
    epoch_axis,
    kept_weight_norms,
    legend_beside,
    loss_scale,
    percent,
    published_line,
    seed_mean_lines,
    some,
    title,
    trial_style,
)
from s6lib.records import Record
from s6lib.studies.base import BLACK, BLUE, GREY


def by_setting(records: Sequence[Record], values: Sequence[float], label: str, ax: Axes | None = None) -> Axes:
    """Last-epoch training and test accuracy against a setting: a dot per seed, the mean with its 95 % interval."""
    ax = ax or plt.subplots(figsize=(7, 4))[1]
    if not some(ax, records):
        return ax
    for shift, column, colour, marker in ((-0.06, "train_accuracy", GREY, "s"), (0.06, "test_accuracy", BLUE, "o")):
        x = np.arange(len(records)) + shift
        found = [statistics.mean_interval(measures.last(record, column)) for record in records]
        for place, record in zip(x, records, strict=True):
            seeds = measures.last(record, column)
            ax.scatter(np.full(len(seeds), place), seeds, s=14, color=colour, alpha=0.5, linewidths=0)
        half = np.nan_to_num([one.high - one.mean for one in found])  # one seed: no interval
        mean = [one.mean for one in found]
        name = "test" if column.startswith("test") else "training, while learning"
        ax.errorbar(x, mean, half, fmt=f"-{marker}", color=colour, ms=5, lw=1, capsize=3, label=name)
    accuracy_scale(ax, "accuracy (%)")
    ax.set_xticks(range(len(records)), [f"{value:g}" for value in values])
    ax.set_xlabel(label)
    ax.set_title(f"{data_title(records)}\nlast epoch: every seed, mean, 95 % interval", loc="left")
    ax.legend(loc="best")
    return ax


def jumps(records: Sequence[Record], ax: Axes | None = None) -> Axes:
    """Step of test accuracy from each epoch to the next, points: every seed thin, the mean size of the steps thick."""
    ax = ax or plt.subplots(figsize=(8, 3.8))[1]
    if not some(ax, records):
        return ax
    for record in records:
        colour, line, marker = trial_style(record)
        steps = np.abs(np.diff(measures.by_epoch(record, "test_accuracy")))  # [R, epochs - 1]
        epochs = np.arange(2, steps.shape[1] + 2)
        ax.plot(epochs, np.maximum(steps, 0.005).T, color=colour, ls=line, lw=0.5, alpha=0.35)
        if len(steps):
            ax.plot(epochs, steps.mean(0), color=colour, ls=line, marker=marker, ms=4, lw=2, label=record.name)
        seen = measures.published_for(record, "per_epoch")
        seen = seen.assign(step=seen.test_accuracy_pct.diff().abs().clip(0.005))
        published_line(ax, seen, "step", colour, f"{record.name} published, 1 seed")
    ax.set(yscale="log", ylim=(0.005, None))
    ax.set_ylabel("size of the step in test accuracy\n(percentage points, log scale; lowest: none)")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    epoch_axis(ax, max(record.trial.epochs for record in records))
    ax.set_title(f"{data_title(records)}\nsteps from the epoch before; thick: mean over seeds", loc="left")
    legend_beside(ax)
    return ax


def generalisation_gap(records: Sequence[Record], ax: Axes | None = None) -> Axes:
    """Training minus test accuracy per epoch, points: every seed thin, the mean thick."""
    ax = ax or plt.subplots(figsize=(8, 3.8))[1]
    if not some(ax, records):
        return ax
    for record in records:
        colour, line, _ = trial_style(record)
        table = measures.history(record).assign(gap=lambda rows: rows.train_accuracy - rows.test_accuracy)
        seed_mean_lines(ax, table.pivot(index="epoch", columns="seed", values="gap"), colour, line, record.name)
        seen = measures.published_for(record, "per_epoch")
        gap = seen.train_accuracy_pct - seen.test_accuracy_pct
        published_line(ax, seen.assign(gap=gap), "gap", colour, f"{record.name} published, 1 seed")
    ax.axhline(0, color=BLACK, lw=0.8)
    ax.set_yscale("symlog", linthresh=1)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_ylabel("training − test accuracy\n(percentage points, log scale beyond 1)")
    epoch_axis(ax, max(record.trial.epochs for record in records))
    ax.set_title(f"{data_title(records)}\nabove 0, better on what it has seen", loc="left")
    legend_beside(ax)
    return ax


def penalty_against_loss(records: Sequence[Record], ax: Axes | None = None) -> Axes:
    """lambda * sum|p| (dashed) beside the training loss (solid), both in nats per image, means over seeds."""
    ax = ax or plt.subplots(figsize=(8, 4))[1]
    if not some(ax, records):
        return ax
    for record in records:
        colour, _, marker = trial_style(record)
        loss = measures.history(record).groupby("epoch").train_loss.mean()
        ax.plot(loss, color=colour, marker=marker, ms=4, label=f"{record.name}: loss")
        if record.trial.l1:
            norms = kept_weight_norms(record)
            sums = norms[norms.epoch > 0].groupby("epoch").sum_abs.mean()
            ax.plot(
                record.trial.l1 * sums, color=colour, ls="--", marker=marker, ms=4, mfc="white", label="its penalty"
            )
    loss_scale(ax, "training loss and L1 penalty (nats per image)")
    epoch_axis(ax, max(record.trial.epochs for record in records))
    ax.set_title(f"{data_title(records)}\nloss solid, lambda · sum|p| dashed; means over seeds", loc="left")
    legend_beside(ax)
    return ax


def zeros_by_layer(records: Sequence[Record], near: float = 1e-3) -> Figure:
    """Share of every convolution's weights that is exactly 0 (left) or below `near` (right), a line per trial."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharex=True, sharey=True)
    if not some(axes[0], records):
        return figure
    title(figure, records, "convolution weights, mean over seeds")
    for record in records:
        colour, line, marker = trial_style(record)
        layers = [np.abs(w) for w in convolutions(record).values()]
        for ax, limit in zip(axes, (0, near), strict=True):
            share = [percent((w == 0) if limit == 0 else (w < limit)) for w in layers]
            ax.plot(range(1, len(share) + 1), share, color=colour, ls=line, marker=marker, ms=5, label=record.name)
    axes[0].set(xlabel="convolution (number)", ylabel="exactly 0 (% of the layer's weights)", ylim=(-3, 103))
    axes[1].set(xlabel="convolution (number)", ylabel=f"|w| < {near:g} (% of the layer's weights)")
    axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_beside(axes[1])
    return figure
