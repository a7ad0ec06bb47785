"""The hardest test images of a run, in `hardest.npz` beside its studies: figures show digits without the data set.

images    uint8 [k, 28, 28]
numbers   int64 [k]   their places among the test images, rising
labels    uint8 [k]
checksum  of the data set that the numbers count in
"""

import contextlib
import io
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from s6lib import data, paths
from s6lib.records.files import replace_file, unpack
from s6lib.records.record import Record, RecordError

NAME, COUNT, OF_ONE, MOST = "hardest.npz", 300, 25, 10_000


def hardest(record: Record) -> dict[int, np.ndarray]:
    """Number -> pixels [28, 28] of the images kept with the record's run or the reference run; {} where none were."""
    folders = list(record.path.absolute().parents[:3]) if record.path else []
    for folder in [*folders, paths.reference()]:
        try:
            kept, checksum = read(folder / NAME)
        except RecordError:
            continue  # a figure goes on without
        if checksum == record.dataset["checksum"]:
            return kept
    return {}


def read(file: Path) -> tuple[dict[int, np.ndarray], str]:
    """The images in a `hardest.npz` and their data set's checksum. Raises RecordError naming what is wrong."""
    try:
        return _read(file, file.stat().st_mtime_ns)
    except Exception as error:  # whatever a reader makes of damage
        raise RecordError(f"{file}: no usable images ({type(error).__name__}: {error})") from error


@cache
def _read(file: Path, _changed: int) -> tuple[dict[int, np.ndarray], str]:
    limits = {"images.npy": 784 * MOST, "numbers.npy": 8 * MOST, "labels.npy": MOST, "checksum.npy": 4000}
    arrays = unpack(file, limits)
    images, numbers, labels, checksum = (arrays[name.removesuffix(".npy")] for name in limits)
    if images.dtype != np.uint8 or images.shape != (len(numbers), 28, 28) or numbers.dtype != np.int64:
        raise ValueError(f"images are {images.dtype} {images.shape} for {numbers.dtype} {numbers.shape}")
    if labels.dtype != np.uint8 or labels.shape != numbers.shape or labels.max(initial=0) > 9 or checksum.shape:
        raise ValueError("labels are not a digit per image, or the checksum is not one")
    return dict(zip(numbers.tolist(), images, strict=True)), str(checksum)


def images_of(record: Record) -> np.ndarray:
    """The test images [n, 28, 28] the record's answers are to. Raises DataError when they cannot be had."""
    name, *rest = record.dataset["name"].split("-")
    dataset, numbers = data.load(name), [int(word) for word in rest if word.isdecimal()]
    if rest[:2] == ["held", "out"] and len(numbers) == 1:
        dataset = data.hold_out(dataset, *numbers)
    elif len(numbers) == 2:
        dataset = data.limit(dataset, *numbers)
    if dataset.checksum != record.dataset["checksum"]:
        raise data.DataError(f"{record.dataset['name']}: other images than the record was made with (checksum differs)")
    return dataset.test_images.numpy()


def write(folder: Path, records: Sequence[Record], images: np.ndarray) -> Path:
    """Keeps those of the test images [n, 28, 28] that `chosen` names; an older file is replaced, `folder` is a run's.

    All `records` are of one data set.
    """
    numbers = chosen(records)
    arrays = {"images": images[numbers], "numbers": numbers, "labels": records[0].labels[numbers].astype(np.uint8)}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays, checksum=np.array(records[0].dataset["checksum"]))
    replace_file(folder / NAME, content.getvalue())
    return folder / NAME


def keep(records: Sequence[Record], folder: Path) -> None:
    """Writes the images of a run that has just been summarised; not of the committed one, nor without data."""
    if folder.resolve() != paths.reference().resolve() and (alike := of_one_data_set(records)):
        with contextlib.suppress(data.DataError, OSError):
            write(folder, alike, images_of(alike[0]))


def chosen(records: Sequence[Record]) -> np.ndarray:
    """The numbers of the 300 images that trials miss most, by the sum of misses and by the mean share of seeds, and of
    every trial's own 25, rising: figures rank by seeds, the page by trials."""
    missed = [(r.predicted[r.non_diverged] != r.labels).sum(0) for r in records]
    both = _most(np.sum(missed, axis=0), COUNT), _most(missed_share(records), COUNT)
    return np.unique(np.concatenate([*both, *(_most(counts, OF_ONE) for counts in missed)]))


def missed_share(records: Sequence[Record]) -> np.ndarray:
    """The share of seeds that misses each image, averaged over records of one data set, [n]."""
    shares = [(r.predicted[r.non_diverged] != r.labels).mean(0) for r in records if r.non_diverged]
    return np.mean(shares, axis=0) if shares else np.zeros(len(records[0].labels))


def _most(missed: np.ndarray, count: int) -> np.ndarray:
    """The images missed as much as the `count`-th is, or more: a figure may break ties as it likes."""
    least = np.sort(missed)[::-1][: min(count, len(missed))][-1]
    return np.flatnonzero((missed >= least) & (missed > 0))


def of_one_data_set(records: Sequence[Record]) -> list[Record]:
    """Those of the data set that most records are of."""
    counts = Counter(record.dataset["checksum"] for record in records)
    return [record for record in records if counts and record.dataset["checksum"] == counts.most_common(1)[0][0]]
