"""Which recipe for a small network? Chosen on held-out training images; the test images are not loaded.

    python benchmarks/frontier.py screen             # which settings matter, all of them at once
    python benchmarks/frontier.py around --seeds 4   # then one change at a time around what was chosen
    python benchmarks/frontier.py shapes --seeds 4   # then, its bar not shown to be passed, other networks
    python benchmarks/frontier.py views --sizes p3k --seeds 4   # and views of an image whose answers are averaged

Everything trains on the first 50,000 training images of MNIST and is evaluated on its last 10,000, with seeds from 100
on, which final runs do not use. `screen` is a two-level fractional factorial design, 2^(7-3) of resolution IV: in its
16 runs every setting stands at either level eight times, against a balanced mixture of the others, so that each effect
is estimated from all runs and is not confounded with another's, nor with an interaction of two (Box, Hunter and
Hunter 1978, chapter 12). Writes results/bench/frontier_candidates.json; a finished run is kept and not repeated.
"""

import argparse
import itertools
import math

import torch
from candidates import BENCH, FIRST_SEED, HELD_OUT, Candidates, answers, plain
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from s6lib import data, training
from s6lib.evidence import probes
from s6lib.processes import cores
from s6lib.studies import STUDIES
from s6lib.training.trainer import score
from s6lib.trial import make_trial

KEPT = Candidates("frontier", BENCH / "frontier_candidates.json")

START = {"epochs": 15, "optimiser": "adam", "schedule": "one_cycle", "ema": 0.999}  # of every run of the screen
SIZES = {  # widths: evenly growing, and wider where maps are small, which the screen compares; wider at first
    "p10k": ((8, 12, 16, 20, 20), (6, 10, 16, 20, 25), (10, 14, 16, 19, 19)),
    "p3k": ((5, 8, 9, 10, 10), (4, 7, 9, 10, 12), (6, 8, 9, 9, 9)),
}
DEEP = {"p10k": (8, 12, 14, 14, 14, 14, 14), "p3k": (4, 6, 7, 7, 8, 8, 8)}  # widths of seven convolutions
FACTORS: dict[str, tuple] = {  # the lower and the upper level; widths: see SIZES
    "rotation": (8.0, 12.0),
    "shift": (0, 1),
    "learning_rate": (0.01, 0.02),
    "batch_size": (64, 128),
    "label_smoothing": (0.0, 0.05),
    "widths": (0, 1),
    "normaliser": ("batch", "ghost"),
}

DIAGONAL, OTHER = ((1, 1, 0), (-1, -1, 0)), ((1, -1, 0), (-1, 1, 0))
UP, DOWN = ((-1, 0, 0), (1, 1, 0), (1, -1, 0)), ((1, 0, 0), (-1, 1, 0), (-1, -1, 0))  # triangles
AXES, ITSELF = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)), ((0, 0, 0),)
VIEWS = {  # sets of views, each of them (pixels down, pixels right, degrees)
    "the image itself": ITSELF,
    "one pixel along both axes": ITSELF + AXES,
    "one pixel along both diagonals": ITSELF + DIAGONAL + OTHER,
    "one pixel along both diagonals, without the image": DIAGONAL + OTHER,
    "one pixel down-right and up-left": ITSELF + DIAGONAL,
    "one pixel down-right and up-left, without the image": DIAGONAL,
    "one pixel down-left and up-right, without the image": OTHER,
    "one pixel up, down-right, down-left": ITSELF + UP,
    "one pixel up, down-right, down-left, without the image": UP,
    "one pixel down, up-right, up-left": ITSELF + DOWN,
    "one pixel down, up-right, up-left, without the image": DOWN,
    "0 and 1 pixel along both axes": tuple((i, j, 0) for i in (0, 1) for j in (0, 1)),
    "0 and -1 pixel along both axes": tuple((i, j, 0) for i in (0, -1) for j in (0, -1)),
    "-1, 0 and 1 pixel along both axes": tuple((i, j, 0) for i in (-1, 0, 1) for j in (-1, 0, 1)),
    "-2, 0 and 2 pixels along both axes": tuple((i, j, 0) for i in (-2, 0, 2) for j in (-2, 0, 2)),
    "-2 to 2 pixels along both axes": tuple((i, j, 0) for i in range(-2, 3) for j in range(-2, 3)),
    "rotated by 6 degrees": ((0, 0, 0), (0, 0, 6), (0, 0, -6)),
    "rotated by 10 degrees": ((0, 0, 0), (0, 0, 10), (0, 0, -10)),
    "one pixel along both axes, and rotated by 8 degrees": ITSELF + AXES + ((0, 0, 8), (0, 0, -8)),
    "-1, 0 and 1 pixel along both axes, each rotated by 8 degrees": tuple(
        (i, j, d) for i in (-1, 0, 1) for j in (-1, 0, 1) for d in (-8, 0, 8)
    ),
}


def design() -> list[tuple[int, ...]]:
    """The 16 runs: seven levels 0 or 1 each. The last three are the sums, modulo 2, of three of the first four."""
    runs = itertools.product((0, 1), repeat=4)
    return [(a, b, c, d, (a + b + c) % 2, (b + c + d) % 2, (a + c + d) % 2) for a, b, c, d in runs]


