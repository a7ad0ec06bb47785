"""Inside trained networks: weights, norm statistics, batch noise, confidence."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from scipy import special

from s6lib.evidence import images as per_image
from s6lib.evidence import measures
from s6lib.plots.shared import (
    MARKERS,
    convolutions,
    data_title,
    layer_weights,
    percent,
    title,
    trial_style,
)
from s6lib.records import Record
from s6lib.studies.base import BLACK, BLUE, COLOURS, GREY, RED, SKY


def batch_noise(table: pd.DataFrame, record: Record, ax: Axes | None = None) -> Axes:
    """How far a batch's channel means stray, by batch size: `table` of `probes.batch_noise`, a dot per channel.

    The line is 1 / sqrt(n), put through the median at the smallest size; a cross-hair marks the images this trial
    normalises together.
    """
    ax = ax or plt.subplots(figsize=(7, 3.8))[1]
    colour = trial_style(record)[0]
    ax.plot(table.images, table.noise, "o", color=colour, ms=4, alpha=0.6, label="one channel")
    middle = table.groupby("images").noise.median()
    sizes = np.array([middle.index.min(), middle.index.max()])
    ax.plot(sizes, middle.iloc[0] * (sizes[0] / sizes) ** 0.5, color=BLACK, lw=1.2, label="falls as 1/√n")
    together = record.trial.batch_size // (record.trial.ghost_splits if record.trial.normaliser == "ghost" else 1)
    ax.axvline(together, color=GREY, ls="--", label=f"this trial: {together} images")
    ax.set(xscale="log", yscale="log", xlabel="images normalised together (count)")
    ax.set_ylabel("sd of the batch's channel mean\n(of the channel's own sd)")
    ax.set_xticks(sorted(set(table.images)), [str(size) for size in sorted(set(table.images))])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
    ax.set_title(f"{data_title([record])}\n{record.name}, first normaliser, seed {record.seeds[0]}", loc="left")
    ax.legend(loc="best")
    return ax


def confidence(record: Record, ax: Axes | None = None) -> Axes:
    """How sure the seeds are of right and of wrong answers, and their mean expected calibration error."""
    ax = ax or plt.subplots(figsize=(6.5, 4))[1]
    logits = record.logits[record.non_diverged].astype(np.float32)
    sure = 100 * special.softmax(logits, -1).max(-1)  # [R, n]
    right = measures.correct(record)
    bins = np.linspace(0, 100, 41)
    for kind, chosen, colour, hatch in (("right", right, BLUE, ""), ("wrong", ~right, RED, "///")):
        label = f"{kind} answers ({chosen.sum():,})"
        ax.hist(sure[chosen], bins, color=colour, hatch=hatch, edgecolor="white", alpha=0.75, label=label)
    error = per_image.expected_calibration_error(logits, record.labels).mean() if len(logits) else float("nan")
    ax.set(yscale="log" if right.size else "linear", xlabel="confidence: probability of the predicted class (%)")
    ax.set_ylabel(f"answers (count, {measures.who(record)}, log scale)")
    ax.set_title(f"{data_title([record])}\n{record.name}, calibration error {error:.2f} %", loc="left")
    ax.legend(loc="upper left")
    return ax


def weight_histogram(record: Record, near: float = 1e-3) -> Figure:
    """Sizes of the convolution weights, and per layer the share that is exactly 0 or smaller than `near`."""
    layers = convolutions(record)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    title(figure, [record], f"convolution weights, {measures.who(record)}")
    sizes = np.abs(np.concatenate([w.ravel() for w in layers.values()]))
    bins = np.logspace(-7, 1, 81)
    left.hist(np.clip(sizes[sizes > 0], bins[0], bins[-1]), bins, color=trial_style(record)[0])
    left.axvspan(bins[0], near, color=GREY, alpha=0.18, linewidth=0)
    zeros = f"shaded: |w| < {near:g}\nexactly 0: {(sizes == 0).sum():,} of {sizes.size:,}"
    left.text(0.03, 0.96, zeros, transform=left.transAxes, va="top", fontsize=9)
    left.set(xscale="log", xlabel="|w| (no unit)", ylabel=f"weights (count, {measures.who(record)} together)")
    exact = np.array([percent(w == 0) for w in layers.values()])
    small = np.array([percent(np.abs(w) < near) for w in layers.values()]) - exact
    rows = np.arange(len(layers))
    right.barh(rows, exact, color=BLACK, label="exactly 0")
    right.barh(rows, small, left=exact, color=SKY, hatch="///", edgecolor="white", label=f"0 < |w| < {near:g}")
    names = [f"conv {k} ({np.prod(w.shape[1:]):,})" for k, w in enumerate(layers.values(), 1)]
    right.set_yticks(rows, names, fontsize=8 if len(rows) < 10 else 7)
    right.set(xlabel="share of the layer's weights (%)", ylabel="layer (weights per seed)")
    right.set_xlim(0, max(1, 1.1 * (exact + small).max()))
    right.invert_yaxis()
    right.legend(loc="best")
    return figure


def scale_histogram(record: Record, near: float = 0.05, ax: Axes | None = None) -> Axes:
    """The learned scales (gamma) of all normalisers, and how many are within `near` of 0: channels switched off."""
    ax = ax or plt.subplots(figsize=(7, 3.6))[1]
    scales = layer_weights(record, lambda name, w: name.endswith(".weight") and w.ndim in (2, 4))
    if not scales:
        ax.text(0.5, 0.5, "no normaliser, so no scales", ha="center", va="center", transform=ax.transAxes)
    flat = np.concatenate([w.ravel() for w in scales.values()]) if scales else np.array([])
    low, high = min(-near, flat.min(initial=0)), max(1.5, flat.max(initial=0))
    ax.hist(flat, np.linspace(low, high, 61), color=trial_style(record)[0])
    ax.set_ylim(0, 1.3 * ax.get_ylim()[1])  # room for the text
    ax.axvspan(-near, near, color=GREY, alpha=0.3, linewidth=0)
    ax.axvline(1, color=BLACK, ls=":", lw=1)
    count = int((np.abs(flat) < near).sum())
    share = f"{count} of {flat.size:,} scales within {near:g} of 0 (shaded)\ndotted: 1, the start"
    ax.text(0.98, 0.96, share, transform=ax.transAxes, ha="right", va="top", fontsize=9)
    ax.set(xlabel="scale gamma (no unit)", ylabel=f"scales (count, {measures.who(record)})")
    ax.set_title(f"{data_title([record])}\n{record.name}, learned scales of the normalisers", loc="left")
    return ax


def ghost_statistics(record: Record) -> Figure:
    """How far every ghost split's running mean and variance are from their mean over splits, a column per layer.

    Raises ValueError for a trial without ghost norm.
    """
    means = layer_weights(record, lambda name, w: name.endswith("running_mean") and w.ndim == 3)  # [R, S, C]
    variances = layer_weights(record, lambda name, w: name.endswith("running_var") and w.ndim == 3)
    if not means:
        raise ValueError(f"{record.name}: normaliser {record.trial.normaliser!r} keeps no ghost splits; valid: 'ghost'")
    size = (2.7 * len(means) + 0.6, 5.2)
    figure, grid = plt.subplots(2, len(means), figsize=size, sharey="row", squeeze=False)
    title(figure, [record], f"ghost splits against their mean, one mark per channel, {measures.who(record)}")
    for k, (mean, variance) in enumerate(zip(means.values(), variances.values(), strict=True)):
        centre, width = mean.mean(1, keepdims=True), variance.mean(1, keepdims=True)  # [R, 1, C]
        _splits(grid[0, k], centre, 100 * (mean - centre) / np.sqrt(np.maximum(width, 1e-12)))
        _splits(grid[1, k], width, 100 * (variance / np.maximum(width, 1e-12) - 1))
        grid[0, k].set_title(f"norm {k + 1}", loc="left")
        grid[0, k].set_xlabel("running mean over splits\n(activation)", fontsize=9)
        grid[1, k].set_xlabel("running variance over splits\n(activation²)", fontsize=9)
    grid[0, 0].set_ylabel("split's mean minus all splits'\n(% of the running sd)")
    grid[1, 0].set_ylabel("split's variance against all splits'\n(% difference)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=8, markerscale=1.5)
    return figure


def _splits(ax: Axes, centre: np.ndarray, deviation: np.ndarray) -> None:
    """Deviations [R, S, C] from `centre` [R, 1, C], a colour and a marker per split."""
    ax.axhline(0, color=BLACK, lw=0.8)
    for k in range(deviation.shape[1]):
        marker, colour = MARKERS[k % len(MARKERS)], COLOURS[k % len(COLOURS)]
        y = deviation[:, k].ravel()
        ax.plot(centre.ravel(), y, marker, color=colour, ms=3.5, mfc="none", label=f"split {k + 1}")
