"""What `notebooks/00_normalisation_by_hand` needs: who shares a statistic, grey levels of an image, their pictures.

Feature maps are [N, C, H, W]. Nothing here knows a normaliser's axes: `sharing` measures them on the normaliser itself.
"""

import copy

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor, nn

from s6lib.studies.base import BLUE, COLOURS, GREEN, GREY, RED, SKY

SHARED, CHOSEN, APART = SKY, RED, "#FFFFFF"

# --- who shares a statistic ----------------------------------------------------------------------


def sharing(norm: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """bool [E, E] for the E = N*C*H*W elements: does input element j move output element i?

    The Jacobian of a copy of `norm`, in the mode it is in, at one random positive input (so that a threshold
    at 0 is not in the way), where it is not zero.
    """
    probe = copy.deepcopy(norm).double()
    x = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    jacobian = torch.autograd.functional.jacobian(probe, x)
    return jacobian.reshape(x.numel(), x.numel()).abs() > 1e-9


def partition(norm: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """int64 [N, C, H, W]: elements with the same number share their statistics; numbered in order of appearance."""
    first = sharing(norm, shape).int().argmax(1)  # the first element each one shares with
    return first.unique(return_inverse=True)[1].reshape(shape)


def statistics(x: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
    """Population mean and variance over each part, laid out like x: every element sees those of its own part."""
    index, flat = parts.flatten(), x.flatten()
    size = index.bincount()
    mean = torch.zeros(len(size), dtype=x.dtype).index_add(0, index, flat) / size
    var = torch.zeros(len(size), dtype=x.dtype).index_add(0, index, (flat - mean[index]) ** 2) / size
    return mean[index].view_as(x), var[index].view_as(x)


def reach(norm: nn.Module, shape: tuple[int, ...]) -> dict[str, int]:
    """How many statistics there are, and over how many images, channels and pixels each one averages."""
    parts = partition(norm, shape)
    own = parts == parts[0, 0, 0, 0]
    extent = {"images": own.any(3).any(2).any(1), "channels": own.any(3).any(2).any(0), "pixels": own.any(1).any(0)}
    return {"statistics": int(parts.max()) + 1} | {name: int(hit.sum()) for name, hit in extent.items()}


# --- pictures of feature maps --------------------------------------------------------------------


def cube(ax: Axes, norm: nn.Module, shape: tuple[int, ...] = (4, 4, 2, 2)) -> Axes:
    """The block [N, C, H*W] with one corner element chosen and everything that shares its statistic shaded."""
    n, c, h, w = shape
    chosen = torch.zeros(shape, dtype=torch.bool)
    chosen[0, -1, 0, 0] = True
    shared = sharing(norm, shape)[chosen.flatten()][0].reshape(n, c, h * w)
    corners, places = _faces(n, c, h * w)
    colours = [CHOSEN if chosen.flatten(2)[i] else SHARED if shared[i] else APART for i in places]
    ax.add_collection(PolyCollection(corners, facecolors=colours, edgecolors="#444444", linewidths=0.8))
    _name_axes(ax, n, c, h * w)
    ax.set(aspect="equal", xlim=(-1.2, c + 0.5 * n + 0.9), ylim=(-h * w - 1.0, 0.35 * n + 0.3))
    ax.axis("off")
    return ax


def _faces(n: int, c: int, p: int) -> tuple[list[list[tuple[float, float]]], list[tuple[int, int, int]]]:
    """The visible unit faces of an n x c x p block, seen from the front, above and right, and whose they are."""

    def face(images: list, channels: list, pixels: list) -> list[tuple[float, float]]:
        return [(j + 0.5 * i, 0.35 * i - k) for i, j, k in zip(images, channels, pixels, strict=True)]

    found = [(face([0] * 4, [j, j + 1, j + 1, j], [k, k, k + 1, k + 1]), (0, j, k)) for j in range(c) for k in range(p)]
    for i in range(n):
        deep = [i, i, i + 1, i + 1]
        found += [(face(deep, [j, j + 1, j + 1, j], [0] * 4), (i, j, 0)) for j in range(c)]
        found += [(face(deep, [c] * 4, [k, k + 1, k + 1, k]), (i, c - 1, k)) for k in range(p)]
    return [corners for corners, _ in found], [place for _, place in found]


def _name_axes(ax: Axes, n: int, c: int, p: int) -> None:
    ax.text(c / 2, -p - 0.2, "channels C", ha="center", va="top", fontsize=8)
    ax.text(-0.2, -p / 2, "pixels H, W", ha="right", va="center", rotation=90, fontsize=8)
    ax.text(c + 0.25 * n + 0.25, 0.175 * n - p - 0.1, "images N", ha="left", va="top", rotation=35, fontsize=8)


def tiles(ax: Axes, x: Tensor, parts: Tensor | None = None) -> Axes:
    """x [N, C, H, W] as N rows of C small maps, with every value; parts share a colour, their mean | variance below."""
    n, c, h, w = x.shape
    parts = torch.zeros_like(x, dtype=torch.int64) - 1 if parts is None else parts
    mean, var = statistics(x, parts) if parts.min() >= 0 else (None, None)
    for i, j, row, column in np.ndindex(n, c, h, w):
        left, top = j * (w + 0.6) + column, -i * (h + 1.0) - row
        part = int(parts[i, j, row, column])
        colour = COLOURS[part % len(COLOURS)] + "66" if part >= 0 else APART
        ax.add_patch(Rectangle((left, top - 1), 1, 1, facecolor=colour, edgecolor="#444444", linewidth=0.8))
        ax.text(left + 0.5, top - 0.52, f"{x[i, j, row, column]:g}", ha="center", va="center", fontsize=9)
        if mean is not None and var is not None and row == h - 1 and column == 0:
            label = f"{mean[i, j, row, column]:.3f} | {var[i, j, row, column]:.3f}"
            ax.text(left + w / 2, top - 1.12, label, ha="center", va="top", fontsize=7)
    _name_tiles(ax, n, c, h, w)
    return ax


def _name_tiles(ax: Axes, n: int, c: int, h: int, w: int) -> None:
    for j in range(c):
        ax.text(j * (w + 0.6) + w / 2, 0.15, f"channel {j + 1}", ha="center", va="bottom", fontsize=8)
    for i in range(n):
        ax.text(-0.2, -i * (h + 1.0) - h / 2, f"image {i + 1}", ha="right", va="center", rotation=90, fontsize=8)
    ax.set(aspect="equal", xlim=(-0.9, c * (w + 0.6) - 0.4), ylim=(-n * (h + 1.0) + 0.2, 0.8))
    ax.axis("off")


# --- grey levels of one image --------------------------------------------------------------------


def squeeze(image: Tensor, low: int, high: int) -> Tensor:
    """A uint8 image with its range 0..255 mapped onto low..high: the same picture with little contrast."""
    return (low + image.double() * (high - low) / 255).round().to(torch.uint8)


def stretch(image: Tensor) -> Tensor:
    """Image normalisation: the range of one uint8 image mapped onto 0..255, v <- 255 (v - min) / (max - min)."""
    low, high = image.min().double(), image.max().double()
    return (255 * (image.double() - low) / (high - low).clamp(min=1)).round().to(torch.uint8)


def equalise(image: Tensor) -> Tensor:
    """Histogram equalisation: v <- 255 (cdf(v) - cdf(min)) / (1 - cdf(min)), cdf(v) the share of pixels up to v."""
    cdf = histogram(image).cumsum(0).double()
    start = cdf[image.min().long()]
    levels = 255 * (cdf - start) / (cdf[-1] - start).clamp(min=1)
    return levels.round().clamp(0, 255).to(torch.uint8)[image.long()]


def histogram(image: Tensor) -> Tensor:
    """int64 [256]: the number of pixels at each grey level of a uint8 image."""
    return image.flatten().long().bincount(minlength=256)


def show_grey(axes: np.ndarray, image: Tensor, title: str) -> None:
    """One column of three: the image, its histogram, its cumulative histogram."""
    counts, levels = histogram(image).numpy(), np.arange(256)
    axes[0].imshow(image.numpy(), cmap="gray", vmin=0, vmax=255)
    axes[0].set(title=title, xticks=[], yticks=[])
    present = counts > 0
    axes[1].vlines(levels[present], 0.5, counts[present], color=BLUE, linewidth=1.2)
    axes[1].set(yscale="log", ylim=(0.5, 1.5 * image.numel()))
    axes[2].step(levels, 100 * counts.cumsum(0) / image.numel(), where="post", color=RED)
    axes[2].set(ylim=(0, 105), xlabel="grey level (0 to 255)")
    for ax in axes[1:]:
        ax.set(xlim=(-5, 260), xticks=(0, 128, 255))


# --- noise and running statistics ----------------------------------------------------------------


def edge_maps(x: Tensor) -> Tensor:
    """[N, 28, 28] -> [N, 3, 26, 26]: vertical edges, horizontal edges and a blur, as a first layer might learn."""
    slope = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=x.dtype)
    filters = torch.stack([slope, slope.T, torch.full_like(slope, 1 / 9)])
    return nn.functional.conv2d(x[:, None], filters[:, None])


def random_batches(count: int, size: int, images: int) -> Tensor:
    """int64 [count, size]: `count` batches of `size` different images out of `images`."""
    source = torch.Generator().manual_seed(0)
    return torch.stack([torch.randperm(images, generator=source)[:size] for _ in range(count)])


def mean_noise(maps: Tensor, size: int, batches: int = 200) -> Tensor:
    """[C]: scatter of the channel means of random batches of `size` images, in standard deviations of the pixels."""
    batch_means = maps.mean((2, 3))[random_batches(batches, size, len(maps))].mean(1)  # [batches, C]
    return batch_means.std(0) / maps.std((0, 2, 3))


def running(values: Tensor, start: float, momentum: float = 0.1) -> Tensor:
    """The running average after each step: m <- (1 - momentum) m + momentum v."""
    track, m = [], start
    for v in values.tolist():
        m = (1 - momentum) * m + momentum * v
        track.append(m)
    return torch.tensor(track)


def show_running(ax: Axes, values: Tensor, name: str, starts: list[float]) -> Axes:
    """A statistic of successive batches, and its running average from each of `starts`."""
    steps = range(1, len(values) + 1)
    ax.plot(steps, values.numpy(), ".", color=GREY, label=f"{name} of the batch")
    for start, colour, line in zip(starts, (BLUE, RED), ("-", "-."), strict=False):
        ax.plot(steps, running(values, start).numpy(), line, color=colour, label=f"running, from {start}")
    ax.axhline(values.mean().item(), color="black", linestyle=":", label="average over the batches")
    ax.set(xlabel="training step (batches)", ylabel=f"channel {name} (no unit)", ylim=(0, None))
    ax.legend()
    return ax


def among(norm: nn.Module, maps: Tensor, size: int, draws: int = 60) -> Tensor:
    """[draws]: the output at the strongest element of image 0 in batches of `size`, its companions drawn anew."""
    strongest = maps[0].argmax()
    companions = random_batches(draws, size - 1, len(maps) - 1) + 1
    with torch.no_grad():
        return torch.stack([norm(torch.cat([maps[:1], maps[own]]))[0].flatten()[strongest] for own in companions])


def show_noise(ax: Axes, sizes: Tensor, noise: Tensor, per_image: Tensor, names: list[str]) -> Axes:
    """`mean_noise` [sizes, C] in percent as markers; as lines what one image's scatter [C] gives over sqrt(size)."""
    for c, name in enumerate(names):
        ax.plot(sizes.numpy(), 100 * noise[:, c].numpy(), "os^"[c], color=COLOURS[c], label=name)
        ax.plot(sizes.numpy(), (100 * per_image[c] / sizes.sqrt()).numpy(), color=COLOURS[c])
    ax.set(xlabel="batch size (images)", ylabel="scatter of the mean\n(% of the channel's sd)")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(sizes.tolist(), [str(size) for size in sizes.tolist()])
    ax.yaxis.set(major_locator=LogLocator(10, (1, 2, 5)), major_formatter="{x:g}", minor_formatter=NullFormatter())
    ax.legend(title=r"lines: $1/\sqrt{N}$")
    return ax


def show_draws(ax: Axes, drawn: dict[int | str, Tensor]) -> Axes:
    """One strip of dots per entry of `drawn`, labelled with its key; the layer-norm entry in its own colour."""
    for place, (name, values) in enumerate(drawn.items()):
        spread = np.linspace(-0.25, 0.25, len(values))
        ax.plot(place + spread, values.numpy(), ".", color=GREEN if "layer" in str(name) else BLUE)
    ax.set(xlabel="batch size (images)", ylabel="output at one pixel (no unit)")
    ax.set_xticks(range(len(drawn)), [str(name) for name in drawn])
    return ax


# --- exercises -----------------------------------------------------------------------------------


def check(answer: object, right: object) -> str:
    """A word on an answer: a set, a number or a map; None stands for no answer yet."""
    if answer is None:
        return "not answered yet"
    if isinstance(right, set):
        same = answer == right
    else:
        given, wanted = (torch.as_tensor(value).detach().double() for value in (answer, right))
        same = given.shape == wanted.shape and torch.allclose(given, wanted, atol=1e-6)
    return "right" if same else "not right yet; the solution is below"


def moved_by(norms: dict[str, nn.Module], x: Tensor) -> set[str]:
    """The normalisers under which the second image's output changes when 10 is added to the first image."""
    more = x.clone()
    more[0] += 10
    return {name for name, norm in norms.items() if not torch.allclose(norm(x)[1], norm(more)[1])}
