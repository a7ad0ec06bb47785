"""The published networks, built for R replicas side by side.

R copies of a small network are one network with R times the channels whose convolutions have `groups=R`: group r
is replica r. Input is [N, R, 28, 28], a replica's own images each; output is [N, R, 10] logits. R = 1 is the
published network, layer for layer.
"""

import contextlib
import copy
import io
from collections.abc import Callable, Sequence

import pandas as pd
import torch
import torchsummary
from torch import Tensor, nn

from s6lib import streams
from s6lib.layers import Conv2d, Dropout, Dropout2d
from s6lib.norms import WEIGHT_STANDARDISED, Site, StandardisedConv2d, divisors, make_norm


class Net(nn.Module):
    """A stack of layers for R replicas: [N, R, 28, 28] -> logits [N, R, 10]."""

    def __init__(self, layers: list[nn.Module], replicas: int):
        super().__init__()
        self.replicas = replicas
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(channels_last(x))  # [N, R*10, 1, 1]
        return y.reshape(len(y), self.replicas, -1)


def channels_last(x: Tensor) -> Tensor:
    """x with its channels innermost in memory.

    With one channel torch takes any layout for that, and a plain network would then run, and break ties between
    equal pixels in its pooling, otherwise than a fused one.
    """
    _, c, h, w = x.shape
    return x.movedim(1, -1).flatten(1).unflatten(1, (h, w, c)).movedim(-1, 1)


class Stack:
    """Collects a network's layers and tracks the channels and size of the map; every method returns self."""

    def __init__(self, normaliser: str, replicas: int, groups: int | Sequence[int], dropout: float | None, **options):
        self.layers: list[nn.Module] = []
        self.channels, self.size, self.norms, self.gain = 1, 28, 0, 1.0
        self.normaliser, self.replicas, self.groups, self.rate = normaliser, replicas, groups, dropout
        self.options = options

    def conv(self, channels: int, kernel: int = 3, padding: int = 0, bias: bool = False) -> "Stack":
        shape = (self.replicas * self.channels, self.replicas * channels, kernel)
        self.layers.append(Conv2d(*shape, padding=padding, bias=bias, groups=self.replicas, gain=self.gain))
        self.channels, self.size, self.gain = channels, self.size + 2 * padding - kernel + 1, 1.0
        return self

    def relu(self) -> "Stack":
        self.layers.append(nn.ReLU(inplace=True))  # nobody else wants the convolution's output
        return self

    def norm(self) -> "Stack":
        if self.gain != 1:
            raise ValueError("a normaliser after dropout, before a convolution, would see it unscaled; swap the two")
        groups = self.groups if isinstance(self.groups, int) else self.groups[self.norms % len(self.groups)]
        site = Site(self.channels, self.size, self.size, self.replicas, groups, **self.options)
        layer = make_norm(self.normaliser, site)
        self.layers += [layer] if layer else []
        self.norms += 1
        if self.normaliser in WEIGHT_STANDARDISED:
            self._standardise_last()
        return self

    def _standardise_last(self) -> None:
        """Standardises the filters of the convolution that feeds a norm; elsewhere their scale is the output's."""
        place = max(k for k, layer in enumerate(self.layers) if isinstance(layer, nn.Conv2d))
        plain = self.layers[place]
        shape = (plain.in_channels, plain.out_channels, plain.kernel_size)
        options = {"padding": plain.padding, "bias": plain.bias is not None, "groups": plain.groups, "gain": plain.gain}
        self.layers[place] = StandardisedConv2d(*shape, **options)

    def dropout(self, p: float, kind: type[Dropout] = Dropout) -> "Stack":
        layer = kind(p if self.rate is None else self.rate, self.replicas)
        self.layers.append(layer)
        self.gain *= layer.scale  # paid by the next convolution
        return self

    def max_pool(self) -> "Stack":
        self.layers.append(nn.MaxPool2d(2))
        self.size //= 2
        return self

    def avg_pool(self, kernel: int) -> "Stack":
        self.layers.append(nn.AvgPool2d(kernel))
        self.size //= kernel
        return self


