"""The digits themselves: samples, those misclassified, and what they are taken for."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from s6lib import data
from s6lib.evidence.controls import changed
from s6lib.evidence.images import answers_by_label, commonly_missed, misclassified, per_image_errors
from s6lib.evidence.measures import who
from s6lib.plots.style import data_title, panel, said_empty, say, title
from s6lib.records import Record, counted
from s6lib.records.images import hardest, images_of
from s6lib.studies.base import GREEN, GREY, RED
from s6lib.training.finished import NotAtHand

BARE: dict = {"xticks": [], "yticks": []}
Images = dict[int, np.ndarray]  # number of a test image -> pixels [28, 28]


def samples(
    dataset: data.Dataset, rotation: float, rotate_after_normalise: bool = False, count: int = 10, shift: int = 0
) -> Figure:
    """The first `count` training images as loaded, and twice as a replica gets them: rotated and normalised."""
    if isinstance(dataset, NotAtHand):
        figure, ax = plt.subplots(figsize=(8, 0.8))
        say(ax, f"the images of {dataset.title} are not at hand")
        ax.set_axis_off()
        return figure
    augment = data.Augmenter(dataset, rotation, rotate_after_normalise, shift)
    index, source = torch.arange(count)[:, None].expand(-1, 2), torch.Generator().manual_seed(0)
    moves = data.random_moves(2 * count, rotation, shift, source).view(count, 2) if rotation or shift else None
    drawn = augment(index, moves).transpose(0, 1).numpy()  # [2, count, 28, 28]
    ends = f"({drawn.min():.2f} to {drawn.max():.2f})"
    names = ["as loaded\n(0 to 255)", *(f"as trained on,\ndraw {k}\n{ends}" for k in (1, 2))]
    figure, grid = plt.subplots(3, count, figsize=(0.85 * count + 1.2, 3.3), squeeze=False, subplot_kw=BARE)
    corners = "after normalising: corners mean grey" if rotate_after_normalise else "corners filled with black"
    how = f"rotated by up to {rotation:g}° either way, {corners}" if rotation else "not rotated"
    how += f", shifted by up to {counted(shift, 'pixel')}" if shift else ""
    figure.suptitle(f"{dataset.title}: {how}", x=0.01, ha="left")
    for line, images, name in zip(grid, (dataset.train_images[:count].numpy(), *drawn), names, strict=True):
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
    [n, 28, 28]; without them those kept with the run are shown, or the record's data set is loaded, see `at_hand`.
    """
    chosen = misclassified(record)[:count] if numbers is None else per_image_errors(record).iloc[list(numbers)]
    down = max(-(-len(chosen) // 5), 1)
    figure, grid = plt.subplots(down, 5, figsize=(9, 0.6 + 2.15 * down), squeeze=False, subplot_kw=BARE)
    shown, why = at_hand(record, images, chosen.image)
    which = "chosen by number" if numbers is not None else "most seeds miss" if len(chosen) else "missed: none"
    title(figure, [record], f"test images {which}{lacking(why)}")
    for ax, row in zip(grid.flat, chosen.itertuples(), strict=False):
        draw_digit(ax, shown, row)
        ax.set_xlabel(f"image {row.image}", fontsize=8, labelpad=2)
    for ax in grid.flat[len(chosen) :]:
        ax.remove()
    if not len(chosen):
        figure.text(0.5, 0.4, "no seed misses any test image", ha="center")
    return figure


def grids_side_by_side(records: Sequence[Record], count: int = 10, images: np.ndarray | None = None) -> Figure:
    """The `count` test images that all trials together miss most, a row per image and a column per trial."""
    numbers = commonly_missed(records, count)
    across, down = max(len(records), 1), max(len(numbers), 1)
    size = (1.45 * across + 0.7, 1.8 * down + 0.8)
    figure, grid = plt.subplots(down, across, figsize=size, squeeze=False, subplot_kw=BARE)
    if said_empty(grid[0, 0], records):
        return figure
    shown, why = at_hand(records[0], images, numbers)
    text = f"{data_title(records)}\nthe {len(numbers)} test images all trials miss most{lacking(why)}"
    figure.suptitle(text, x=0.01, ha="left")
    for column, record in zip(grid.T, records, strict=True):
        for ax, row in zip(column, per_image_errors(record).iloc[numbers].itertuples(), strict=False):
            draw_digit(ax, shown, row)
        name = {"xycoords": "axes fraction", "ha": "center", "fontweight": "bold", "fontsize": 9}
        column[0].annotate(record.name, (0.5, 1.38), **name)
    for ax, number in zip(grid[:, 0], numbers, strict=False):
        ax.set_ylabel(f"image {number}", fontsize=8)
    return figure


def changed_images(
    record: Record, control: Record | None, count: int = 5, images: np.ndarray | None = None
) -> Figure | None:
    """The test images on which a trial and its control differ most: above, missed by fewer seeds than under the
    control; below, by more. Nothing without a control."""
    if control is None:
        return None
    table = changed(record, control, count)
    figure, grid = plt.subplots(2, count, figsize=(1.8 * count + 0.4, 5.2), squeeze=False, subplot_kw=BARE)
    shown, why = at_hand(record, images, table.image)
    text = f"{data_title([record])}: {record.name} against {control.name}, images on which they differ most"
    figure.suptitle(text + lacking(why), x=0.01, ha="left")
    ours, theirs = per_image_errors(record), per_image_errors(control)
    halves = (table[table.gain > 0], GREEN, "missed less often"), (table[table.gain < 0], RED, "missed more often")
    for line, (rows, colour, words) in zip(grid, halves, strict=True):
        for ax, number in zip(line, rows.image, strict=False):
            a, b = ours.iloc[number], theirs.iloc[number]
            draw_tile(ax, shown, number, colour)
            missed = f"missed by {a.missed_by:.0f} of {a.seeds:.0f}\n{control.name}: {b.missed_by:.0f} of {b.seeds:.0f}"
            ax.set_title(f"image {number}, a {a.label:.0f}\n{missed}", fontsize=8)
        for ax in line[len(rows) :]:
            ax.set_axis_off()
        say(line[0], "none") if rows.empty else line[0].set_ylabel(words, fontsize=9)
    return figure


def draw_tile(ax: Axes, images: Images, number: int, colour: str, line: str = "-") -> None:
    """One image, or a note that it is not available, in a coloured frame."""
    if number not in images:
        ax.set_facecolor("#eeeeee")
        ax.set_aspect("equal")
        say(ax, "image not\nat hand")
    else:
        ax.imshow(images[number], vmin=0, vmax=255)
    for spine in ax.spines.values():
        spine.set(visible=True, color=colour, linewidth=2.5, linestyle=line)


def draw_digit(ax: Axes, images: Images, row) -> None:
    """One image with what the seeds take it for; the frame is red where most miss it, green where none does."""
    colour = RED if 2 * row.missed_by > row.seeds else GREY if row.missed_by else GREEN
    draw_tile(ax, images, row.image, colour, "-" if row.missed_by else ":")
    arrow = f"{row.label} → {row.predicted}" if row.missed_by else f"{row.label} right"
    ax.set_title(f"{arrow}, {row.confidence:.0f} %\nmissed by {row.missed_by} of {row.seeds}", fontsize=8)


def at_hand(record: Record, images: np.ndarray | None, numbers: Iterable[int]) -> tuple[Images, str]:
    """The test images `numbers`: as given, as kept beside the run, or as loaded; else those kept, and why not all."""
    wanted = [int(number) for number in numbers]
    if images is not None:
        return {number: images[number] for number in wanted}, ""
    kept = hardest(record)
    if set(wanted) <= set(kept):
        return kept, ""
    try:
        loaded = images_of(record)
        return {number: loaded[number] for number in wanted}, ""
    except (data.DataError, OSError, ValueError) as error:
        return kept, str(error)


def lacking(why: str) -> str:
    return f"\nimages not at hand: {why[:90]}" if why else ""


@panel(6, 5.2)
def confusion(records: Sequence[Record], *, ax: Axes) -> str:
    """Errors only, summed over seeds: how often label i is taken for j."""
    (record,) = records
    counts = answers_by_label(record)
    np.fill_diagonal(counts, 0)
    bar = {"label": f"errors (images, summed over {who(record)})", "shrink": 0.8, "ticks": MaxNLocator(integer=True)}
    text = pd.DataFrame(counts).map(lambda n: str(n) if n else "")
    look = {"annot_kws": {"fontsize": 8}, "cmap": "Blues", "square": True, "vmin": 0, "vmax": max(counts.max(), 1)}
    sns.heatmap(counts, annot=text, fmt="", cbar_kws=bar, ax=ax, **look)
    ax.set(xlabel="predicted digit (class)", ylabel="label (class)")
    return f"{record.name}, {counts.sum()} errors"
