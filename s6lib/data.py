"""Named data sets as uint8 tensors in memory, and whole-batch augmentation.

`load("mnist")` reads the files in `paths.data_dir()`, where torchvision fetches them to if they are missing;
`load("digits")` needs neither files nor network.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from PIL import Image
from torch import Tensor

from s6lib import paths
from s6lib.paths import DATASETS

MNIST_MEAN, MNIST_STD = 0.1307, 0.3081  # train_images.float().div(255).mean(), .std(), to four places
ANGLE_STEP = 0.02  # degrees; at the frame's corner a step moves a pixel by 0.007 of its width

MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
TITLES = {
    "digits": "digits (scikit-learn, 1,500 train / 297 test)",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "kmnist": "KMNIST",
    "qmnist": "QMNIST",
}


Parts = tuple[Tensor, Tensor, Tensor, Tensor]  # training images and labels, test images and labels


class DataError(Exception):
    """A data set that is unknown, missing or damaged; the message says what to do."""


@dataclass(frozen=True)
class Dataset:
    """Images uint8 [n, 28, 28] and labels int64 [n]; `mean` and `std` are of the training pixels in [0, 1]."""

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: float
    std: float
    soft_labels: Tensor | None = None  # float32 [n, 10]: a teacher's probabilities for the training images

    @property
    def title(self) -> str:
        return TITLES.get(self.name, self.name)

    @property
    def checksum(self) -> str:
        """SHA-256 over all images and labels, soft ones included, first 16 hexadecimal digits."""
        digest = hashlib.sha256()
        parts = (self.train_images, self.train_labels, self.test_images, self.test_labels, self.soft_labels)
        for part in (part for part in parts if part is not None):
            digest.update(part.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def describe(self) -> dict:
        """What a record keeps of it, JSON-plain."""
        return {
            "name": self.name,
            "title": self.title,
            "checksum": self.checksum,
            "train_images": len(self.train_images),
            "test_images": len(self.test_images),
        }

    def to(self, device: torch.device | str) -> "Dataset":
        moved: dict[str, Any] = {name: value.to(device) for name, value in vars(self).items() if torch.is_tensor(value)}
        return replace(self, **moved)

    def normalise(self, pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """(pixels / 255 - mean) / std."""
        return pixels.to(dtype).mul_(1 / (255 * self.std)).sub_(self.mean / self.std)


def load(name: str) -> Dataset:
    """The data set `name`. Raises DataError naming the file, what was expected and what was found."""
    if name not in DATASETS:
        raise DataError(f"unknown dataset {name!r}; valid: {', '.join(DATASETS)}")
    parts = _digits() if name == "digits" else _torchvision(name)
    if name == "mnist":
        return Dataset(name, *parts, MNIST_MEAN, MNIST_STD)
    pixels = parts[0].double() / 255  # no published constants: measured on the training images
    return Dataset(name, *parts, pixels.mean().item(), pixels.std().item())


def hold_out(dataset: Dataset, count: int) -> Dataset:
    """The same set with its last `count` training images in the place of the test images: for choosing settings."""
    if not 0 < count < len(dataset.train_images):
        raise DataError(f"hold_out: count={count} of {len(dataset.train_images)} training images")
    images, labels = dataset.train_images, dataset.train_labels
    parts = (images[:-count], labels[:-count], images[-count:], labels[-count:])
    return Dataset(f"{dataset.name}-held-out-{count}", *parts, dataset.mean, dataset.std)


def with_soft_labels(dataset: Dataset, probabilities: Tensor) -> Dataset:
    """The same set with a teacher's `probabilities` [n, 10] for its training images, as targets of distillation.

    Raises DataError unless there is a distribution for every training image. Hinton, Vinyals and Dean 2015,
    arXiv 1503.02531.
    """
    soft, expected = probabilities.float(), (len(dataset.train_images), 10)
    if soft.shape != expected or (soft < 0).any() or not torch.allclose(soft.sum(1), torch.ones(len(soft)), atol=1e-3):
        raise DataError(f"soft labels {tuple(soft.shape)}; expected distributions {expected}, rows that sum to 1")
    return replace(dataset, name=f"{dataset.name}-soft", soft_labels=soft)


def limit(dataset: Dataset, train: int, test: int) -> Dataset:
    """The first `train` and `test` images only; for trying things out."""
    first = dataset.train_images[:train], dataset.train_labels[:train]
    parts = (*first, dataset.test_images[:test], dataset.test_labels[:test])
    return Dataset(f"{dataset.name}-{train}-{test}", *parts, dataset.mean, dataset.std)


# --- digits --------------------------------------------------------------------------------------


def _digits() -> Parts:
    """scikit-learn's 1,797 8x8 digits, enlarged to 20x20 in a 28x28 frame as in MNIST; the last 297 for testing.

    Neighbours in the file are one writer's: a split at random would test on handwriting that was trained on.
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    small = torch.tensor(raw.images, dtype=torch.float64)[:, None]  # 0 .. 16
    large = F.interpolate(small, size=(20, 20), mode="bilinear", align_corners=False)
    hundredths = (100 * large).round().long()  # whole by nature; from here on every processor rounds alike
    images = F.pad((hundredths * 255 + 800) // 1600, (4, 4, 4, 4)).to(torch.uint8)[:, 0]
    labels = torch.tensor(raw.target, dtype=torch.int64)
    return images[:-297], labels[:-297], images[-297:], labels[-297:]


# --- files ---------------------------------------------------------------------------------------


def _torchvision(name: str) -> Parts:
    from torchvision import datasets

    root, folder = paths.data_dir(), DATASETS[name] or ""
    kind = getattr(datasets, folder)
    files = _files(kind, root / folder / "raw")
    if not all(path.exists() for path in files):
        _fetch(name, kind, root, files)
    _check_files(name, files)  # before any reader sees them: torchvision's stop in ten different ways
    train, test = kind(root, train=True), kind(root, train=False)
    labels = [split.targets if split.targets.ndim == 1 else split.targets[:, 0] for split in (train, test)]
    return train.data, labels[0].long(), test.data, labels[1].long()


def _files(kind: Any, folder: Path) -> list[Path]:
    """The files that torchvision reads for `kind`."""
    sources = kind.resources
    if isinstance(sources, dict):  # QMNIST
        sources = sources["train"] + sources["test"]
    return [folder / Path(address).stem for address, _ in sources]


def _check_files(name: str, files: list[Path]) -> None:
    for path in files:
        if path.exists():
            _check_file(path, MNIST_SHA256[path.name] if name == "mnist" else None)


def _fetch(name: str, kind: Any, root: Path, files: list[Path]) -> None:
    """Fetches what is missing, one process at a time: torchvision's own parallel first downloads corrupt each other."""
    folder = files[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):  # while waiting here, another process may have fetched them
            _check_files(name, files)
            for train in (True, False):
                kind(root, train=train, download=True)
    except (OSError, RuntimeError) as error:
        missing = ", ".join(path.name for path in files if not path.exists())
        reason = " ".join(str(error).split())
        raise DataError(
            f"{name}: {missing} not in {folder} and not to be fetched ({reason}). Put the data set's files "
            f"there, or set S6_DATA_DIR to the folder that holds {DATASETS[name]}/raw; DATASET=digits needs no files."
        ) from error


def _check_file(path: Path, sha256: str | None) -> None:
    """Raises DataError unless the file's size is what its idx header says and its SHA-256 is the known one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[3] not in (1, 2, 3):
            raise DataError(f"{path}: expected an idx file (starting 00 00), found {head.hex(' ') or 'nothing'}")
        shape = [int.from_bytes(file.read(4), "big") for _ in range(head[3])]
    expected = 4 + 4 * len(shape) + int(np.prod(shape)) * {8: 1, 9: 1, 11: 2, 12: 4}.get(head[2], 1)
    if size != expected:
        found = f"expected {expected:,} bytes for shape {shape}, found {size:,}"
        raise DataError(f"{path}: {found}; delete it to fetch it anew")
    if sha256 and (found := _sha256(path, path.stat().st_mtime_ns)) != sha256:
        raise DataError(f"{path}: expected SHA-256 {sha256}, found {found}; delete it to fetch it anew")


@cache
def _sha256(path: Path, changed: int) -> str:
    """The file's SHA-256, computed once per process and time of change."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- augmentation --------------------------------------------------------------------------------


@cache
def rotation_table(degrees: float) -> Tensor:
    """For each angle -degrees .. degrees in steps of 0.02: where every output pixel comes from, int64 [angles, 784].

    Made by letting Pillow rotate a picture of pixel numbers (nearest neighbour), so it is what torchvision's
    RandomRotation does to a PIL image; 784 stands for the fill.
    """
    numbers = Image.fromarray(np.arange(784, dtype=np.int32).reshape(28, 28))
    steps = round(degrees / ANGLE_STEP)
    rotated = [np.asarray(numbers.rotate(k * ANGLE_STEP, fillcolor=784)).ravel() for k in range(-steps, steps + 1)]
    return torch.tensor(np.stack(rotated), dtype=torch.int64)


def random_moves(count: int, rotation: float, shift: int, source: torch.Generator) -> Tensor:
    """`count` random moves of an image, uniform: a number of an angle within +-rotation, times those of shifts, plus
    the number of a shift by whole pixels within +-shift along each axis."""
    angles, shifts = 2 * round(rotation / ANGLE_STEP) + 1, (2 * shift + 1) ** 2
    return torch.randint(0, angles * shifts, (count,), generator=source)


class Augmenter:
    """Training batches of R replicas: pick, rotate, shift, normalise.

    Every pixel of a moved image comes from a place in the image with a black frame around it: one table says from where
    under each angle, and a shift moves all places alike. `rotate_after_normalise` fills corners with 0, the mean grey,
    as where the published `normalisers` study rotates images after normalising; otherwise they are black.
    """

    def __init__(self, dataset: Dataset, rotation: float, rotate_after_normalise: bool = False, shift: int = 0):
        self.dataset, self.grey, self.shift = dataset, rotate_after_normalise, shift
        images, side = dataset.train_images, 28 + 2 * shift
        framed = F.pad(images, (shift,) * 4).flatten(1)
        self.table = self.offsets = None
        if rotation or shift:
            beyond = shift * side + shift  # how far a shift moves a place: the fill stays black under every one
            self.fill = beyond + side * side + beyond
            self.pixels = F.pad(framed, (beyond, 2 * beyond + 1))
            self.table = framed_table(rotation_table(rotation), shift, self.fill).to(images.device)
            steps = torch.arange(-shift, shift + 1, device=images.device)
            self.offsets = (steps[:, None] * side + steps).flatten()
        else:
            self.pixels = framed

    def __call__(self, index: Tensor, moves: Tensor | None, dtype: torch.dtype = torch.float32) -> Tensor:
        """Images `index` [N, R], moved as `moves` [N, R] of `random_moves` say, as [N, R, 28, 28]."""
        pixels = self.pixels[index]  # [N, R, places]
        if self.table is None or self.offsets is None or moves is None:
            return self.dataset.normalise(pixels, dtype).unflatten(-1, (28, 28))
        origin = self.table[moves // len(self.offsets)]  # [N, R, 784]
        if self.shift:
            origin = origin + self.offsets[moves % len(self.offsets)][..., None]
        x = self.dataset.normalise(pixels.gather(-1, origin), dtype)
        if self.grey:
            x.masked_fill_(origin == self.fill, 0)
        return x.unflatten(-1, (28, 28))


def framed_table(table: Tensor, shift: int, fill: int) -> Tensor:
    """A rotation table's places in an image with a frame of `shift` black pixels, and as many black rows before it."""
    side = 28 + 2 * shift
    rows, columns = table // 28 + shift, table % 28 + shift
    return torch.where(table == 784, fill, shift * side + shift + rows * side + columns)