def regularisers(net: Stack) -> None:
    """7,384 parameters with batch norm; study `regularisers`."""
    net.conv(8).relu().norm().dropout(0.05)
    net.conv(16).relu().norm().max_pool().dropout(0.1)
    net.conv(16).relu().norm().dropout(0.05)
    net.conv(16).relu().norm().max_pool().dropout(0.1)
    net.conv(10).avg_pool(2)


def normalisers(net: Stack) -> None:
    """9,802 parameters with any of batch, layer and group norm; study `normalisers`."""
    net.conv(10).relu().norm().dropout(0.05)
    net.conv(18).relu().norm().dropout(0.05).conv(10, 1).max_pool()
    net.conv(16).relu().norm().dropout(0.05)
    net.conv(20).relu().norm().dropout(0.05).conv(10, 1)
    net.conv(32).relu().norm().dropout(0.05).avg_pool(6).conv(10, 1)


def skeleton(net: Stack) -> None:
    """258,602 parameters; study `progression`, part 1: no normaliser, no dropout."""
    for channels in (32, 64, 128):
        net.conv(channels, padding=1, bias=True).relu()
    net.max_pool().conv(32, 1, bias=True).relu()
    for channels in (64, 128):
        net.conv(channels, padding=1, bias=True).relu()
    net.max_pool().conv(32, 1, bias=True).relu()
    for channels in (32, 64, 64):
        net.conv(channels, bias=True).relu()
    net.conv(10, 1, bias=True)


def bn_dropout(net: Stack) -> None:
    """9,736 parameters with batch norm; study `progression`, part 2. The dropout rate is not stated; 0.1 is used:
    a one-channel map dropped with probability p leaves nothing of the image, twice over, and (1 - 0.1)^2 + chance
    gives the 80 % training accuracy that was published."""

    def block(channels: int, kernel: int = 3, padding: int = 0) -> None:
        net.conv(channels, kernel, padding, bias=True).relu().norm().dropout(0.1, Dropout2d)

    for channels in (10, 16, 16):
        block(channels, padding=1)
    net.max_pool()
    block(1, kernel=1)
    for channels in (10, 16):
        block(channels, padding=1)
    net.max_pool()
    block(1, kernel=1)
    for channels in (10, 16, 16):
        block(channels)
    net.conv(10, 1, bias=True)


def gap(net: Stack) -> None:
    """10,224 parameters with batch norm; study `progression`, part 3: global average pooling."""

    def block(channels: int, kernel: int = 3, padding: int = 0) -> None:
        net.conv(channels, kernel, padding, bias=True).relu().norm().dropout(0.05, Dropout2d)

    for channels in (10, 16):
        block(channels, padding=1)
    net.max_pool()
    block(8, kernel=1)
    for channels in (16, 16, 16):
        block(channels, padding=1)
    net.max_pool()
    block(8, kernel=1)
    for channels in (10, 16):
        block(channels)
    net.conv(10, 1, bias=True).avg_pool(3)


def speedrun(net: Stack) -> None:
    """29,424 parameters with batch norm; notebook `speedrun`, no document has it. Pooling comes before ReLU and norm,
    so that they work on a quarter of the map, and channels are many only where maps are small."""
    net.conv(16, 5).max_pool().relu().norm()
    net.conv(32).max_pool().relu().norm()
    net.conv(64).relu().norm()
    net.conv(10, 3)


NETWORKS: dict[str, Callable[[Stack], None]] = {
    "regularisers": regularisers,
    "normalisers": normalisers,
    "skeleton": skeleton,
    "bn_dropout": bn_dropout,
    "gap": gap,
    "speedrun": speedrun,
}


def build(
    network: str,
    normaliser: str = "batch",
    replicas: int = 1,
    groups: int | Sequence[int] = 1,
    dropout: float | None = None,
    **options,
) -> Net:
    """The network `network` for R replicas, uninitialised streams.

    `dropout` replaces every dropout rate of the network; `options` are `ghost_splits` and `running_var_start`.
    Raises ValueError naming what is unknown or does not divide.
    """
    if network not in NETWORKS:
        raise ValueError(f"unknown network {network!r}; valid: {', '.join(NETWORKS)}")
    stack = Stack(normaliser, replicas, groups, dropout, **options)
    NETWORKS[network](stack)
    if not isinstance(groups, int) and len(groups) != stack.norms:
        raise ValueError(f"groups={list(groups)} has {len(groups)} entries; {network} has {stack.norms} normalisers")
    if stack.gain != 1:
        raise ValueError("dropout after the last convolution stays unscaled; put it before")
    return Net(stack.layers, replicas)