def screened(size: str) -> list[dict]:
    """The settings of every run of the screen at one size."""
    runs = [{name: FACTORS[name][level] for name, level in zip(FACTORS, levels, strict=True)} for levels in design()]
    return [START | run | {"widths": SIZES[size][run["widths"]]} for run in runs]


def changes(size: str) -> dict[str, dict]:
    """What is tried around the screen's choice: the study's protocol but for the peak rate, which was chosen here."""
    chosen = {key: value for key, value in STUDIES["frontier"].settings(size).items() if key != "network"}
    chosen |= {"learning_rate": 0.02}
    tried = {"peak rate .02": {}, "peak rate .03": {"learning_rate": 0.03}}
    tried |= {"wider at first": {"widths": SIZES[size][2]}, "distilled, half": {"distillation": 0.5}}
    return {name: chosen | change for name, change in tried.items()}


def shapes(size: str) -> dict[str, dict]:
    """Other networks of that size under the study's protocol."""
    chosen = {key: value for key, value in STUDIES["frontier"].settings(size).items() if key != "network"}
    padded, deep = {"network": "frontier_padded"}, {"network": "frontier_deep", "widths": DEEP[size]}
    return {"padded": chosen | padded, "seven convolutions": chosen | deep}


def effects(rows: list[dict], size: str) -> list[dict]:
    """Per setting: the mean held-out accuracy at its upper level minus that at its lower, points, and the standard
    error that the spread over seeds within runs gives it."""
    means = [sum(row["held_out"]) / len(row["held_out"]) for row in rows]
    within = [(x - mean) ** 2 for row, mean in zip(rows, means, strict=True) for x in row["held_out"]]
    error = 2 * math.sqrt(sum(within) / max(1, len(within) - len(rows)) / len(within))
    found = []
    for name, (lower, upper) in (FACTORS | {"widths": SIZES[size][:2]}).items():
        low, high = (
            [mean for mean, row in zip(means, rows, strict=True) if row["settings"][name] == plain(level)]
            for level in (lower, upper)
        )
        row = {"size": size, "setting": name, "lower": plain(lower), "upper": plain(upper)}
        found.append(row | {"effect": sum(high) / len(high) - sum(low) / len(low), "error": error})
    return found


def screen(size: str, seeds: list[int], processes: int) -> None:
    """Runs the design at one size and adds every setting's effect."""
    rows = KEPT.run({f"{size}, run {i}": settings for i, settings in enumerate(screened(size))}, seeds, processes)
    found = effects(rows, size)
    KEPT.write(effects=[row for row in KEPT.state()["effects"] if row["size"] != size] + found)
    for row in found:
        print(f"{size}: {row['setting']} {row['lower']} -> {row['upper']}: {row['effect']:+.3f} ± {row['error']:.3f}")


def compare(jobs: dict[str, dict], size: str, seeds: list[int], processes: int) -> None:
    """Runs some candidates of one size."""
    KEPT.run({f"{size}, {name}": settings for name, settings in jobs.items()}, seeds, processes)


def average_views(size: str, seeds: list[int]) -> None:
    """Trains one point on the rest of the images and adds what every set of views gives on those held out."""
    dataset = data.hold_out(data.load("mnist"), HELD_OUT)
    record = training.train(make_trial("frontier", size), dataset, seeds, workers=1)
    nets, images = [probes.network(record, r) for r in record.non_diverged], dataset.normalise(dataset.test_images)
    logits = {view: answers(nets, moved(images[:, None], view)) for view in set(itertools.chain(*VIEWS.values()))}
    found = []
    for name, views in VIEWS.items():
        loss, accuracy = score(torch.stack([logits[view] for view in views]).mean(0), dataset.test_labels)
        row = {"size": size, "views": name, "count": len(views), "shifts": views, "seeds": seeds}
        row |= {key: record.provenance[key] for key in ("precision", "git_commit")}
        found.append(row | {"held_out": accuracy.tolist(), "held_out_loss": loss.tolist()})
        print(f"{size}: {name}: {accuracy.mean():.3f} %, loss {loss.mean():.4f}", flush=True)
    KEPT.write(views=[row for row in KEPT.state().get("views", []) if row["size"] != size] + found)


def moved(images: Tensor, view: tuple[int, int, int]) -> Tensor:
    """Images [n, 1, 28, 28] shifted (down, right) and rotated; what comes in from outside is black (the
    network's own `Views` repeat the edge, which differs in 1 % of the images)."""
    down, right, degrees = view
    black = [images.min().item()]
    return affine(images, degrees, [right, down], 1.0, [0.0], InterpolationMode.BILINEAR, fill=black)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("screen", "around", "shapes", "views"))
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=["p10k"])
    parser.add_argument("--seeds", type=int, default=2, help="per run (default: 2)")
    parser.add_argument("--processes", type=int, default=cores())
    options = parser.parse_args()
    seeds = list(range(FIRST_SEED, FIRST_SEED + options.seeds))
    for size in options.sizes:
        if options.stage == "screen":
            screen(size, seeds, options.processes)
        elif options.stage == "views":
            average_views(size, seeds)
        else:
            compare({"around": changes, "shapes": shapes}[options.stage](size), size, seeds, options.processes)


if __name__ == "__main__":
    main()
