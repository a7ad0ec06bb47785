import dataclasses
import hashlib
import os
import re
import struct
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets.mnist
from PIL import Image
from torchvision.transforms.functional import rotate

from s6lib import data, paths
from s6lib.batch.state import data_fingerprint

MNIST_FOLDER = paths.data_dir() / "MNIST" / "raw"
needs_mnist = pytest.mark.skipif(
    not all((MNIST_FOLDER / name).exists() for name in data.MNIST_SHA256),
    reason=f"MNIST's files are not in {MNIST_FOLDER}; point S6_DATA_DIR at the folder that holds MNIST/raw",
)


# --- digits ---


def test_digits_shapes(digits):
    # 1,500 images for training, 297 for testing, 28x28 uint8 as MNIST's; labels int64.
    for images, labels, count in (
        (digits.train_images, digits.train_labels, 1500),
        (digits.test_images, digits.test_labels, 297),
    ):
        assert (images.shape, images.dtype) == ((count, 28, 28), torch.uint8)
        assert (labels.shape, labels.dtype) == ((count,), torch.int64)


def test_digits_stand_in_a_frame(digits):
    # As in MNIST the outer 4 pixels are black, and the brightest pixel is 255.
    images = torch.cat([digits.train_images, digits.test_images])
    inner = images[:, 4:24, 4:24]
    assert inner.sum(dtype=torch.int64) == images.sum(dtype=torch.int64)
    assert images.max() == 255


def test_digits_split_in_two_blocks(digits):
    # scikit-learn's 1,797 in their order, in which one writer's digits are neighbours: the last 297 are for testing.
    from sklearn.datasets import load_digits

    labels = [*digits.train_labels.tolist(), *digits.test_labels.tolist()]
    assert labels == load_digits().target.tolist()
    assert len(digits.test_labels) == 297
    assert torch.bincount(digits.test_labels).min() >= 27  # every class is there


def test_digits_pixels_by_hand(digits):
    # Bilinear: output pixel i reads the 8x8 image at 0.4 i - 0.3. In whole numbers (tenths), so that it is exact.
    from sklearn.datasets import load_digits

    small = load_digits().images[0].astype(int)

    def weights(i: int) -> list[tuple[int, int]]:
        low, part = divmod(max(4 * i - 3, 0), 10)
        return [(low, 10 - part), (min(low + 1, 7), part)]

    for i, j in ((0, 0), (3, 9), (10, 10), (19, 19), (7, 13), (12, 5)):
        hundredths = sum(a * b * small[k, m] for k, a in weights(i) for m, b in weights(j))
        assert digits.train_images[0, 4 + i, 4 + j] == (hundredths * 255 + 800) // 1600


def test_digits_are_fixed(digits):
    # The same bytes on every machine and with every version: records of different machines can be compared.
    assert digits.checksum == "a979e6769c1ec989"


def test_measured_constants(digits):
    # mean and std are those of the training pixels in [0, 1], so normalised training images have mean 0 and variance 1.
    x = digits.normalise(digits.train_images, torch.float64)
    assert abs(x.mean()) < 1e-10
    assert abs(x.std() - 1) < 1e-10


def test_normalise_formula(digits):
    # (pixels / 255 - mean) / std, without touching the pixels.
    pixels = digits.test_images[:3]
    expected = (pixels.double() / 255 - digits.mean) / digits.std
    torch.testing.assert_close(digits.normalise(pixels, torch.float64), expected, rtol=1e-12, atol=1e-12)
    assert pixels.dtype == torch.uint8


def test_checksum_sees_every_part(tiny):
    # One pixel or one label more or less, in training or test set, gives another checksum.
    names = ("train_images", "train_labels", "test_images", "test_labels")
    changed = []
    for name in names:
        part = getattr(tiny, name).clone()
        part.view(-1)[-1] += 1
        changed.append(dataclasses.replace(tiny, **{name: part}).checksum)
    assert len({tiny.checksum, *changed}) == 5


# --- parts of a data set ---


def test_hold_out(digits):
    # The last 200 training images stand where the test images were; the test images are nowhere.
    held = data.hold_out(digits, 200)
    assert torch.equal(held.train_images, digits.train_images[:-200])
    assert torch.equal(held.train_labels, digits.train_labels[:-200])
    assert torch.equal(held.test_images, digits.train_images[-200:])
    assert torch.equal(held.test_labels, digits.train_labels[-200:])
    assert (held.mean, held.std) == (digits.mean, digits.std)
    assert held.name == "digits-held-out-200"


@pytest.mark.parametrize("count", [0, -1, 1500, 9999])
def test_hold_out_refuses(digits, count):
    with pytest.raises(data.DataError, match=f"^hold_out: count={count} of 1500 training images"):
        data.hold_out(digits, count)


