"""Inside trained networks: weights, norm statistics, batch noise, confidence."""

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from s6lib.evidence.images import expected_calibration_error
from s6lib.evidence.measures import correct, who
from s6lib.plots.style import BESIDE, MARKERS, NOTHING_KEPT, panel, said_empty, say, title, trial_style, weightless
from s6lib.records import Record
from s6lib.studies.base import BLACK, BLUE, COLOURS, GREY, RED, SKY


def layer_weights(record: Record, wanted: Callable[[str, np.ndarray], bool]) -> dict[str, np.ndarray]:
    """The weights [R, ...] that are `wanted`, of the replicas that did not diverge, in the network's order."""
    names = sorted((name for name, w in record.weights.items() if wanted(name, w)), key=lambda n: int(n.split(".")[1]))
    return {name: record.weights[name][record.weighed] for name in names}


def kept(record: Record) -> str:
    """Whose weights a figure shows: a small record has those of its first seeds alone."""
    if len(record.with_weights) == len(record.seeds):
        return who(record)
    return f"{len(record.weighed)} of {len(record.seeds)} seeds, whose weights were kept"


def convolutions(record: Record) -> list[np.ndarray]:
    """Sizes |w| of every convolution's weights, [R, C_out, C_in, k, k]."""
    found = layer_weights(record, lambda name, w: name.endswith(".weight") and w.ndim == 5)
    return [np.abs(w) for w in found.values()]


def percent(mask: np.ndarray) -> float:
    return 100 * float(mask.sum()) / max(mask.size, 1)


@panel(7, 3.8)
def batch_noise(records: Sequence[Record], table: pd.DataFrame, *, ax: Axes) -> str:
    """The sd of a batch's channel means, by batch size: `table` of `probes.batch_noise`, a dot per channel.

    The line is 1 / sqrt(n), put through the median at the smallest size; a dashed line marks the images that this
    trial normalises together.
    """
    (record,) = records
    if table.empty:
        say(ax, "the training images are not at hand" if record.weights else NOTHING_KEPT)
        return f"{record.name}, first normaliser"
    ax.plot(table.images, table.noise, "o", color=trial_style(record)[0], ms=4, alpha=0.6, label="one channel")
    middle = table.groupby("images").noise.median()
    sizes = np.array([middle.index.min(), middle.index.max()])
    ax.plot(sizes, middle.iloc[0] * (sizes[0] / sizes) ** 0.5, color=BLACK, lw=1.2, label="falls as 1/√n")
    together = record.trial.batch_size // (record.trial.ghost_splits if record.trial.normaliser == "ghost" else 1)
    ax.axvline(together, color=GREY, ls="--", label=f"this trial: {together} images")
    ax.set(xscale="log", yscale="log", xlabel="images normalised together (count)")
    ax.set_ylabel("sd of the batch's channel mean\n(of the channel's own sd)")
    ax.set_xticks(sorted(set(table.images)), [str(size) for size in sorted(set(table.images))])
    ax.xaxis.set_minor_locator(NullLocator())
    two_digits = FuncFormatter(lambda value, _: f"{value:.2g}")
    ax.yaxis.set(minor_locator=NullLocator(), major_locator=LogLocator(10, (1, 2, 5)), major_formatter=two_digits)
    return f"{record.name}, first normaliser, seed {(record.weight_seeds or record.seeds)[0]}"


@panel(6.5, 4)
def confidence(records: Sequence[Record], *, ax: Axes) -> str:
    """How sure the seeds are of right and of wrong answers, and their mean expected calibration error."""
    (record,) = records
    sure, right = 100 * record.confidence[record.non_diverged], correct(record)  # [R, n]
    for kind, chosen, colour, hatch in (("right", right, BLUE, ""), ("wrong", ~right, RED, "///")):
        label = f"{kind} answers ({chosen.sum():,})"
        bins = np.linspace(0, 100, 41).tolist()
        ax.hist(sure[chosen], bins, color=colour, hatch=hatch, edgecolor="white", alpha=0.75, label=label)
    error = f"{expected_calibration_error(sure / 100, right).mean():.2f} %" if len(sure) else "unknown"
    ax.set(yscale="log" if right.size else "linear", xlabel="confidence: probability of the predicted class (%)")
    ax.set_ylabel(f"answers (count, {who(record)}, log scale)")
    ax.legend(loc="upper left")
    return f"{record.name}, calibration error {error}"


def weight_histogram(record: Record, near: float = 1e-3) -> Figure:
    """Sizes of the convolution weights, and per layer the share that is exactly 0 or smaller than `near`."""
    if not record.weights:
        return weightless(record)
    layers = convolutions(record)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    title(figure, [record], f"convolution weights, {kept(record)}")
    sizes = np.concatenate([w.ravel() for w in layers])
    bins = np.logspace(-7, 1, 81).tolist()
    left.hist(np.clip(sizes[sizes > 0], bins[0], bins[-1]), bins, color=trial_style(record)[0])
    left.axvspan(bins[0], near, color=GREY, alpha=0.18, linewidth=0)
    zeros = f"shaded: |w| < {near:g}\nexactly 0: {(sizes == 0).sum():,} of {sizes.size:,}"
    left.text(0.03, 0.96, zeros, transform=left.transAxes, va="top", fontsize=9)
    left.set(xscale="log", xlabel="|w| (no unit)", ylabel="weights (count)")
    exact = np.array([percent(w == 0) for w in layers])
    small = np.array([percent(w < near) for w in layers]) - exact
    names = [f"conv {k} ({np.prod(w.shape[1:]):,})" for k, w in enumerate(layers, 1)]
    right.barh(names, exact, color=BLACK, label="exactly 0")
    right.barh(names, small, left=exact, color=SKY, hatch="///", edgecolor="white", label=f"0 < |w| < {near:g}")
    right.tick_params(axis="y", labelsize=8 if len(names) < 10 else 7)
    right.set(xlabel="share of the layer's weights (%)", ylabel="layer (weights per seed)")
    right.set_xlim(0, max(1, 1.1 * (exact + small).max()))
    right.invert_yaxis()
    right.legend(loc="best")
    return figure


