"""Figures. Functions of one panel take records and an Axes (made when not given) and return the Axes; those of
several panels return the Figure. Nothing is shown or closed here; end such a line in a notebook with `;`.

A trial keeps its colour, line style and marker everywhere. Replicas that diverged are left out, and said to be.
"""

import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from scipy import special

from s6lib import stats
from s6lib.records import Record

STYLE = {
    "figure.facecolor": "white",  # opaque, so that a figure reads on a dark page as well
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.transparent": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.07,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "font.size": 10,
    "axes.titlesize": 10,
    "figure.titlesize": 11,
    "text.color": "black",
    "axes.labelcolor": "black",
    "axes.edgecolor": "#444444",
    "xtick.color": "#222222",
    "ytick.color": "#222222",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "image.cmap": "gray",
}

# Okabe and Ito 2008, without their yellow (too pale on white), and a grey.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK, GREY)
LINES = ("-", "--", "-.", ":")
MARKERS = "os^Dv<>P"
LOOKS = {
    "bn": (BLACK, "-", "o"),
    "bn_batch64": (GREY, "--", "o"),
    "bn_l1": (ORANGE, "-", "s"),
    "bn_l2": (BLUE, "-", "^"),
    "bn_l1_l2": (PURPLE, "--", "D"),
    "gbn": (GREEN, "-", "v"),
    "gbn_batch128": (SKY, "--", "v"),
    "gbn_l1_l2": (RED, "-.", "P"),
    "ln_l1": (BLUE, "--", "^"),
    "gn_l1": (GREEN, "-.", "v"),
    "lambda_0": (BLACK, "-", "o"),
    "lambda_1e-05": (SKY, "--", "s"),
    "lambda_0.0001": (ORANGE, "-.", "^"),
    "lambda_0.001": (RED, ":", "D"),
    "skeleton": (PURPLE, "--", "s"),
    "bn_dropout": (ORANGE, "-.", "D"),
    "gap": (BLUE, "-", "o"),
    "layer": (GREEN, "--", "^"),
    "layer_full": (RED, "-.", "v"),
    "proximal_0": (GREY, "-", "o"),
    "proximal_1e-05": (BLUE, "--", "s"),
    "proximal_0.0001": (GREEN, "-.", "^"),
    "proximal_0.001": (PURPLE, ":", "D"),
    "groups_1": (BLACK, "-", "o"),
    "groups_2": (BLUE, "--", "s"),
    "groups_4": (SKY, "-.", "^"),
    "groups_5": (GREEN, ":", "D"),
    "groups_8": (ORANGE, "-", "v"),
    "groups_10": (RED, "--", "P"),
    "groups_16": (PURPLE, "-.", "<"),
}

NAMES = {
    "learning_rate": "learning rate (per step)",
    "train_loss": "training loss (nats per image)",
    "test_loss": "test loss (nats per image)",
    "train_accuracy": "training accuracy (%)",
    "test_accuracy": "test accuracy (%)",
    "seconds": "time per epoch, all seeds together (s)",
}


def style() -> None:
    """Sets the look of all figures; called once at the top of a notebook."""
    plt.rcParams.update(STYLE)


