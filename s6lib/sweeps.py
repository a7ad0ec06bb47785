"""Figures for a list of records that differ in one setting. As in `plots`: records and an Axes in, the Axes out;
those of several panels return the Figure."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from s6lib import plots, stats
from s6lib.records import Record


def by_setting(sweep: Sequence[Record], values: Sequence[float], label: str) -> Figure:
    """Last-epoch test and training accuracy against a setting: a dot per seed, the mean and its 95 % interval.

    The settings stand at equal distances, in the order given.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.9))
    plots.title(figure, sweep, f"last epoch, {stats.who(sweep[0])}")
    for ax, column in zip(axes, ("test_accuracy", "train_accuracy"), strict=True):
        for place, record in enumerate(sweep):
            _dots_upright(ax, place, stats.last(record, column), plots.look(record.name)[0])
        ax.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        ax.set(xlabel=label, ylabel=plots.NAMES[column], xlim=(-0.5, len(values) - 0.5))
        ax.grid(axis="x", visible=False)
    return figure


def _dots_upright(ax: Axes, place: float, values: np.ndarray, colour: str) -> None:
    ax.scatter(place + plots.spread(len(values)) * 0.6, values, s=22, color=colour, alpha=0.7, linewidths=0)
    found = stats.mean_interval(values)
    half = found.high - found.mean  # nan with one seed: then only the mean is drawn
    bar = None if np.isnan(half) else half
    ax.errorbar(place, found.mean, yerr=bar, fmt="_", ms=15, color="black", lw=1.3, capsize=3, mew=1.6, zorder=3)


def jumps(sweep: Sequence[Record], ax: Axes | None = None) -> Axes:
    """How far test accuracy moves from each epoch to the next, after the third: a dot per seed and epoch, and the mean.

    The size of the move, |a_e - a_(e-1)|, in points; the published series' mean is drawn where there is one.
    """
    ax = ax or plt.subplots(figsize=(8, 1.5 + 0.5 * len(sweep)))[1]
    for row, record in enumerate(sweep):
        moves = np.abs(np.diff(stats.by_epoch(record, "test_accuracy"), axis=1))[:, 3:].ravel()
        colour = plots.look(record.name)[0]
        ax.scatter(moves, row + plots.spread(len(moves)), s=9, color=colour, alpha=0.5, linewidths=0)
        ax.plot(moves.mean() if len(moves) else np.nan, row, "|", ms=16, color="black", mew=1.8, zorder=3)
        seen = plots.published_for(record, "per_epoch").test_accuracy_pct.diff().abs().iloc[4:]
        ax.plot(seen.mean(), row, "D", mfc="white", mec="black", ms=6.5, zorder=4)
    ax.plot([], [], "|", color="black", ms=12, mew=1.8, label="mean")
    if any(len(plots.published_for(record, "per_epoch")) for record in sweep):
        ax.plot([], [], "D", mfc="white", mec="black", label="published mean (1 seed)")
    ax.legend(loc="best")
    ax.set_yticks(range(len(sweep)), [record.name for record in sweep])
    ax.set(ylim=(len(sweep) - 0.5, -0.5), xlim=(0, None), xlabel="move of test accuracy between epochs (points)")
    ax.set_title(f"{plots.data_title(sweep)}: fluctuation after epoch 4", loc="left")
    ax.grid(axis="y", visible=False)
    return ax


def penalty_against_loss(sweep: Sequence[Record]) -> Figure:
    """lambda * sum|p| and the data term of the training loss, and sum|p| itself, per epoch, mean over seeds."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    plots.title(figure, sweep, f"mean over {stats.who(sweep[0])}; epoch 0 is after the first batch")
    for record in sweep:
        colour, line, _ = plots.look(record.name)
        sums = record.weight_norms.groupby("epoch").sum_abs.mean()
        right.plot(sums, color=colour, ls=line, label=record.name)
        left.plot(stats.history(record).groupby("epoch").train_loss.mean(), color=colour, lw=1)
        if record.trial.l1:
            left.plot(record.trial.l1 * sums, color=colour, ls="--", lw=2)
    left.plot([], [], color="black", lw=1, label="data term")
    left.plot([], [], color="black", ls="--", lw=2, label="penalty lambda * sum|p|")
    left.set(yscale="log", xlabel="epoch", ylabel="training loss (nats per image)")
    right.set(xlabel="epoch", ylabel="sum of |p| over all parameters (no unit)", ylim=(0, None))
    left.legend(loc="best")
    right.legend(loc="best", fontsize=8)
    return figure


def zeros_by_layer(sweep: Sequence[Record], near: float = 1e-3) -> Figure:
    """Per layer, the share of convolution weights that are exactly zero and that are below `near`; mean over seeds."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    plots.title(figure, sweep, f"convolution weights, mean over {stats.who(sweep[0])}")
    for record in sweep:
        table = plots.sparsity(record, near).groupby("layer", sort=False).mean(numeric_only=True)
        colour, line, marker = plots.look(record.name)
        for ax, column in zip(axes, ("zero", "near_zero"), strict=True):
            share = 100 * table[column] / table.weights
            ax.plot(range(1, len(share) + 1), share, color=colour, ls=line, marker=marker, label=record.name)
    axes[0].set_ylabel("share of the layer's weights (%)")
    axes[0].set_title("exactly zero", loc="left")
    axes[1].set_title(f"|w| < {near:g}", loc="left")
    for ax in axes:
        ax.set(xlabel="convolution (number)", xticks=range(1, len(share) + 1), ylim=(-2, 102))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def fit_gap(sweep: Sequence[Record], ax: Axes | None = None) -> Axes:
    """Training minus test accuracy per epoch: every seed thin, the mean thick, published dashed."""
    ax = ax or plt.subplots(figsize=(8, 4.2))[1]
    for record in sweep:
        colour, line, _ = plots.look(record.name)
        table = stats.history(record)
        gap = (table.train_accuracy - table.test_accuracy).groupby([table.epoch, table.seed]).mean().unstack()
        ax.plot(gap, color=colour, ls=line, lw=0.7, alpha=0.5)
        ax.plot(gap.mean(axis=1), color=colour, ls=line, lw=2.2, label=record.name)
        seen = plots.published_for(record, "per_epoch")
        published = pd.Series((seen.train_accuracy_pct - seen.test_accuracy_pct).values, seen.epoch)
        ax.plot(published, color=colour, ls=(0, (2, 2)), lw=1.2, marker="x", ms=4)
    if any(len(plots.published_for(record, "per_epoch")) for record in sweep):
        ax.plot([], [], color="black", ls=(0, (2, 2)), lw=1.2, marker="x", ms=4, label="published, 1 seed")
    ax.axhline(0, color="black", lw=0.8)
    ax.set_yscale("symlog", linthresh=2)  # a first epoch at chance would flatten everything else
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="epoch", ylabel="training minus test accuracy (points)")
    ax.set_title(f"{plots.data_title(sweep)}: the gap per epoch", loc="left")
    ax.legend(loc="best")
    return ax
