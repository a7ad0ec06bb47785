"""The hardest test images of a run: which they are, their pixels where they are at hand, confirmed label errors."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from s6lib import data
from s6lib.evidence.measures import correct
from s6lib.plots.images import images_of
from s6lib.records import Record

SHOWN, ACROSS = 300, 20  # images on the page; tiles in a row of the sprite
HARDEST = "hardest.npz"  # beside a run's studies: uint8 images [k, 28, 28], their numbers and labels

# The 15 test images of MNIST whose label most of five raters refused, and the label that at least three of them gave
# instead (None: they did not agree). Northcutt, Athalye, Mueller 2021, arXiv 2103.14749; cleanlab/label-errors.
LABEL_ERRORS: dict[int, int | None] = {
    947: 9,
    1621: 6,
    1901: 4,
    2130: None,
    2462: 0,
    2597: 3,
    2654: None,
    3520: None,
    3558: 0,
    5937: 3,
    6651: 6,
    6783: 6,
    8527: None,
    9679: None,
    9729: 6,
}


def missed_share(records: Sequence[Record]) -> np.ndarray:
    """The share of seeds that misses each image, averaged over records of one data set, [n]."""
    shares = [(~correct(record)).mean(0) for record in records if record.non_diverged]
    return np.mean(shares, axis=0) if shares else np.zeros(len(records[0].labels))


def data_set(records: Sequence[Record], folder: Path, count: int = SHOWN) -> dict[str, Any]:
    """The hardest images of one data set, hardest first: numbers, labels, pixels, how many every seed of all misses."""
    first, missed = records[0], missed_share(records)
    numbers = np.array([n for n in np.argsort(-missed, kind="stable")[:count] if missed[n] > 0], int)
    pixels, why = pixels_of(first, numbers, folder)
    errors = LABEL_ERRORS if first.dataset["name"] == "mnist" else {}
    return {
        "title": first.dataset["title"],
        "test_images": len(first.labels),
        "numbers": numbers.tolist(),
        "labels": first.labels[numbers].tolist(),
        "errors": {int(n): errors[int(n)] for n in numbers if int(n) in errors},
        "always": int((missed == 1).sum()),
        "always_errors": int(sum(missed[n] == 1 for n in errors if n < len(missed))),
        "sprite": "" if pixels is None else sprite(pixels),
        "why": why,
    }


def guesses(record: Record, numbers: Sequence[int]) -> list[str]:
    """What every seed that did not diverge takes the images for: a digit per image, a text per seed."""
    return ["".join(map(str, row)) for row in record.predictions[record.non_diverged][:, list(numbers)]]


def pixels_of(record: Record, numbers: np.ndarray, folder: Path) -> tuple[np.ndarray | None, str]:
    """The images [k, 28, 28] from the run itself, else from the data set; None and why where they are not at hand."""
    if (own := stored(record, numbers, folder / HARDEST)) is not None:
        return own, ""
    try:
        return images_of(record)[numbers], ""
    except (data.DataError, OSError, ValueError) as error:
        return None, str(error)


def stored(record: Record, numbers: np.ndarray, path: Path) -> np.ndarray | None:
    """Images that the run holds; blank where it lacks one, None where it holds none of this data set."""
    try:
        with np.load(path) as file:
            held = {name: file[name] for name in file.files}
        images = held.pop(next(name for name, value in held.items() if value.ndim == 3))
        labels = held.pop(next(name for name in held if "label" in name))
        have = next(value for value in held.values() if value.shape == labels.shape)
        if not np.array_equal(record.labels[have], labels):
            return None  # of another data set
        place, blank = {int(n): k for k, n in enumerate(have)}, np.zeros((28, 28), np.uint8)
        return np.array([images[place[n]] if n in place else blank for n in numbers.tolist()])
    except (OSError, ValueError, KeyError, IndexError, StopIteration):
        return None


def sprite(pixels: np.ndarray) -> str:
    """All images in one PNG, ACROSS in a row, as a data address."""
    rows = max(1, -(-len(pixels) // ACROSS))
    tiles = np.zeros((rows * ACROSS, 28, 28), np.uint8)
    tiles[: len(pixels)] = pixels
    sheet = tiles.reshape(rows, ACROSS, 28, 28).transpose(0, 2, 1, 3).reshape(rows * 28, ACROSS * 28)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