def test_limit(digits):
    # The first images of each, under a name of its own.
    few = data.limit(digits, 20, 7)
    assert torch.equal(few.train_images, digits.train_images[:20])
    assert torch.equal(few.test_labels, digits.test_labels[:7])
    assert few.name == "digits-20-7"
    assert few.checksum != digits.checksum


# --- files ---


def idx(array: np.ndarray) -> bytes:
    """An idx file's content: two zeros, type, rank, shape, values; all big-endian."""
    kind = {"uint8": 8, "int32": 12}[array.dtype.name]
    head = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def small_files(images: int = 6) -> dict[str, bytes]:
    """MNIST's four files with a handful of images, image k all of value k."""
    pixels = np.arange(images, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
    labels = np.arange(images, dtype=np.uint8)
    return {name: idx(pixels if "images" in name else labels) for name in data.MNIST_SHA256}


def _no_network(*_, **__):
    raise URLError("no network")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """MNIST's folder with four small sound files, whose checksums are the known ones; there is no network."""
    monkeypatch.setenv("S6_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", _no_network)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in small_files().items():
        (raw / name).write_bytes(content)
        monkeypatch.setitem(data.MNIST_SHA256, name, hashlib.sha256(content).hexdigest())
    return raw


def message_of(name: str = "mnist") -> str:
    with pytest.raises(data.DataError) as error:
        data.load(name)
    return str(error.value)


def test_sound_files_load(folder):
    # Images and labels as in the files, under MNIST's constants.
    mnist = data.load("mnist")
    assert mnist.train_images[:, 0, 0].tolist() == mnist.test_labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert (mnist.mean, mnist.std) == (0.1307, 0.3081)
    assert mnist.train_images.shape == (6, 28, 28)


@pytest.mark.parametrize("name", data.MNIST_SHA256)
def test_truncated_file(folder, name):
    # A file that stops early is named, with the size it should have and the size it has.
    path = folder / name
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-3])
    assert message_of().startswith(f"{path}: expected {size:,} bytes for shape [6")
    assert f"found {size - 3:,}; delete it" in message_of()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"<html>moved</html>", "found 3c 68 74 6d"),
        (b"\x1f\x8b\x08\x00" + bytes(50), "found 1f 8b 08 00"),  # still compressed
        (b"", "found nothing"),
        (b"\0\0\x08\x03\0", "found 5"),
        (b"\0\0\x0a\x03" + bytes(60), "found 64"),  # a type that torchvision's reader stumbles over
    ],
)
def test_foreign_file(folder, content, found):
    # Something else under the right name gets a message, never a crash in a reader.
    path = folder / "t10k-images-idx3-ubyte"
    path.write_bytes(content)
    assert message_of().startswith(f"{path}: expected ")
    assert found in message_of()


def test_wrong_checksum(folder):
    # A well-formed file with another content: both checksums are in the message.
    path = folder / "train-labels-idx1-ubyte"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    expected, found = data.MNIST_SHA256[path.name], hashlib.sha256(content).hexdigest()
    assert message_of() == f"{path}: expected SHA-256 {expected}, found {found}; delete it to fetch it anew"


def test_missing_files_without_a_network(folder):
    # What is missing, where to put it, why it could not be fetched, and what needs no files at all.
    for path in folder.iterdir():
        path.unlink()
    message = message_of()
    for part in (*data.MNIST_SHA256, str(folder), "no network", "S6_DATA_DIR", "DATASET=digits needs no files"):
        assert part in message
    assert "\n" not in message


def test_one_missing_file(folder):
    # Only the missing one is named.
    (folder / "t10k-labels-idx1-ubyte").unlink()
    assert message_of().startswith(f"mnist: t10k-labels-idx1-ubyte not in {folder} ")


def test_folder_that_cannot_be_made(tmp_path, monkeypatch):
    # S6_DATA_DIR below a plain file: the same message, with the reason.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("S6_DATA_DIR", str(tmp_path / "file"))
    assert "Not a directory" in message_of("kmnist")


def test_checksum_is_computed_once_and_remembered(folder, monkeypatch):
    # The second load hashes nothing; a file that was touched is hashed anew.
    hashed, file_digest = [], hashlib.file_digest
    record = lambda file, kind: hashed.append(Path(file.name).name) or file_digest(file, kind)  # noqa: E731
    monkeypatch.setattr(hashlib, "file_digest", record)
    data.load("mnist")
    assert sorted(hashed) == sorted(data.MNIST_SHA256)
    data.load("mnist")
    assert len(hashed) == 4
    touched = folder / "train-images-idx3-ubyte"
    os.utime(touched, ns=(0, 0))
    data.load("mnist")
    assert hashed[4:] == [touched.name]


