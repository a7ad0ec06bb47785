"""What a network consists of: parameter counts, torchsummary's layer table, receptive fields."""

import contextlib
import copy
import io

import pandas as pd
import torch
import torchsummary
from torch import nn

from s6lib.models.builder import Net
from s6lib.models.views import MeanOfViews


def count_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@torch.no_grad()
def multiply_adds(net: Net) -> int:
    """Multiplications with a weight, each with its addition, that one replica's convolutions make for one test image,
    over all its views."""
    found: list[int] = []

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        weight = next(layer.parameters())
        found.append(out.numel() * weight[0].numel())

    probe = copy.deepcopy(net).float().cpu().eval()
    for layer in probe.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    probe(torch.zeros(1, net.replicas, 28, 28))
    return sum(found) // net.replicas


def count_views(net: Net) -> int:
    """How many views of a test image the network averages over; 1 for the image itself."""
    return next((layer.views for layer in net.layers if isinstance(layer, MeanOfViews)), 1)


def describe_affine(net: Net) -> str:
    """How many of one replica's parameters are the normalisers' scales and shifts."""
    convolutions = sum(count_parameters(layer) for layer in net.modules() if isinstance(layer, nn.Conv2d))
    total = count_parameters(net)
    return f"{total // net.replicas:,} parameters, {(total - convolutions) // net.replicas:,} of them scale and shift"


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
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            kernel, stride = (_side(value) for value in (layer.kernel_size, layer.stride))
            field, step = field + (kernel - 1) * step, step * stride
            rows.append((type(layer).__name__, kernel, step, field))
    return pd.DataFrame(rows, columns=["layer", "kernel", "step", "receptive_field"])


def _side(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]