def look(name: str) -> tuple[str, str, str]:
    """Colour, line style and marker of the trial `name`, the same in every figure and every run."""
    if (known := name.removeprefix("gap_")) in LOOKS:  # gap_lambda_0.001 looks like lambda_0.001
        return LOOKS[known]
    number = zlib.crc32(name.encode())  # `hash` of a string differs from run to run
    return COLOURS[number % 8], LINES[number // 8 % 4], MARKERS[number // 32 % 8]


# --- published numbers ---------------------------------------------------------------------------

# Their names for trials -> (protocol, trial) here; first epochs of runs that were broken off are left as they are.
PUBLISHED_NAMES = {
    ("l1_sweep", "bn (lambda 0)"): ("normalisers", "lambda_0"),
    ("l1_sweep", "bn_l1 (lambda 1e-4)"): ("normalisers", "lambda_0.0001"),
    ("l1_sweep", "bn_l1 (lambda 1e-3)"): ("normalisers", "lambda_0.001"),
    ("progression", "skeleton_258602"): ("progression", "skeleton"),
    ("progression", "bn_dropout_9736"): ("progression", "bn_dropout"),
    ("progression", "gap_10224"): ("progression", "gap"),
}


@cache
def published(table: str) -> pd.DataFrame:
    """A table of published numbers: "per_epoch" (one seed each), "best_and_last" or "layer_tables"."""
    frame = pd.read_csv(Path(__file__).parent / "published" / f"{table}.csv")
    if table == "per_epoch":
        keys = [PUBLISHED_NAMES.get(key, key) for key in zip(frame.study, frame.trial, strict=True)]
        frame["study"], frame["trial"] = zip(*keys, strict=True)
    return frame


def published_for(record: Record, table: str = "best_and_last") -> pd.DataFrame:
    """The rows of a published table for this record's trial; none on other data than MNIST."""
    frame = published(table)
    if record.dataset["name"] != "mnist":
        return frame[:0]
    return frame[(frame.study == record.trial.protocol) & (frame.trial == record.name)].reset_index(drop=True)


# --- curves --------------------------------------------------------------------------------------


def curves(record: Record) -> Figure:
    """Accuracy, loss and learning rate per epoch: every seed thin, their mean thick, published numbers dashed."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), width_ratios=(5, 5, 3))
    _title(figure, [record], stats.who(record))
    seen = published_for(record, "per_epoch")
    _published_line(axes[0], seen, "train_accuracy_pct", GREY, "published training, 1 seed")
    _published_line(axes[0], seen, "test_accuracy_pct", BLACK, "published test, 1 seed")
    _published_line(axes[1], seen, "test_loss", BLACK, "published test, 1 seed")
    for ax, kind in zip(axes, ("accuracy", "loss"), strict=False):
        _seed_lines(ax, record, f"train_{kind}", GREY, "-", "training, while learning")
        _seed_lines(ax, record, f"test_{kind}", look(record.name)[0], "-", "test")
    accuracy_scale(axes[0], "accuracy (%)")
    loss_scale(axes[1], "loss (nats per image)")
    rates = record.trial.learning_rates()
    axes[2].step(range(1, len(rates) + 1), rates, where="mid", color=BLACK)
    axes[2].set(ylabel=NAMES["learning_rate"], ylim=(0, 1.08 * max(rates)))
    for ax in axes:
        _epochs(ax, record.trial.epochs)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def overlay(records: Sequence[Record], column: str = "test_accuracy", ax: Axes | None = None) -> Axes:
    """One column of the history per epoch for all trials: mean over seeds, lowest to highest seed shaded."""
    ax = ax or plt.subplots(figsize=(8, 4.5))[1]
    if not _some(ax, records):
        return ax
    for record in records:
        colour, line, marker = look(record.name)
        table = stats.history(record).groupby("epoch")[column]
        mean, low, high = table.mean(), table.min(), table.max()
        ax.fill_between(mean.index, low, high, color=colour, alpha=0.10, linewidth=0)
        marks = max(len(mean) // 8, 1)
        ax.plot(mean, color=colour, ls=line, marker=marker, ms=4.5, markevery=marks, label=f"{record.name}")
    _scale(ax, column)
    _epochs(ax, max(record.trial.epochs for record in records))
    ax.set_title(f"{_data(records)}\nmean over seeds; shaded: lowest to highest seed", loc="left")
    _legend_beside(ax)
    return ax


def small_multiples(records: Sequence[Record], column: str = "test_accuracy") -> Figure:
    """A panel per trial on shared axes: its seeds thin, its mean thick, the other trials' means in grey."""
    across = min(4, max(len(records), 1))
    down = -(-max(len(records), 1) // across)
    size = (2.7 * across + 0.6, 2.3 * down + 0.6)
    figure, grid = plt.subplots(down, across, figsize=size, sharex=True, sharey=True, squeeze=False)
    if not _some(grid[0, 0], records):
        return figure
    _title(figure, records, f"{NAMES[column].split(' (')[0]}, one thin line per seed; grey: the other trials")
    for ax, record in zip(grid.flat, records, strict=False):
        for other in records:
            ax.plot(stats.history(other).groupby("epoch")[column].mean(), color="#cccccc", lw=0.8)
        _seed_lines(ax, record, column, look(record.name)[0], "-", None)
        ax.set_title(f"{record.name} ({stats.who(record)})", loc="left", fontsize=9)
    _scale(grid[0, 0], column)
    _epochs(grid[0, 0], max(record.trial.epochs for record in records))
    _outer_labels(figure, grid, len(records), "epoch", grid[0, 0].get_ylabel())
    return figure


def dots(records: Sequence[Record], ax: Axes | None = None) -> Axes:
    """Last-epoch test accuracy: a dot per seed, the mean with its 95 % interval, the published best and last."""
    ax = ax or plt.subplots(figsize=(8, 1.4 + 0.42 * max(len(records), 1)))[1]
    if not _some(ax, records):
        return ax
    for row, record in enumerate(records):
        values, colour = stats.last(record, "test_accuracy"), look(record.name)[0]
        ax.scatter(values, row + _spread(len(values)), s=20, color=colour, alpha=0.65, linewidths=0)
        found = stats.mean_interval(values)
        half = found.high - found.mean  # nan with one seed: then only the mean is drawn
        bar = None if np.isnan(half) else half
        ax.errorbar(found.mean, row, xerr=bar, fmt="|", ms=13, color="black", lw=1.3, capsize=3, mew=1.6, zorder=3)
        for seen in published_for(record).itertuples():
            ax.plot(seen.best, row, "D", mfc="white", mec="black", ms=6.5, zorder=4)
            ax.plot(seen.last, row, "x", color="black", ms=7, mew=1.8, zorder=5)
    ax.plot([], [], "o", color=GREY, label="one seed, last epoch")
    ax.errorbar([], [], xerr=[], fmt="|", ms=13, color="black", capsize=3, label="mean, 95 % interval")
    if any(len(published_for(record)) for record in records):
        ax.plot([], [], "D", mfc="white", mec="black", label="published best epoch (1 seed)")
        ax.plot([], [], "x", color="black", mew=1.8, label="published last epoch (1 seed)")
    _legend_beside(ax)
    ax.set_yticks(range(len(records)), [f"{record.name}\n{stats.who(record)}" for record in records], fontsize=8)
    ax.set(ylim=(len(records) - 0.5, -0.5), xlabel=NAMES["test_accuracy"])
    ax.grid(axis="y", visible=False)
    ax.set_title(f"{_data(records)}\ntest accuracy after the last epoch", loc="left")
    return ax


def weight_norms(record: Record) -> Figure:
    """sum|w| and sqrt(sum w^2) over all parameters per epoch; epoch 0 is after the first batch."""
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.4))
    _title(figure, [record], f"all parameters, {stats.who(record)}; epoch 0 is after the first batch")
    table = _weight_norms(record)
    pairs = (
        ("sum_abs", 1.0, "sum of |w| (no unit)"),
        ("sum_squares", 0.5, "root of the sum of w² (no unit)"),
    )
    for ax, (column, power, label) in zip(axes, pairs, strict=True):
        wide = table.pivot(index="epoch", columns="seed", values=column) ** power
        _lines(ax, wide, look(record.name)[0], "-", None)
        ax.set(ylabel=label, ylim=(0, None), xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return figure


def by_setting(records: Sequence[Record], values: Sequence[float], label: str, ax: Axes | None = None) -> Axes:
    """Last-epoch training and test accuracy against a setting: a dot per seed, the mean with its 95 % interval."""
    ax = ax or plt.subplots(figsize=(7, 4))[1]
    if not _some(ax, records):
        return ax
    for shift, column, colour, marker in ((-0.06, "train_accuracy", GREY, "s"), (0.06, "test_accuracy", BLUE, "o")):
        x = np.arange(len(records)) + shift
        found = [stats.mean_interval(stats.last(record, column)) for record in records]
        for place, record in zip(x, records, strict=True):
            seeds = stats.last(record, column)
            ax.scatter(np.full(len(seeds), place), seeds, s=14, color=colour, alpha=0.5, linewidths=0)
        half = np.nan_to_num([one.high - one.mean for one in found])  # one seed: no interval
        mean = [one.mean for one in found]
        name = "test" if column.startswith("test") else "training, while learning"
        ax.errorbar(x, mean, half, fmt=f"-{marker}", color=colour, ms=5, lw=1, capsize=3, label=name)
    accuracy_scale(ax, "accuracy (%)")
    ax.set_xticks(range(len(records)), [f"{value:g}" for value in values])
    ax.set_xlabel(label)
    ax.set_title(f"{_data(records)}\nlast epoch: every seed, mean, 95 % interval", loc="left")
    ax.legend(loc="best")
    return ax


def jumps(records: Sequence[Record], ax: Axes | None = None) -> Axes:
    """Step of test accuracy from each epoch to the next, points: every seed thin, the mean size of the steps thick."""
    ax = ax or plt.subplots(figsize=(8, 3.8))[1]
    if not _some(ax, records):
        return ax
    for record in records:
        colour, line, marker = look(record.name)
        steps = np.abs(np.diff(stats.by_epoch(record, "test_accuracy")))  # [R, epochs - 1]
        epochs = np.arange(2, steps.shape[1] + 2)
        ax.plot(epochs, np.maximum(steps, 0.005).T, color=colour, ls=line, lw=0.5, alpha=0.35)
        if len(steps):
            ax.plot(epochs, steps.mean(0), color=colour, ls=line, marker=marker, ms=4, lw=2, label=record.name)
        seen = published_for(record, "per_epoch")
        seen = seen.assign(step=seen.test_accuracy_pct.diff().abs().clip(0.005))
        _published_line(ax, seen, "step", colour, f"{record.name} published, 1 seed")
    ax.set(yscale="log", ylabel="size of the step in test accuracy\n(percentage points, log scale)", ylim=(0.005, None))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _epochs(ax, max(record.trial.epochs for record in records))
    ax.set_title(f"{_data(records)}\nsteps from the epoch before; thick: mean over seeds", loc="left")
    _legend_beside(ax)
    return ax


def fit_gap(records: Sequence[Record], ax: Axes | None = None) -> Axes:
    """Training minus test accuracy per epoch, points: every seed thin, the mean thick."""
    ax = ax or plt.subplots(figsize=(8, 3.8))[1]
    if not _some(ax, records):
        return ax
    for record in records:
        colour, line, _ = look(record.name)
        table = stats.history(record).assign(gap=lambda rows: rows.train_accuracy - rows.test_accuracy)
        _lines(ax, table.pivot(index="epoch", columns="seed", values="gap"), colour, line, record.name)
        seen = published_for(record, "per_epoch")
        gap = seen.train_accuracy_pct - seen.test_accuracy_pct
        _published_line(ax, seen.assign(gap=gap), "gap", colour, f"{record.name} published, 1 seed")
    ax.axhline(0, color=BLACK, lw=0.8)
    ax.set_yscale("symlog", linthresh=1)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_ylabel("training − test accuracy\n(percentage points, log scale beyond 1)")
    _epochs(ax, max(record.trial.epochs for record in records))
    ax.set_title(f"{_data(records)}\nabove 0, better on what it has seen", loc="left")
    _legend_beside(ax)
    return ax


def penalty_against_loss(records: Sequence[Record], ax: Axes | None = None) -> Axes:
    """lambda * sum|p| (dashed) beside the training loss (solid), both in nats per image, means over seeds."""
    ax = ax or plt.subplots(figsize=(8, 4))[1]
    if not _some(ax, records):
        return ax
    for record in records:
        colour, _, marker = look(record.name)
        loss = stats.history(record).groupby("epoch").train_loss.mean()
        ax.plot(loss, color=colour, marker=marker, ms=4, label=f"{record.name}: loss")
        if record.trial.l1:
            norms = _weight_norms(record)
            sums = norms[norms.epoch > 0].groupby("epoch").sum_abs.mean()
            ax.plot(
                record.trial.l1 * sums, color=colour, ls="--", marker=marker, ms=4, mfc="white", label="its penalty"
            )
    loss_scale(ax, "training loss and L1 penalty (nats per image)")
    _epochs(ax, max(record.trial.epochs for record in records))
    ax.set_title(f"{_data(records)}\nloss solid, lambda · sum|p| dashed; means over seeds", loc="left")
    _legend_beside(ax)
    return ax


def zeros_by_layer(records: Sequence[Record], near: float = 1e-3) -> Figure:
    """Share of every convolution's weights that is exactly 0 (left) or below `near` (right), a line per trial."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharex=True, sharey=True)
    if not _some(axes[0], records):
        return figure
    _title(figure, records, "convolution weights, mean over seeds")
    for record in records:
        colour, line, marker = look(record.name)
        layers = [np.abs(w) for w in _convolutions(record).values()]
        for ax, limit in zip(axes, (0, near), strict=True):
            share = [_percent((w == 0) if limit == 0 else (w < limit)) for w in layers]
            ax.plot(range(1, len(share) + 1), share, color=colour, ls=line, marker=marker, ms=5, label=record.name)
    axes[0].set(xlabel="convolution (number)", ylabel="exactly 0 (% of the layer's weights)", ylim=(-3, 103))
    axes[1].set(xlabel="convolution (number)", ylabel=f"|w| < {near:g} (% of the layer's weights)")
    axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_beside(axes[1])
    return figure


def batch_noise(table: pd.DataFrame, record: Record, ax: Axes | None = None) -> Axes:
    """How far a batch's channel means stray, by batch size: `table` of `probes.batch_noise`, a dot per channel.

    The line is 1 / sqrt(n), put through the median at the smallest size; a cross-hair marks the images this trial
    normalises together.
    """
    ax = ax or plt.subplots(figsize=(7, 3.8))[1]
    colour = look(record.name)[0]
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
    for kind in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
        kind(FuncFormatter(lambda value, _: f"{value:.2g}"))
    ax.set_title(f"{_data([record])}\n{record.name}, first normaliser", loc="left")
    ax.legend(loc="best")
    return ax


def confidence(record: Record, ax: Axes | None = None) -> Axes:
    """How sure the seeds are of right and of wrong answers, and their mean expected calibration error."""
    ax = ax or plt.subplots(figsize=(6.5, 4))[1]
    logits = record.logits[record.sound].astype(np.float32)
    sure = 100 * special.softmax(logits, -1).max(-1)  # [R, n]
    right = stats.correct(record)
    bins = np.linspace(0, 100, 41)
    for kind, chosen, colour, hatch in (("right", right, BLUE, ""), ("wrong", ~right, RED, "///")):
        label = f"{kind} answers ({chosen.sum():,})"
        ax.hist(sure[chosen], bins, color=colour, hatch=hatch, edgecolor="white", alpha=0.75, label=label)
    error = stats.expected_calibration_error(logits, record.labels).mean() if len(logits) else float("nan")
    ax.set(yscale="log" if right.size else "linear", xlabel="confidence: probability of the predicted class (%)")
    ax.set_ylabel(f"answers (count, {stats.who(record)}, log scale)")
    ax.set_title(f"{_data([record])}\n{record.name}, calibration error {error:.2f} %", loc="left")
    ax.legend(loc="upper left")
    return ax


# --- images --------------------------------------------------------------------------------------


def samples(dataset, rotation: float, rotate_after_normalise: bool = False, count: int = 10, seed: int = 0) -> Figure:
    """The first `count` training images as loaded, and twice as a replica gets them: turned and normalised."""
    import torch

    from s6lib.data import Augmenter, random_angles

    augment = Augmenter(dataset, rotation, rotate_after_normalise)
    index, source = torch.arange(count)[:, None].expand(-1, 2), torch.Generator().manual_seed(seed)
    angles = random_angles(2 * count, rotation, source).view(count, 2) if rotation else None
    turned = augment(index, angles).transpose(0, 1).numpy()  # [2, count, 28, 28]
    rows = [dataset.train_images[:count].numpy(), *turned]
    names = [
        "as loaded\n(0 to 255)",
        *[f"as trained on,\ndraw {k}\n({turned.min():.2f} to {turned.max():.2f})" for k in (1, 2)],
    ]
    figure, grid = plt.subplots(3, count, figsize=(0.85 * count + 1.2, 3.3), squeeze=False, subplot_kw=_BARE)
    after = "after normalising: corners mean grey" if rotate_after_normalise else "corners filled with black"
    turn = f"turned by up to {rotation:g}° either way, {after}" if rotation else "not turned"
    figure.suptitle(f"{dataset.title}: {turn}", x=0.01, ha="left")
    for line, images, name in zip(grid, rows, names, strict=True):
        for ax, image in zip(line, images, strict=True):
            ax.imshow(image, vmin=images.min(), vmax=images.max())
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    for ax, label in zip(grid[0], dataset.train_labels[:count].tolist(), strict=True):
        ax.set_title(label)
    return figure


def misclassified_grid(
    record: Record, count: int = 25, images: np.ndarray | None = None, numbers: Sequence[int] | None = None
) -> Figure:
    """The test images most seeds miss, hardest first, labelled "7 → 2, 98 %, missed by 3 of 5"; 25 as 5x5, 10 as 5x2.

    `numbers` shows these images instead, in this order, so that trials can be compared. `images` are the test images
    [n, 28, 28]; without them they are loaded by the record's data set, see `images_of`.
    """
    chosen = _chosen(record, count, numbers)
    figure = plt.figure(figsize=(9, 0.6 + 2.15 * max(-(-len(chosen) // 5), 1)))
    images, trouble = _images(record, images)
    _title(figure, [record], f"test images {_which(numbers, count, chosen)}{trouble}")
    _digit_grid(figure, record, chosen, images)
    return figure


def grids_side_by_side(records: Sequence[Record], count: int = 10, images: np.ndarray | None = None) -> Figure:
    """The `count` test images that all trials together miss most, a row per image and a column per trial."""
    numbers = stats.commonly_missed(records, count)
    across = max(len(records), 1)
    size = (1.45 * across + 0.7, 1.8 * max(len(numbers), 1) + 0.8)
    figure, grid = plt.subplots(max(len(numbers), 1), across, figsize=size, squeeze=False, subplot_kw=_BARE)
    if not _some(grid[0, 0], records):
        return figure
    shown, trouble = _images(records[0], images)
    text = f"{_data(records)}\nthe {len(numbers)} test images all trials miss most{trouble}"
    figure.suptitle(text, x=0.01, ha="left")
    for column, record in zip(grid.T, records, strict=True):
        table = stats.judge(record).iloc[numbers]
        for ax, row in zip(column, table.itertuples(), strict=False):
            _digit(ax, shown[row.image], row)
        title = {"xycoords": "axes fraction", "ha": "center", "fontweight": "bold", "fontsize": 9}
        column[0].annotate(record.name, (0.5, 1.38), **title)
    for ax, number in zip(grid[:, 0], numbers, strict=False):
        ax.set_ylabel(f"image {number}", fontsize=8)
    return figure


def images_of(record: Record) -> np.ndarray:
    """The test images [n, 28, 28] the record's logits are of. Raises DataError when they cannot be had."""
    from s6lib import data

    name, *rest = record.dataset["name"].split("-")
    dataset = data.load(name)
    if rest[:2] == ["held", "out"]:
        dataset = data.hold_out(dataset, int(rest[2]))
    elif rest:
        dataset = data.limit(dataset, *map(int, rest))
    if dataset.checksum != record.dataset["checksum"]:
        raise data.DataError(f"{record.dataset['name']}: other images than the record was made with (checksum differs)")
    return dataset.test_images.numpy()


def _images(record: Record, images: np.ndarray | None) -> tuple[np.ndarray, str]:
    """The given images or the record's own; where they cannot be had, blank ones and a line that says why."""
    from s6lib.data import DataError

    try:
        return (images_of(record) if images is None else images), ""
    except DataError as error:
        return np.zeros((len(record.labels), 28, 28), np.uint8), f"\nimages not at hand: {str(error)[:90]}"


def confusion(record: Record, ax: Axes | None = None) -> Axes:
    """Errors only, summed over seeds: how often label i was taken for j."""
    ax = ax or plt.subplots(figsize=(6, 5.2))[1]
    counts = np.zeros((10, 10), int)
    guesses = record.predictions[record.sound]
    np.add.at(counts, (np.broadcast_to(record.labels, guesses.shape), guesses), 1)
    np.fill_diagonal(counts, 0)
    picture = ax.imshow(counts, cmap="Blues", vmin=0, vmax=max(counts.max(), 1))
    for i, j in np.argwhere(counts):
        ink = "white" if 2 * counts[i, j] > counts.max() else "black"
        ax.text(j, i, counts[i, j], ha="center", va="center", fontsize=8, color=ink)
    ax.figure.colorbar(picture, ax=ax, shrink=0.8).set_label(f"errors (images, summed over {stats.who(record)})")
    ax.set(xlabel="predicted digit (class)", ylabel="label (class)", xticks=range(10), yticks=range(10))
    ax.set_title(f"{_data([record])}\n{record.name}, {counts.sum()} errors", loc="left")
    ax.grid(visible=False)
    return ax


# --- weights -------------------------------------------------------------------------------------


def weight_histogram(record: Record, near: float = 1e-3) -> Figure:
    """Sizes of the convolution weights, and per layer the share that is exactly 0 or smaller than `near`."""
    layers = _convolutions(record)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    _title(figure, [record], f"convolution weights, {stats.who(record)}")
    sizes = np.abs(np.concatenate([w.ravel() for w in layers.values()]))
    bins = np.logspace(-7, 1, 81)
    left.hist(np.clip(sizes[sizes > 0], bins[0], bins[-1]), bins, color=look(record.name)[0])
    left.axvspan(bins[0], near, color=GREY, alpha=0.18, linewidth=0)
    zeros = f"shaded: |w| < {near:g}\nexactly 0: {(sizes == 0).sum():,} of {sizes.size:,}"
    left.text(0.03, 0.96, zeros, transform=left.transAxes, va="top", fontsize=9)
    left.set(xscale="log", xlabel="|w| (no unit)", ylabel=f"weights (count, {stats.who(record)} together)")
    exact = np.array([_percent(w == 0) for w in layers.values()])
    small = np.array([_percent(np.abs(w) < near) for w in layers.values()]) - exact
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
    scales = _weights(record, lambda name, w: name.endswith(".weight") and w.ndim in (2, 4))
    if not scales:
        ax.text(0.5, 0.5, "no normaliser, so no scales", ha="center", va="center", transform=ax.transAxes)
    flat = np.concatenate([w.ravel() for w in scales.values()]) if scales else np.array([])
    low, high = min(-near, flat.min(initial=0)), max(1.5, flat.max(initial=0))
    ax.hist(flat, np.linspace(low, high, 61), color=look(record.name)[0])
    ax.axvspan(-near, near, color=GREY, alpha=0.3, linewidth=0)
    ax.axvline(1, color=BLACK, ls=":", lw=1)
    count = int((np.abs(flat) < near).sum())
    share = f"{count} of {flat.size:,} scales within {near:g} of 0 (shaded)\ndotted: 1, the start"
    ax.text(0.98, 0.96, share, transform=ax.transAxes, ha="right", va="top", fontsize=9)
    ax.set(xlabel="scale gamma (no unit)", ylabel=f"scales (count, {stats.who(record)})")
    ax.set_title(f"{_data([record])}\n{record.name}, learned scales of the normalisers", loc="left")
    return ax


def ghost_statistics(record: Record) -> Figure:
    """How far every ghost split's running mean and variance are from their mean over splits, a column per layer.

    Raises ValueError for a trial without ghost norm.
    """
    means = _weights(record, lambda name, w: name.endswith("running_mean") and w.ndim == 3)  # [R, S, C]
    variances = _weights(record, lambda name, w: name.endswith("running_var") and w.ndim == 3)
    if not means:
        raise ValueError(f"{record.name}: normaliser {record.trial.normaliser!r} keeps no ghost splits; valid: 'ghost'")
    size = (2.7 * len(means) + 0.6, 5.2)
    figure, grid = plt.subplots(2, len(means), figsize=size, sharey="row", squeeze=False)
    _title(figure, [record], f"ghost splits against their mean, one mark per channel, {stats.who(record)}")
    for k, (mean, variance) in enumerate(zip(means.values(), variances.values(), strict=True)):
        centre, width = mean.mean(1, keepdims=True), variance.mean(1, keepdims=True)  # [R, 1, C]
        _splits(grid[0, k], centre, 100 * (mean - centre) / np.sqrt(np.maximum(width, 1e-12)))
        _splits(grid[1, k], width, 100 * (variance / np.maximum(width, 1e-12) - 1))
        grid[0, k].set_title(f"norm {k + 1}", loc="left")
        grid[0, k].set_xlabel("running mean over splits\n(activation)", fontsize=9)
        grid[1, k].set_xlabel("running variance over splits\n(activation²)", fontsize=9)
    grid[0, 0].set_ylabel("split's mean minus theirs\n(% of the running sd)")
    grid[1, 0].set_ylabel("split's variance against theirs\n(% difference)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=8, markerscale=1.5)
    return figure


def _splits(ax: Axes, centre: np.ndarray, deviation: np.ndarray) -> None:
    """Deviations [R, S, C] from `centre` [R, 1, C], a colour and a marker per split."""
    ax.axhline(0, color=BLACK, lw=0.8)
    for k in range(deviation.shape[1]):
        marker, colour = MARKERS[k % len(MARKERS)], COLOURS[k % len(COLOURS)]
        y = deviation[:, k].ravel()
        ax.plot(centre.ravel(), y, marker, color=colour, ms=3.5, mfc="none", label=f"split {k + 1}")


# --- parts ---------------------------------------------------------------------------------------

_BARE = {"xticks": [], "yticks": []}
ACCURACY_TICKS = (99, 90, 99.4, 98, 50, 95, 80, 0, 99.2, 99.6, 97, 98.5, 99.8, 100, 99.9, 99.3, 99.5)  # by importance


def accuracy_scale(ax: Axes, label: str) -> None:
    """Accuracy in percent on an axis where equal steps are equal factors of the error, so that 99.4 and 99.5 part."""
    floor = 0.05  # in points of error: keeps 100 % on the page
    to = lambda y: -np.log10(np.maximum(100 + floor - np.asarray(y, float), floor / 2))  # noqa: E731
    back = lambda z: 100 + floor - 10.0 ** -np.asarray(z, float)  # noqa: E731
    panels = ax.get_shared_y_axes().get_siblings(ax)
    ends = np.array([panel.dataLim.intervaly for panel in panels if panel.has_data()])
    low, high = ends.min(), ends.max()
    ax.set_yscale("function", functions=(to, back))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    z = to(np.array([low, high])) + np.array([-0.04, 0.04]) * max(np.ptp(to(np.array([low, high]))), 0.2)
    ax.set_ylim(*np.clip(back(z), 0, 100 + floor / 2))
    height = ax.get_position().height * ax.figure.get_figheight()  # inches
    ax.yaxis.set_major_locator(
        FixedLocator(_apart(ACCURACY_TICKS, to, np.ptp(to(ax.get_ylim())) * 0.19 / height, ax.get_ylim()))
    )
    ax.set_ylabel(f"{label}\nlog scale of the error")


def _apart(ticks: Sequence[float], to: Callable, gap: float, limits: tuple[float, float]) -> list[float]:
    """The ticks within `limits`, the more important first, that stay `gap` apart from those kept before."""
    kept: list[float] = []
    for tick in ticks:
        if limits[0] <= tick <= limits[1] and all(abs(to(tick) - to(other)) >= gap for other in kept):
            kept.append(tick)
    return kept


def loss_scale(ax: Axes, label: str) -> None:
    """Loss on a logarithmic axis with plain numbers."""
    ax.set(yscale="log", ylabel=f"{label}\nlog scale")
    ax.yaxis.set_major_locator(LogLocator(10, (1, 2, 5), numticks=12))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _scale(ax: Axes, column: str) -> None:
    if column.endswith("accuracy"):
        accuracy_scale(ax, NAMES[column])
    elif column.endswith("loss"):
        loss_scale(ax, NAMES[column])
    else:
        ax.set_ylabel(NAMES[column])


def _epochs(ax: Axes, epochs: int) -> None:
    ax.set(xlabel="epoch", xlim=(0.6, epochs + 0.4))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def _seed_lines(ax: Axes, record: Record, column: str, colour: str, line: str, label: str | None) -> None:
    _lines(ax, stats.history(record).pivot(index="epoch", columns="seed", values=column), colour, line, label)


def _lines(ax: Axes, wide: pd.DataFrame, colour: str, line: str, label: str | None) -> None:
    """Columns thin, their mean thick."""
    if wide.shape[1] > 1:
        ax.plot(wide.index, wide, color=colour, ls=line, lw=0.6, alpha=0.45)
    marker = "o" if len(wide) == 1 else ""
    ax.plot(wide.index, wide.mean(axis=1), color=colour, ls=line, lw=2.2, label=label, marker=marker)


def _published_line(ax: Axes, table: pd.DataFrame, column: str, colour: str, label: str) -> None:
    if len(table):
        ax.plot(table.epoch, table[column], color=colour, ls="--", lw=1.2, zorder=1, label=label)


def _weights(record: Record, wanted: Callable[[str, np.ndarray], bool]) -> dict[str, np.ndarray]:
    """The sound replicas' weights [R, ...] that are `wanted`, in the network's order."""
    names = [name for name, w in record.weights.items() if wanted(name, w)]
    return {name: record.weights[name][record.sound] for name in sorted(names, key=lambda n: int(n.split(".")[1]))}


def _percent(mask: np.ndarray) -> float:
    return 100 * float(mask.sum()) / max(mask.size, 1)


def _weight_norms(record: Record) -> pd.DataFrame:
    return record.weight_norms[record.weight_norms.seed.isin([record.seeds[r] for r in record.sound])]


def _convolutions(record: Record) -> dict[str, np.ndarray]:
    return _weights(record, lambda name, w: name.endswith(".weight") and w.ndim == 5)


def _legend_beside(ax: Axes) -> None:
    if ax.get_legend_handles_labels()[0]:  # else matplotlib warns
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)


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


def _title(figure: Figure, records: Sequence[Record], text: str) -> None:
    name = f"{records[0].name}, " if len(records) == 1 else ""
    figure.suptitle(f"{_data(records)}: {name}{text}", x=0.01, ha="left")


def _data(records: Sequence[Record]) -> str:
    """Data set and protocol, which every figure names."""
    titles, protocols = ({r.dataset["title"]: 0 for r in records}, {r.trial.protocol: 0 for r in records})
    return f"{' and '.join(titles)} · {' and '.join(protocols)}"


def _some(ax: Axes, records: Sequence[Record]) -> bool:
    """False, and said on the panel, when there is nothing to draw."""
    if not records:
        ax.text(0.5, 0.5, "no records", ha="center", va="center", transform=ax.transAxes)
        ax.set_axis_off()
    return bool(records)


def _chosen(record: Record, count: int, numbers: Sequence[int] | None) -> pd.DataFrame:
    if numbers is None:
        return stats.misclassified(record)[:count]
    return stats.judge(record).iloc[list(numbers)]


def _which(numbers: Sequence[int] | None, count: int, chosen: pd.DataFrame) -> str:
    if numbers is not None:
        return "chosen by number"
    return "most seeds miss" if len(chosen) else "missed: none"


def _digit_grid(figure: Figure, record: Record, chosen: pd.DataFrame, images: np.ndarray) -> None:
    if not len(chosen):
        figure.text(0.5, 0.4, "no seed misses any test image", ha="center")
        return
    grid = figure.subplots(-(-len(chosen) // 5), 5, squeeze=False, subplot_kw=_BARE)
    for ax in grid.flat[len(chosen) :]:
        ax.remove()
    for ax, row in zip(grid.flat, chosen.itertuples(), strict=False):
        _digit(ax, images[row.image], row)
        ax.set_xlabel(f"image {row.image}", fontsize=8, labelpad=2)


def _digit(ax: Axes, image: np.ndarray, row) -> None:
    """One image with what the seeds took it for; the frame is red where most missed it, green where none did."""
    ax.imshow(image, vmin=0, vmax=255)
    arrow = f"{row.label} → {row.predicted}" if row.missed_by else f"{row.label} right"
    ax.set_title(f"{arrow}, {row.confidence:.0f} %\nmissed by {row.missed_by} of {row.seeds}", fontsize=8)
    colour = RED if 2 * row.missed_by > row.seeds else GREY if row.missed_by else GREEN
    for spine in ax.spines.values():
        spine.set(visible=True, color=colour, linewidth=2.5, linestyle="-" if row.missed_by else ":")
