"""What does each optimisation give? One is removed at a time, all in one interleaved run.

    python benchmarks/ablations.py --network regularisers --replicas 8 --rounds 3

Every figure is one process with one thread, float32 unless said. Writes results/bench/ablations_<network>.json.
Convolution by unfolding and compiled layers are what was tried and not kept.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import measure
import output
import recipe


def given_back() -> None:
    """glibc gives freed memory back to the kernel, as it does by default."""
    from s6lib.training import precision

    precision.keep_freed_memory = lambda: None


def default_layout() -> None:
    """Channels outermost in memory, torch's default."""
    from s6lib.models import builder

    builder.channels_last = lambda x: x.contiguous()


def torch_dropout() -> None:
    """torch's own dropout, whose masks replicas share a stream for."""
    import torch.nn.functional as F

    from s6lib.models import layers

    without_gain()
    layers.Dropout.forward = lambda self, x: F.dropout(x, self.p, self.training)
    layers.Dropout2d.forward = lambda self, x: F.dropout2d(x, self.p, self.training)


def without_gain() -> None:
    """Convolutions leave dropout's factor alone."""
    from s6lib.models import layers

    init = layers.Conv2d.__init__
    layers.Conv2d.__init__ = lambda self, *shape, gain=1.0, **options: init(self, *shape, **options)


def scaled_activations() -> None:
    """Dropout multiplies the activations by its factor, and not the next weights."""
    from s6lib.models import layers

    without_gain()
    forward = layers.Dropout.forward
    layers.Dropout.forward = lambda self, x: forward(self, x) * self.scale


def one_by_one() -> None:
    """The first convolution takes every replica's image by itself."""
    from s6lib.models import layers

    layers.block_diagonal = lambda weight, groups: (weight, groups)


def looped_optimiser() -> None:
    """The optimiser steps parameter by parameter."""
    import torch

    for kind in (torch.optim.Adam, torch.optim.SGD):
        kind.__init__ = _not_fused(kind.__init__)


def _not_fused(init):
    return lambda self, *args, fused=None, **kwargs: init(self, *args, foreach=False, **kwargs)


def grid_sample() -> None:
    """Rotation by a sampling grid for every image instead of a table of pixel numbers."""
    import torch
    import torch.nn.functional as F

    from s6lib import data

    def augment(self, index, moves, dtype=torch.float32):
        x = self.dataset.normalise(self.dataset.train_images[index], dtype)  # [N, R, 28, 28]
        turn = torch.deg2rad((moves.to(dtype) - len(self.table) // 2) * data.ANGLE_STEP).flatten()
        zero, cos, sin = torch.zeros_like(turn), turn.cos(), turn.sin()
        matrix = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
        flat = x.flatten(0, 1)[:, None]
        grid = F.affine_grid(matrix, flat.shape, align_corners=False)
        return F.grid_sample(flat, grid, mode="nearest", align_corners=False).view_as(x)

    data.Augmenter.__call__ = augment


def unfolded() -> None:
    """Convolution as copies of every window and one batched matrix product over replicas."""
    import torch.nn.functional as F

    from s6lib.models import layers

    def convolution(self, x, weight, bias):
        h, w = x.shape[2:]
        size, padding, groups = self.kernel_size[0], self.padding, self.groups
        weight = weight * (self.gain if self.training else 1)
        windows = F.unfold(x, size, padding=padding).unflatten(1, (groups, -1))  # [N, R, C_in * k * k, places]
        y = (weight.flatten(1).unflatten(0, (groups, -1)) @ windows).flatten(1, 2)  # [N, R * C_out, places]
        y = y.unflatten(-1, (h + 2 * padding[0] - size + 1, w + 2 * padding[1] - size + 1))
        return y if bias is None else y + bias[:, None, None]

    layers.Conv2d._conv_forward = convolution


def compiled() -> None:
    """torch.compile of the layers; dropout's streams break its graph."""
    import torch

    from s6lib.models import builder, layers

    torch._dynamo.config.suppress_errors = True
    layers.Dropout._keep = torch.compiler.disable(layers.Dropout._keep)
    init = builder.Net.__init__

    def compiling(self, layers, replicas):
        init(self, layers, replicas)
        self.layers.forward = torch.compile(self.layers.forward, dynamic=False)

    builder.Net.__init__ = compiling


VARIANTS = {
    "as it is": None,
    "freed memory given back": given_back,
    "default memory layout": default_layout,
    "torch's dropout": torch_dropout,
    "dropout's factor on activations": scaled_activations,
    "optimiser not fused": looped_optimiser,
    "convolution by unfolding": unfolded,
    "rotation by grid_sample": grid_sample,
    "bfloat16": None,
    "bfloat16, first images one by one": one_by_one,
    "bfloat16, convolution by unfolding": unfolded,
    "bfloat16, compiled": compiled,
}


def job(variant: str, options: argparse.Namespace) -> dict:
    precision = "bfloat16" if variant.startswith("bfloat16") else "float32"
    size = {"batch": 32, "seconds": 0.1, "warm_up": 1} if options.small else {"batch": 128, "seconds": 3, "warm_up": 3}
    who = {"who": "s6lib", "network": options.network, "precision": precision, "replicas": options.replicas}
    return {**who, **size, "dataset": options.dataset, "variant": variant, "processes": 1, "threads": 1}


def measure_variant(one: dict) -> dict:
    """In a process of its own: takes the optimisation back, then measures."""
    change = VARIANTS[one["variant"]]
    if change:
        change()
    return measure.measure(one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="regularisers", choices=recipe.NETWORKS)
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--dataset", default=recipe.default_dataset(), help="mnist where its files are, else digits")
    parser.add_argument("--out", type=Path, default=recipe.OUT)
    parser.add_argument("--small", action="store_true", help="all but what needs a compiler, at tiny size")
    options = parser.parse_args()
    from s6lib.provenance import provenance

    if options.small:
        options.rounds, options.replicas, options.variants = 1, 2, options.variants[:-1]
    jobs = [job(variant, options) for variant in options.variants]
    rounds = [[measure.run(one, __file__)["images_per_second"] for one in jobs] for _ in range(options.rounds)]
    speeds = {one["variant"]: [found[i] for found in rounds] for i, one in enumerate(jobs)}
    middle = {variant: statistics.median(values) for variant, values in speeds.items()}
    for variant, value in middle.items():
        print(f"{variant:<44}{value:>9,.0f} replica-images/s{value / middle[options.variants[0]]:>7.2f}")
    result = {"network": options.network, "replicas": options.replicas, "medians": middle, "all": speeds}
    result |= {"dataset": options.dataset, "date": time.strftime("%Y-%m-%d")}
    result["provenance"] = provenance("batch", options.network)
    output.write(options, f"ablations_{options.network}", result)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].startswith("{"):  # a job for this process
        print(json.dumps(measure_variant(json.loads(sys.argv[1]))))
    else:
        main()
