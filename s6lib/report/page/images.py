"""The hardest test images of a run: which they are, their pixels where they are at hand, confirmed label errors."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from s6lib.evidence.images import LABEL_ERRORS
from s6lib.plots.images import at_hand
from s6lib.records import Record
from s6lib.records.images import COUNT, missed_share

ACROSS = 20  # tiles in a row of the sprite
BLANK = np.zeros((28, 28), np.uint8)  # where some images are at hand and this is not


def data_set(records: Sequence[Record]) -> dict[str, Any]:
    """The hardest images of one data set, hardest first: numbers, labels, pixels, how many every seed of all misses."""
    first, missed = records[0], missed_share(records)
    numbers = np.array([n for n in np.argsort(-missed, kind="stable")[:COUNT] if missed[n] > 0], int)
    pixels, why = at_hand(first, None, numbers)
    errors = LABEL_ERRORS if first.dataset["name"] == "mnist" else {}
    return {
        "title": first.dataset["title"],
        "test_images": len(first.labels),
        "numbers": numbers.tolist(),
        "labels": first.labels[numbers].tolist(),
        "errors": {int(n): errors[int(n)] for n in numbers if int(n) in errors},
        "always": int((missed == 1).sum()),
        "always_errors": int(sum(missed[n] == 1 for n in errors if n < len(missed))),
        "sprite": sprite([pixels.get(n, BLANK) for n in numbers.tolist()]) if pixels else "",
        "why": "" if pixels else why,
    }


def guesses(record: Record, numbers: Sequence[int]) -> list[str]:
    """What every seed that did not diverge takes the images for: a digit per image, a text per seed."""
    return ["".join(map(str, row)) for row in record.predicted[record.non_diverged][:, list(numbers)]]


def sprite(pixels: Sequence[np.ndarray]) -> str:
    """All images in one PNG, ACROSS in a row, as a data address."""
    rows = max(1, -(-len(pixels) // ACROSS))
    tiles = np.zeros((rows * ACROSS, 28, 28), np.uint8)
    tiles[: len(pixels)] = pixels
    sheet = tiles.reshape(rows, ACROSS, 28, 28).transpose(0, 2, 1, 3).reshape(rows * 28, ACROSS * 28)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
