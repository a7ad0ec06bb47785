"""What happens epoch by epoch: every seed thin, their mean thick, published runs of one seed dashed."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from s6lib.evidence.measures import history, published_for, weight_norms_kept, who
from s6lib.plots.style import (
    BESIDE,
    NAMES,
    PLAIN,
    accuracy_scale,
    column_scale,
    epoch_axis,
    loss_scale,
    panel,
    said_empty,
    title,
    trial_style,
)
from s6lib.records import Record
from s6lib.studies.base import BLACK, GREY


def seeds(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column of a history, a row per epoch and a column per seed."""
    return table.pivot(index="epoch", columns="seed", values=column)


def draw_seeds(ax: Axes, wide: pd.DataFrame, colour: str, line: str = "-", label: str | None = None) -> None:
    """Every seed thin, their mean thick; a dot where there is one epoch."""
    if wide.shape[1] > 1:
        ax.plot(wide.index, wide, color=colour, ls=line, lw=0.6, alpha=0.45)
    mark = "o" if len(wide) == 1 else ""
    ax.plot(wide.index, wide.mean(axis=1), color=colour, ls=line, lw=2.2, label=label, marker=mark)


def draw_published(ax: Axes, table: pd.DataFrame, values: pd.Series, colour: str, label: str) -> None:
    if len(table):
        ax.plot(table.epoch, values, color=colour, ls="--", lw=1.2, zorder=1, label=f"{label}, 1 seed")