def initialise(net: Net, seeds: Sequence[int]) -> Net:
    """Draws replica r's weights from the stream of `seeds[r]`, by torch's default law U(-b, b), b = 1/sqrt(fan_in)."""
    sources = [streams.generator(seed, "init") for seed in seeds]
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                bound = layer.weight[0].numel() ** -0.5
                for parameter in layer.parameters(recurse=False):
                    for part, source in zip(parameter.chunk(len(seeds)), sources, strict=True):
                        part.copy_(torch.empty(part.shape).uniform_(-bound, bound, generator=source))
    return net


def attach_dropout(net: Net, source: streams.BitStream | None) -> None:
    """Gives every dropout layer the replicas' own streams (None: torch's global generator)."""
    for layer in net.modules():
        if isinstance(layer, Dropout):
            layer.source = source


def stack_replicas(state: dict[str, Tensor], replicas: int) -> dict[str, Tensor]:
    """A fused state dict as {name: [R, ...]}: entry r is what the plain network of replica r would hold."""

    def split(name: str, value: Tensor) -> Tensor:
        if value.ndim == 0:  # step counters are common to all replicas
            return value.repeat(replicas)
        if name.endswith(("running_mean", "running_var")):  # [C] or, ghost norm, [S, C]
            return value.unflatten(-1, (replicas, -1)).movedim(-2, 0).contiguous()
        return value.unflatten(0, (replicas, -1)).contiguous()

    return {name: split(name, value) for name, value in state.items()}


def fuse_replicas(stacked: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `stack_replicas`."""

    def join(name: str, value: Tensor) -> Tensor:
        if value.ndim == 1:
            return value[0].clone()
        if name.endswith(("running_mean", "running_var")):
            return value.movedim(0, -2).flatten(-2).contiguous()
        return value.flatten(0, 1)

    return {name: join(name, value) for name, value in stacked.items()}


def count_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def describe_affine(net: Net) -> str:
    """How many of one replica's parameters are the normalisers' scales and shifts."""
    convolutions = sum(count_parameters(layer) for layer in net.modules() if isinstance(layer, nn.Conv2d))
    total = count_parameters(net)
    return f"{total // net.replicas:,} parameters, {(total - convolutions) // net.replicas:,} of them scale and shift"


def group_counts(network: str, largest: int) -> tuple[int, ...]:
    """For each normaliser of `network`, the largest number of groups up to `largest` that divides its channels."""
    channels = [layer.num_features for layer in build(network).layers if isinstance(layer, nn.BatchNorm2d)]
    return tuple(max(k for k in divisors(count) if k <= largest) for count in channels)


def summary_table(net: Net) -> str:
    """torchsummary's table of one replica's network.

    torchsummary runs the network as it finds it, which moves batch-norm statistics and the global random state;
    this works on a copy in evaluation mode and restores the state.
    """
    probe, text = copy.deepcopy(net).float().cpu().eval(), io.StringIO()
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(text):
        torchsummary.summary(probe, (net.replicas, 28, 28), device="cpu")
    others = [p.numel() for name, p in net.named_parameters() if name.rsplit(".")[-1] not in ("weight", "bias")]
    remark = f"\nNot in the table: {sum(others):,} parameters that are neither weight nor bias" if others else ""
    return text.getvalue().strip("\n") + remark


def receptive_fields(net: Net) -> pd.DataFrame:
    """Per convolution and pooling layer: kernel, step between neighbouring outputs and receptive field, in pixels."""
    rows, field, step = [], 1, 1
    for layer in net.layers:
        if hasattr(layer, "kernel_size"):
            kernel, stride = (_side(value) for value in (layer.kernel_size, layer.stride))
            field, step = field + (kernel - 1) * step, step * stride
            rows.append((type(layer).__name__, kernel, step, field))
    return pd.DataFrame(rows, columns=["layer", "kernel", "step", "receptive_field"])


def _side(value: int | tuple[int, int]) -> int:
    return value if isinstance(value, int) else value[0]
