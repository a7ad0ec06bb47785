"""The digits themselves: samples, those misclassified, and what they were taken for."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from s6lib.evidence import images as per_image
from s6lib.evidence import measures
from s6lib.plots.shared import data_title, some, title
from s6lib.records import Record
from s6lib.studies.base import GREEN, GREY, RED


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
    title(figure, [record], f"test images {_which(numbers, count, chosen)}{trouble}")
    _digit_grid(figure, record, chosen, images)
    return figure


def grids_side_by_side(records: Sequence[Record], count: int = 10, images: np.ndarray | None = None) -> Figure:
    """The `count` test images that all trials together miss most, a row per image and a column per trial."""
    numbers = per_image.commonly_missed(records, count)
    across = max(len(records), 1)
    size = (1.45 * across + 0.7, 1.8 * max(len(numbers), 1) + 0.8)
    figure, grid = plt.subplots(max(len(numbers), 1), across, figsize=size, squeeze=False, subplot_kw=_BARE)
    if not some(grid[0, 0], records):
        return figure
    shown, trouble = _images(records[0], images)
    text = f"{data_title(records)}\nthe {len(numbers)} test images all trials miss most{trouble}"
    figure.suptitle(text, x=0.01, ha="left")
    for column, record in zip(grid.T, records, strict=True):
        table = per_image.per_image_errors(record).iloc[numbers]
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
    guesses = record.predictions[record.non_diverged]
    np.add.at(counts, (np.broadcast_to(record.labels, guesses.shape), guesses), 1)
    np.fill_diagonal(counts, 0)
    picture = ax.imshow(counts, cmap="Blues", vmin=0, vmax=max(counts.max(), 1))
    for i, j in np.argwhere(counts):
        ink = "white" if 2 * counts[i, j] > counts.max() else "black"
        ax.text(j, i, counts[i, j], ha="center", va="center", fontsize=8, color=ink)
    bar = ax.figure.colorbar(picture, ax=ax, shrink=0.8, ticks=MaxNLocator(integer=True))
    bar.set_label(f"errors (images, summed over {measures.who(record)})")
    ax.set(xlabel="predicted digit (class)", ylabel="label (class)", xticks=range(10), yticks=range(10))
    ax.set_title(f"{data_title([record])}\n{record.name}, {counts.sum()} errors", loc="left")
    ax.grid(visible=False)
    return ax


_BARE = {"xticks": [], "yticks": []}


def _chosen(record: Record, count: int, numbers: Sequence[int] | None) -> pd.DataFrame:
    if numbers is None:
        return per_image.misclassified(record)[:count]
    return per_image.per_image_errors(record).iloc[list(numbers)]


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
