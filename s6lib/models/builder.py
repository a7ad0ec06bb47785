"""Builds a study's network for R replicas side by side.

R copies of a small network are one network with R times the channels whose convolutions have `groups=R`: group r
is replica r. Input is [N, R, 28, 28], a replica's own images each; output is [N, R, 10] logits. R = 1 is the
published network, layer for layer.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from s6lib import streams
from s6lib.models.layers import Conv2d, Dropout, Dropout2d
from s6lib.models.norms import NormContext, make_norm


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

    def __init__(
        self,
        normaliser: str,
        replicas: int,
        groups: int | Sequence[int],
        dropout: float | None,
        widths: Sequence[int] | None = None,
        **options,
    ):
        self.layers: list[nn.Module] = []
        self.widths, self.widths_used = widths, False
        self.channels, self.size, self.norms, self.gain = 1, 28, 0, 1.0
        self.normaliser, self.replicas, self.groups, self.rate = normaliser, replicas, groups, dropout
        self.options = options

    def family(self, *widths: int) -> Sequence[int]:
        """The trial's widths in place of a network's own `widths`. Raises ValueError where they differ in number."""
        self.widths_used = True
        if self.widths is not None and len(self.widths) != len(widths):
            raise ValueError(f"widths={list(self.widths)} for {len(widths)} convolutions; valid: {len(widths)} numbers")
        return self.widths or widths

    def conv(self, channels: int, kernel: int = 3, padding: int = 0, bias: bool = False) -> "Stack":
        shape = (self.replicas * self.channels, self.replicas * channels, kernel)
        self.layers.append(Conv2d(*shape, padding=padding, bias=bias, groups=self.replicas, gain=self.gain))
        self.channels, self.size, self.gain = channels, self.size + 2 * padding - kernel + 1, 1.0
        return self

    def relu(self) -> "Stack":
        self.layers.append(nn.ReLU(inplace=True))  # nothing else reads the convolution's output
        return self

    def norm(self) -> "Stack":
        if self.gain != 1:
            raise ValueError("a normaliser after dropout, before a convolution, would see it unscaled; swap the two")
        groups = self.groups if isinstance(self.groups, int) else self.groups[self.norms % len(self.groups)]
        context = NormContext(self.channels, self.size, self.size, self.replicas, groups, **self.options)
        layer = make_norm(self.normaliser, context)
        self.layers += [layer] if layer else []
        self.norms += 1
        if kind := getattr(layer, "convolution", None):
            self._replace_last_convolution(kind)
        return self

    def _replace_last_convolution(self, kind: type[Conv2d]) -> None:
        """Makes the convolution before a norm one of the norm's own kind; the network's last, before none, stays."""
        last, plain = max((k, layer) for k, layer in enumerate(self.layers) if isinstance(layer, Conv2d))
        shape = (plain.in_channels, plain.out_channels, plain.kernel_size)
        bias = plain.bias is not None
        self.layers[last] = kind(*shape, padding=plain.padding, bias=bias, groups=plain.groups, gain=plain.gain)

    def dropout(self, p: float, whole_channels: bool = False) -> "Stack":
        kind = Dropout2d if whole_channels else Dropout
        layer = kind(p if self.rate is None else self.rate, self.replicas)
        self.layers.append(layer)
        self.gain *= layer.scale  # the next convolution multiplies its weights by it
        return self

    def max_pool(self) -> "Stack":
        self.layers.append(nn.MaxPool2d(2))
        self.size //= 2
        return self

    def avg_pool(self, kernel: int) -> "Stack":
        self.layers.append(nn.AvgPool2d(kernel))
        self.size //= kernel
        return self


Network = Callable[[Stack], object]  # adds its layers to a stack; the studies define them


def build(
    network: Network,
    normaliser: str = "batch",
    replicas: int = 1,
    groups: int | Sequence[int] = 1,
    dropout: float | None = None,
    widths: Sequence[int] | None = None,
    **options,
) -> Net:
    """`network` for R replicas; its weights are not drawn yet, see `initialise`.

    `dropout` replaces every dropout rate of the network, `widths` those of a network family; `options`
    are `ghost_splits` and `running_var_start`.
    Raises ValueError naming what is unknown or does not divide.
    """
    stack = Stack(normaliser, replicas, groups, dropout, widths, **options)
    network(stack)
    if widths is not None and not stack.widths_used:
        raise ValueError(f"widths={list(widths)}: {getattr(network, '__name__', 'the network')} is no network family")
    if not isinstance(groups, int) and len(groups) != stack.norms:
        name = getattr(network, "__name__", "the network")
        raise ValueError(f"groups={list(groups)} has {len(groups)} entries; {name} has {stack.norms} normalisers")
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