def zeros_by_layer(records: Sequence[Record], near: float = 1e-3) -> Figure:
    """Share of every convolution's weights that is exactly 0 (left) or below `near` (right), a line per trial."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharex=True, sharey=True)
    if said_empty(axes[0], records):
        return figure
    title(figure, records, "convolution weights, mean over seeds")
    if bare := [record.name for record in records if not record.weights]:
        say(axes[0], f"{', '.join(bare)}: without weights;\ntrain to see")
    for record in records:
        colour, line, marker = trial_style(record)
        layers = convolutions(record)
        shares = [percent(w == 0) for w in layers], [percent(w < near) for w in layers]
        for ax, share in zip(axes, shares, strict=True):
            ax.plot(range(1, len(share) + 1), share, color=colour, ls=line, marker=marker, ms=5, label=record.name)
    for ax, what in zip(axes, ("exactly 0", f"|w| < {near:g}"), strict=True):
        ax.set(xlabel="convolution (number)", ylabel=f"{what} (% of the layer's weights)", ylim=(-3, 103))
    axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[1].legend(**BESIDE)
    return figure


@panel(7, 3.6)
def scale_histogram(records: Sequence[Record], near: float = 0.05, *, ax: Axes) -> str:
    """The learned scales (gamma) of all normalisers, and how many are within `near` of 0: channels switched off."""
    (record,) = records
    scales = layer_weights(record, lambda name, w: name.endswith(".weight") and w.ndim in (2, 4))
    if not scales:
        say(ax, "no normaliser, so no scales" if record.weights else NOTHING_KEPT)
    flat = np.concatenate([np.empty(0), *(w.ravel() for w in scales.values())])
    ends = min(-near, flat.min(initial=0)), max(1.5, flat.max(initial=0))
    ax.hist(flat, np.linspace(*ends, 61).tolist(), color=trial_style(record)[0])
    ax.set_ylim(0, 1.3 * ax.get_ylim()[1])  # room for the text
    ax.axvspan(-near, near, color=GREY, alpha=0.3, linewidth=0)
    ax.axvline(1, color=BLACK, ls=":", lw=1)
    share = f"{(np.abs(flat) < near).sum()} of {flat.size:,} scales within {near:g} of 0 (shaded)\ndotted: 1, the start"
    ax.text(0.98, 0.96, share, transform=ax.transAxes, ha="right", va="top", fontsize=9)
    ax.set(xlabel="scale gamma (no unit)", ylabel=f"scales (count, {kept(record)})")
    return f"{record.name}, learned scales of the normalisers"


def ghost_statistics(record: Record) -> Figure:
    """How far every ghost split's running mean and variance are from their mean over splits, a column per layer.

    Raises ValueError for a trial without ghost norm.
    """
    if not record.weights and record.trial.normaliser == "ghost":
        return weightless(record)
    means = layer_weights(record, lambda name, w: name.endswith("running_mean") and w.ndim == 3)  # [R, S, C]
    variances = layer_weights(record, lambda name, w: name.endswith("running_var") and w.ndim == 3)
    if not means:
        raise ValueError(f"{record.name}: normaliser {record.trial.normaliser!r} keeps no ghost splits; valid: 'ghost'")
    size = (2.7 * len(means) + 0.6, 5.2)
    figure, grid = plt.subplots(2, len(means), figsize=size, sharey="row", squeeze=False)
    title(figure, [record], f"ghost splits against their mean, one mark per channel, {kept(record)}")
    for column, mean, variance in zip(grid.T, means.values(), variances.values(), strict=True):
        centre, width = mean.mean(1, keepdims=True), variance.mean(1, keepdims=True)  # [R, 1, C]
        _splits(column[0], centre, 100 * (mean - centre) / np.sqrt(np.maximum(width, 1e-12)))
        _splits(column[1], width, 100 * (variance / np.maximum(width, 1e-12) - 1))
        column[0].set_title(f"norm {grid[0].tolist().index(column[0]) + 1}", loc="left")
        column[0].set_xlabel("running mean over splits\n(activation)", fontsize=9)
        column[1].set_xlabel("running variance over splits\n(activation²)", fontsize=9)
    grid[0, 0].set_ylabel("split's mean minus all splits'\n(% of the running sd)")
    grid[1, 0].set_ylabel("split's variance against all splits'\n(% difference)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=8, markerscale=1.5)
    return figure


def _splits(ax: Axes, centre: np.ndarray, deviation: np.ndarray) -> None:
    """Deviations [R, S, C] from `centre` [R, 1, C], a colour and a marker per split."""
    ax.axhline(0, color=BLACK, lw=0.8)
    for k, (marker, colour) in enumerate(zip(MARKERS * 9, COLOURS * 9, strict=False)):
        if k < deviation.shape[1]:
            y, label = deviation[:, k].ravel(), f"split {k + 1}"
            ax.plot(centre.ravel(), y, marker, color=colour, ms=3.5, mfc="none", label=label)
