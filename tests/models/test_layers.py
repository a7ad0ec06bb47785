"""Convolution and dropout of fused replicas compute together what torch's own compute."""

import math

import pytest
import torch
import torch.nn.functional as F

from s6lib import streams
from s6lib.models.layers import Conv2d, Dropout, Dropout2d, block_diagonal

# --- convolution ---


def both(conv: Conv2d, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Output and gradients (for x, weights, biases) of `conv`, and of torch's convolution with the same weights."""
    found = []
    for own in (True, False):
        image = x.clone().requires_grad_()
        conv.zero_grad()
        options = {"padding": conv.padding, "groups": conv.groups, "stride": conv.stride, "dilation": conv.dilation}
        y = conv(image) if own else F.conv2d(image, conv.gain * conv.weight, conv.bias, **options)
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
        found.append([y.detach(), image.grad, *[parameter.grad.clone() for parameter in conv.parameters()]])
    return found[0], found[1]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 0), (3, 1), (5, 1), (2, 0)])
@pytest.mark.parametrize(("replicas", "channels"), [(1, 1), (1, 4), (3, 1), (3, 5)])
def test_convolution_is_torch_s_with_its_weights_scaled(replicas, channels, kernel, padding, bias):
    torch.manual_seed(0)
    options = {"groups": replicas, "padding": padding, "bias": bias}
    conv = Conv2d(replicas * channels, replicas * 2, kernel, gain=1.25, **options).double()
    x = torch.randn(3, replicas * channels, 7, 6, dtype=torch.float64)
    for mine, theirs in zip(*both(conv, x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


OTHERS = [{"stride": 2}, {"dilation": 2}, {"padding": 3}, {"padding": "same"}, {"padding": "valid"}]


@pytest.mark.parametrize("option", OTHERS)
def test_gain_goes_with_every_kind_of_convolution(option):
    torch.manual_seed(0)
    conv, x = Conv2d(2, 4, 3, groups=2, gain=1.25, **option).double(), torch.randn(2, 2, 7, 7, dtype=torch.float64)
    for mine, theirs in zip(*both(conv, x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_gain_is_for_training_only():
    conv, x = Conv2d(1, 2, 3, bias=False, gain=4.0), torch.randn(2, 1, 5, 5)
    trained = conv.train()(x)
    torch.testing.assert_close(trained, 4 * conv.eval()(x))
    assert "gain=4" in repr(conv)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("replicas", [1, 2, 3, 5, 6, 8])
def test_first_convolution_in_bfloat16_is_the_grouped_one(replicas, padding):
    # Images side by side with zeros between them: the same products, and zeros.
    torch.manual_seed(0)
    conv = Conv2d(replicas, replicas * 4, 3, groups=replicas, padding=padding, bias=False)
    x = torch.randn(2, replicas, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    y.float().square().sum().backward()
    rounded = conv.weight.detach().bfloat16().float().requires_grad_()
    exact = F.conv2d(x.bfloat16().float(), rounded, padding=padding, groups=replicas)
    exact.square().sum().backward()
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, rtol=0.01, atol=0.01)
    torch.testing.assert_close(conv.weight.grad, rounded.grad, rtol=0.03, atol=0.3)


@pytest.mark.parametrize(("groups", "blocks"), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 5), (6, 2), (8, 2), (12, 3)])
def test_block_diagonal_keeps_every_filter_in_its_place(groups, blocks):
    # Row r * C + c of replica r holds its filter at place r modulo the block, and zeros elsewhere.
    weight = torch.arange(1.0, groups * 3 * 4 + 1).view(groups * 3, 1, 2, 2)
    wide, found = block_diagonal(weight, groups)
    size = groups // blocks
    assert found == blocks
    for row in range(groups * 3):
        place = row // 3 % size
        assert torch.equal(wide[row, place], weight[row, 0])
        assert wide[row].count_nonzero() == 4


def test_a_diverged_replica_spoils_no_other_in_bfloat16():
    # A weight that is no number spoils its own replica's output, a gradient without bound its own filters.
    conv, x = Conv2d(4, 8, 3, groups=4, bias=False), torch.randn(2, 4, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    (y * torch.tensor([1.0, 1, math.inf, 1, 1, 1, 1, 1]).view(-1, 1, 1)).sum().backward()
    assert [bool(part.isfinite().all()) for part in conv.weight.grad.chunk(4)] == [True, False, True, True]
    conv.weight.data[2:4] = math.nan
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    assert [bool(part.isfinite().all()) for part in y.chunk(4, 1)] == [True, False, True, True]


# --- dropout ---


def streams_of(*seeds: int, epoch: int = 0) -> streams.BitStream:
    return streams.BitStream([streams.generator(seed, "dropout", epoch) for seed in seeds])


@pytest.mark.parametrize("kind", [Dropout, Dropout2d])
def test_dropout_is_identity_at_zero_and_in_evaluation(kind):
    x = torch.randn(3, 4, 5, 5)
    assert torch.equal(kind(0.0)(x), x)
    assert torch.equal(kind(0.5).eval()(x), x)


@pytest.mark.parametrize("own_streams", [False, True])
@pytest.mark.parametrize("p", [0.05, 0.1, 0.5])
def test_dropout_keeps_a_share(p, own_streams):
    # A share 1 - p stays (4 standard deviations of 160,000 throws) as it was; times `scale` the mean stays.
    layer = Dropout(p, replicas=2)
    layer.source = streams_of(0, 1) if own_streams else None
    y = layer(torch.ones(40, 10, 20, 20, dtype=torch.float64))
    keep = round(65536 * (1 - p)) / 65536
    tolerance = 4 * math.sqrt(p * (1 - p) / y.numel())
    assert abs((y != 0).double().mean() - (1 - p)) < tolerance
    assert set(y.unique().tolist()) == {0.0, 1.0}
    assert layer.scale == pytest.approx(1 / keep, rel=1e-15)
    assert abs(layer.scale * y.mean() - 1) < tolerance / keep


def test_dropout_gradient_is_its_mask():
    # The gradient passes where the value passed, and nowhere else.
    x = torch.randn(4, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    y = Dropout(0.3)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y / x).detach(), rtol=1e-12, atol=1e-12)


def test_dropout_leaves_its_input_alone():
    x = torch.randn(4, 3, 6, 6)
    before = x.clone()
    Dropout(0.5)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("own_streams", [False, True])
def test_dropout2d_drops_whole_channels(own_streams):
    # A channel of an image stays or goes as one, and both happen.
    layer = Dropout2d(0.5, replicas=2)
    layer.source = streams_of(0, 1) if own_streams else None
    y = layer(torch.ones(8, 6, 5, 5))
    kept = (y != 0).flatten(2).double().mean(2)  # share of each channel that stayed
    assert set(kept.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("channels", [1, 3, 4, 10])  # four values to a word: some words are not used up
@pytest.mark.parametrize("kind", [Dropout, Dropout2d])
def test_dropout_masks_follow_the_seed_alone(kind, channels, monkeypatch):
    # Replica of seed 5 gets the mask that the plain network of seed 5 gets, step after step, across refills.
    monkeypatch.setitem(streams.WORDS, "cpu", 200)
    fused, plain = kind(0.5, replicas=3), kind(0.5)
    fused.source, plain.source = streams_of(2, 5, 7), streams_of(5)
    for height in (6, 3, 9):
        x = torch.ones(4, 3 * channels, height, height)
        mine = fused(x)[:, channels : 2 * channels]
        assert torch.equal(mine, plain(x[:, :channels]))


def test_dropout_masks_differ():
    # Other seeds, other epochs and the next step have other masks.
    def mask(source: streams.BitStream) -> torch.Tensor:
        layer = Dropout(0.5)
        layer.source = source
        return layer(torch.ones(2, 4, 8, 8))

    source = streams_of(0)
    masks = [mask(source), mask(source), mask(streams_of(1)), mask(streams_of(0, epoch=1))]
    assert all(not torch.equal(a, b) for i, a in enumerate(masks) for b in masks[:i])


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32, torch.float64])
def test_what_is_dropped_is_zero_whatever_it_was(kind):
    # Bit patterns times 0 or 1: what stays keeps every bit, what goes is +0 even where it was NaN.
    x = torch.randn(2, 3, 8, 8).to(kind)
    x[0, 0, 0] = float("nan")
    torch.manual_seed(0)
    keep = Dropout(0.5)._keep(x).bool()
    torch.manual_seed(0)
    y = Dropout(0.5)(x)
    assert torch.equal(y.nan_to_num(7.0)[keep], x.nan_to_num(7.0)[keep])
    assert (y[~keep] == 0).all()
    assert not y[~keep].signbit().any()