def test_data_folder_that_cannot_be_written(folder, monkeypatch):
    # Reading writes nothing, so a read-only folder works.
    def refuse(*_, **__):
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "write_text", refuse)
    before = sorted(folder.iterdir())
    assert len(data.load("mnist").train_images) == 6
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(("name", "kind"), [("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_relatives_of_mnist(tmp_path, monkeypatch, name, kind):
    # The same files in another folder; constants are measured on the training images.
    monkeypatch.setenv("S6_DATA_DIR", str(tmp_path))
    raw = tmp_path / kind / "raw"
    raw.mkdir(parents=True)
    for file, content in small_files().items():
        (raw / file).write_bytes(content)
    loaded = data.load(name)
    pixels = np.arange(6).repeat(784) / 255
    assert loaded.test_labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert (loaded.mean, loaded.std) == pytest.approx((pixels.mean(), pixels.std(ddof=1)))


def test_qmnist(tmp_path, monkeypatch):
    # Labels are the first of eight columns.
    monkeypatch.setenv("S6_DATA_DIR", str(tmp_path))
    raw = tmp_path / "QMNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "test"):
        (raw / f"qmnist-{part}-images-idx3-ubyte").write_bytes(small_files()["train-images-idx3-ubyte"])
        labels = np.arange(48, dtype=np.int32).reshape(6, 8) % 10
        (raw / f"qmnist-{part}-labels-idx2-int").write_bytes(idx(labels))
    qmnist = data.load("qmnist")
    assert qmnist.train_labels.tolist() == [0, 8, 6, 4, 2, 0]
    assert qmnist.test_images[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_files_of_another_folder_have_their_own_fingerprint(tmp_path):
    # a worker's own S6_DATA_DIR may be elsewhere than that of the batch
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    assert data_fingerprint("mnist", str(tmp_path / "nowhere")) is None
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"some")
    assert data_fingerprint("mnist", str(tmp_path)) not in (None, data_fingerprint("mnist"))


def test_unknown_dataset():
    message = "unknown dataset 'cifar'; valid: digits, mnist, fashion_mnist, kmnist, qmnist"
    with pytest.raises(data.DataError, match=f"^{re.escape(message)}$"):
        data.load("cifar")


def test_data_dir(monkeypatch):
    # S6_DATA_DIR, the repository's `data` where it is unset or empty, from whatever folder; ~ is understood.
    monkeypatch.setenv("S6_DATA_DIR", "~/sets")
    assert paths.data_dir() == Path.home() / "sets"
    monkeypatch.chdir(Path.home())
    monkeypatch.setenv("S6_DATA_DIR", "sets")  # a notebook's folder is not where the variable was set
    assert paths.data_dir() == paths.home() / "sets"
    monkeypatch.setenv("S6_DATA_DIR", "~nobody-of-that-name/sets")
    with pytest.raises(OSError, match="S6_DATA_DIR=~nobody-of-that-name/sets: no such user's home"):
        paths.data_dir()
    for clear in (lambda: monkeypatch.setenv("S6_DATA_DIR", ""), lambda: monkeypatch.delenv("S6_DATA_DIR")):
        clear()
        assert paths.data_dir() == Path(__file__).resolve().parents[1] / "data"


@needs_mnist
def test_mnist_constants():
    # Mean and standard deviation of the training pixels in [0, 1], recomputed from counts of the 256 values.
    mnist = data.load("mnist")
    counts = torch.stack([torch.bincount(part.flatten(), minlength=256) for part in mnist.train_images.split(5000)])
    counts, values = counts.sum(0).double(), torch.arange(256).double() / 255
    mean = (counts * values).sum() / counts.sum()
    std = ((counts * (values - mean) ** 2).sum() / (counts.sum() - 1)).sqrt()
    assert (round(mean.item(), 4), round(std.item(), 4)) == (data.MNIST_MEAN, data.MNIST_STD) == (mnist.mean, mnist.std)
    assert (len(mnist.train_images), len(mnist.test_images)) == (60_000, 10_000)


# --- rotation ---


def turned(dataset: data.Dataset, degrees: float, row: int, **options) -> torch.Tensor:
    """Training image 0, turned by row `row` of the table for +-7 degrees, normalised: float64 [28, 28]."""
    augment = data.Augmenter(dataset, degrees, **options)
    return augment(torch.zeros(1, 1, dtype=torch.int64), torch.full((1, 1), row), torch.float64)[0, 0]


@pytest.mark.parametrize("row", [0, 1, 100, 340, 350, 351, 500, 699, 700])
def test_rotation_is_torchvision_s(digits, row):
    # Row k turns by -7 + 0.02 k degrees: pixel for pixel what torchvision does to a PIL image.
    picture = Image.fromarray(digits.train_images[0].numpy())
    expected = np.asarray(rotate(picture, (row - 350) * 0.02, fill=0))
    expected = digits.normalise(torch.tensor(expected), torch.float64)
    torch.testing.assert_close(turned(digits, 7.0, row), expected, rtol=1e-12, atol=1e-12)


def test_middle_row_does_not_turn(digits):
    expected = digits.normalise(digits.train_images[0], torch.float64)
    torch.testing.assert_close(turned(digits, 7.0, 350), expected, rtol=1e-12, atol=1e-12)


def test_rotation_goes_both_ways(digits):
    # A positive angle turns anticlockwise, as torchvision's and Pillow's do: a bar up moves left.
    bar = torch.zeros(1, 28, 28, dtype=torch.uint8)
    bar[0, :5, 13:15] = 255
    dataset = dataclasses.replace(digits, train_images=bar)
    columns = [turned(dataset, 7.0, row).mean(0).argmax() for row in (0, 700)]
    assert columns[0] > 13 > columns[1]


@pytest.mark.parametrize("after", [False, True])
def test_corners_are_filled(digits, after):
    # Rotation before normalising leaves black corners; after normalising, mean grey, which is 0.
    white = dataclasses.replace(digits, train_images=torch.full((1, 28, 28), 255, dtype=torch.uint8))
    x = turned(white, 7.0, 700, rotate_after_normalise=after)
    black, bright = -digits.mean / digits.std, (1 - digits.mean) / digits.std
    assert x[0, 0].item() == pytest.approx(0 if after else black)
    assert x[14, 14].item() == pytest.approx(bright)
    assert len(x.unique()) == 2


def test_no_rotation(tiny):
    # Images as they are, each replica its own.
    index = torch.tensor([[0, 5], [3, 3]])
    x = data.Augmenter(tiny, 0.0)(index, None, torch.float64)
    assert torch.equal(x, tiny.normalise(tiny.train_images[index], torch.float64))


def test_every_replica_gets_its_own_images_and_angles(tiny):
    # Position [n, r] of a batch is image index[n, r] turned by angles[n, r].
    augment = data.Augmenter(tiny, 7.0)
    index, angles = torch.tensor([[0, 5], [3, 3]]), torch.tensor([[0, 700], [350, 13]])
    x = augment(index, angles)
    for n in range(2):
        for r in range(2):
            assert torch.equal(x[n, r], augment(index[n : n + 1, r : r + 1], angles[n : n + 1, r : r + 1])[0, 0])


@pytest.mark.parametrize("move", range(25))
def test_shift_moves_the_whole_image(tiny, move):
    # shifts by -2 .. 2 along each axis, by whole pixels; black comes in from outside
    augment = data.Augmenter(tiny, 0.0, shift=2)
    down, right = 2 - move // 5, 2 - move % 5
    framed = torch.nn.functional.pad(tiny.train_images[0], (2, 2, 2, 2))
    expected = framed[2 - down : 30 - down, 2 - right : 30 - right]
    x = augment(torch.zeros(1, 1, dtype=torch.int64), torch.full((1, 1), move), torch.float64)[0, 0]
    torch.testing.assert_close(x, tiny.normalise(expected, torch.float64), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("angle", [0, 350, 511, 700])
def test_rotation_and_shift_together(tiny, angle):
    # the middle shift is none, and a shift moves the rotated image's content, its corners staying black
    augment, index = data.Augmenter(tiny, 7.0, shift=1), torch.zeros(1, 1, dtype=torch.int64)
    x = augment(index, torch.full((1, 1), angle * 9 + 4), torch.float64)[0, 0]
    torch.testing.assert_close(x, turned(tiny, 7.0, angle), rtol=1e-12, atol=1e-12)
    white = data.Augmenter(
        dataclasses.replace(tiny, train_images=torch.full_like(tiny.train_images, 255)), 7.0, shift=1
    )
    corners = white(index, torch.full((1, 1), 700 * 9), torch.float64)[0, 0]
    assert corners[0, 0].item() == pytest.approx(-tiny.mean / tiny.std)


def test_shifts_are_uniform():
    moves = data.random_moves(9_000, 0.0, 1, torch.Generator().manual_seed(0))
    counts = moves.bincount()
    assert len(counts) == 9
    assert ((counts - 1000).abs() < 130).all()  # four standard deviations


def test_angles_are_uniform():
    # All 701 rows for +-7 degrees occur, none else, about equally often (mean 100, 5 standard deviations).
    rows = data.random_moves(70_100, 7.0, 0, torch.Generator().manual_seed(0))
    counts = torch.bincount(rows)
    assert len(counts) == len(data.rotation_table(7.0)) == 701
    assert (counts - 100).abs().max() <= 50