def curves(record: Record) -> Figure:
    """Accuracy, loss and learning rate per epoch, beside the published values."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), width_ratios=(5, 5, 3))
    title(figure, [record], who(record))
    seen, table = published_for(record, "per_epoch"), history(record)
    draw_published(axes[0], seen, seen.train_accuracy_pct, GREY, "published running training")
    draw_published(axes[0], seen, seen.test_accuracy_pct, BLACK, "published test")
    draw_published(axes[1], seen, seen.test_loss, BLACK, "published test")
    smoothed = ", smoothed labels" if record.trial.label_smoothing else ""
    for ax, kind in zip(axes, ("accuracy", "loss"), strict=False):
        draw_seeds(ax, seeds(table, f"train_{kind}"), GREY, ":", f"running training{smoothed}")
        draw_seeds(ax, seeds(table, f"test_{kind}"), trial_style(record)[0], "-", "test")
    accuracy_scale(axes[0], "accuracy (%)")
    loss_scale(axes[1], "loss (nats per image)")
    rates = record.trial.learning_rates()
    axes[2].step(range(1, len(rates) + 1), rates, ".-" if len(rates) == 1 else "-", where="mid", color=BLACK)
    axes[2].set(ylabel="learning rate (mean of the epoch)", ylim=(0, 1.08 * max(rates)))
    for ax in axes:
        epoch_axis(ax, [record])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@panel(8, 4.5)
def overlay(records: Sequence[Record], column: str = "test_accuracy", *, ax: Axes) -> str:
    """One column of the history per epoch for all trials: mean over seeds, lowest to highest seed shaded."""
    for record in records:
        colour, line, marker = trial_style(record)
        if not record.non_diverged:
            ax.plot([], [], color=colour, label=f"{record.name}, {who(record)}")
            continue
        look = {"color": colour, "linestyle": line, "marker": marker, "markersize": 4.5, "err_kws": {"alpha": 0.1}}
        look |= {"errorbar": ("pi", 100), "markevery": max(record.trial.epochs // 8, 1), "label": record.name}
        sns.lineplot(history(record), x="epoch", y=column, ax=ax, **look)
    ax.legend(**BESIDE)
    column_scale(ax, column)
    epoch_axis(ax, records)
    return "mean over seeds; shaded: lowest to highest seed"


def small_multiples(records: Sequence[Record], column: str = "test_accuracy") -> Figure:
    """A panel per trial on shared axes: its seeds thin, its mean thick, the other trials' means in grey."""
    across = min(4, max(len(records), 1))
    down = -(-max(len(records), 1) // across)
    size = (2.7 * across + 0.6, 2.3 * down + 0.6)
    figure, grid = plt.subplots(down, across, figsize=size, sharex=True, sharey=True, squeeze=False)
    if said_empty(grid[0, 0], records):
        return figure
    title(figure, records, f"{NAMES[column].split(' (')[0]}, one thin line per seed; grey: the other trials")
    means = [history(record).groupby("epoch")[column].mean() for record in records]
    for ax, record in zip(grid.flat, records, strict=False):
        for mean in means:
            ax.plot(mean, color="#cccccc", lw=0.8)
        draw_seeds(ax, seeds(history(record), column), trial_style(record)[0])
        ax.set_title(f"{record.name} ({who(record)})", loc="left", fontsize=9)
    column_scale(grid[0, 0], column)
    epoch_axis(grid[0, 0], records)
    figure.supylabel(grid[0, 0].get_ylabel(), fontsize=10)
    figure.supxlabel("epoch", fontsize=10)
    for k, ax in enumerate(grid.flat):
        ax.set(xlabel="", ylabel="")
        ax.tick_params(labelbottom=k + across >= len(records))
        if k >= len(records):
            ax.remove()
    return figure


@panel(8, 3.8)
def jumps(records: Sequence[Record], *, ax: Axes) -> str:
    """Size of the step of test accuracy from each epoch to the next, points."""
    for record in records:
        colour, line, _ = trial_style(record)
        steps = seeds(history(record), "test_accuracy").diff().abs().iloc[1:].clip(0.005)
        draw_seeds(ax, steps, colour, line, record.name)
        seen = published_for(record, "per_epoch")
        draw_published(ax, seen, seen.test_accuracy_pct.diff().abs().clip(0.005), colour, f"{record.name} published")
    ax.set(yscale="log", ylim=(0.005, None))
    ax.set_ylabel("size of the step in test accuracy\n(percentage points, log scale; lowest: none)")
    ax.yaxis.set_major_formatter(PLAIN)
    epoch_axis(ax, records)
    return "steps from the epoch before; thick: mean over seeds"


@panel(8, 3.8)
def generalisation_gap(records: Sequence[Record], *, ax: Axes) -> str:
    """Running training accuracy minus test accuracy per epoch, points."""
    for record in records:
        colour, line, _ = trial_style(record)
        table = history(record)
        gaps = seeds(table.assign(gap=table.train_accuracy - table.test_accuracy), "gap")
        draw_seeds(ax, gaps, colour, line, record.name)
        seen = published_for(record, "per_epoch")
        gap = seen.train_accuracy_pct - seen.test_accuracy_pct
        draw_published(ax, seen, gap, colour, f"{record.name} published")
    ax.axhline(0, color=BLACK, lw=0.8)
    ax.set_yscale("symlog", linthresh=1)
    ax.yaxis.set_major_formatter(PLAIN)
    ax.set_ylabel("running training − test accuracy\n(percentage points, log scale beyond 1)")
    epoch_axis(ax, records)
    return "above 0, better on what it has seen"


@panel(8, 4)
def penalty_against_loss(records: Sequence[Record], *, ax: Axes) -> str:
    """lambda * sum|p| (dashed) beside the running training loss (solid), both in nats per image, means over seeds."""
    for record in records:
        colour, _, marker = trial_style(record)
        loss = history(record).groupby("epoch").train_loss.mean()
        ax.plot(loss, color=colour, marker=marker, ms=4, label=f"{record.name}: loss")
        if record.trial.l1:
            norms = weight_norms_kept(record)
            sums = norms[norms.epoch > 0].groupby("epoch").sum_abs.mean()
            penalty = record.trial.l1 * sums
            ax.plot(penalty, color=colour, ls="--", marker=marker, ms=4, mfc="white", label="its penalty")
    loss_scale(ax, "running training loss and L1 penalty (nats per image)")
    epoch_axis(ax, records)
    return "loss solid, lambda · sum|p| dashed; means over seeds"


def weight_norms(record: Record) -> Figure:
    """sum|w| and sqrt(sum w^2) over all parameters per epoch; epoch 0 is after the first batch."""
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.4))
    title(figure, [record], f"all parameters, {who(record)}; epoch 0 is after the first batch")
    table = weight_norms_kept(record)
    norms = {"sum of |w| (no unit)": table.sum_abs, "root of the sum of w² (no unit)": np.sqrt(table.sum_squares)}
    for ax, (label, values) in zip(axes, norms.items(), strict=True):
        draw_seeds(ax, seeds(table.assign(norm=values), "norm"), trial_style(record)[0])
        ax.set(ylabel=label, ylim=(0, None), xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return figure
