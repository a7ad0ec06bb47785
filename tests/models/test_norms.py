import copy
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from s6lib.models import norms
from s6lib.models.norms import (
    EPS,
    NORMALISERS,
    BatchRenorm,
    GhostBatchNorm,
    NormContext,
    StandardisedConv2d,
    divisors,
    make_norm,
)
from s6lib.models.replicas import stack_replicas

N, C, H, W = 6, 4, 5, 3  # one replica's test input
GROUPS, SPLITS = 2, 3
LAYERS = [name for name in NORMALISERS if name != "none"]
WITH_STATISTICS = ["batch", "ghost", "batch_renorm"]


def norm_at(name: str, replicas: int = 1, **changes):
    """The normaliser in float64 with scales and shifts of its own for every element."""
    options = {"channels": C, "height": H, "width": W, "groups": GROUPS, "ghost_splits": SPLITS, **changes}
    norm = make_norm(name, NormContext(replicas=replicas, **options)).double()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter, 0.5)
    return norm


def input_for(norm, replicas: int = 1, images: int = N) -> Tensor:
    return (2 + 3 * torch.randn(images, replicas * C, H, W, dtype=torch.float64)).requires_grad_()


def per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]


def is_normaliser(kind) -> bool:
    """Whether this is a class of our own in the module of normalisers."""
    return isinstance(kind, type) and issubclass(kind, torch.nn.Module) and kind.__module__ == norms.__name__


def ghost_reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    y = torch.empty_like(x)
    for k in range(SPLITS):
        y[k::SPLITS] = F.batch_norm(x[k::SPLITS], None, None, weight, bias, True)
    return y


def rms_reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean_square = (x**2).sum((1, 2, 3)) / (C * H * W)
    return x / (mean_square + 1e-5).sqrt()[:, None, None, None] * per_channel(weight) + per_channel(bias)


def filter_response_reference(x: Tensor, weight: Tensor, bias: Tensor, tau: Tensor) -> Tensor:
    mean_square = (x**2).sum((2, 3), keepdim=True) / (H * W)
    y = x / (mean_square + 1e-6).sqrt() * per_channel(weight) + per_channel(bias)
    return torch.where(y > per_channel(tau), y, per_channel(tau).expand_as(y))


# One replica's normaliser in training, from torch.nn.functional or written out: (x [N, C, H, W], its parameters) -> y.
# Batch renorm's first step, with r_max = 1 and d_max = 0, is batch norm.
REFERENCES = {
    "batch": lambda x, weight, bias: F.batch_norm(x, None, None, weight, bias, True),
    "ghost": ghost_reference,
    "layer": lambda x, weight, bias: F.layer_norm(x, (C, H, W)) * per_channel(weight) + per_channel(bias),
    "layer_full": lambda x, weight, bias: F.layer_norm(x, (C, H, W), weight, bias),
    "group": lambda x, weight, bias: F.group_norm(x, GROUPS, weight, bias),
    "group_ws": lambda x, weight, bias: F.group_norm(x, GROUPS, weight, bias),
    "instance": lambda x, weight, bias: F.instance_norm(x, weight=weight, bias=bias),
    "rms": rms_reference,
    "filter_response": filter_response_reference,
    "batch_renorm": lambda x, weight, bias: F.batch_norm(x, None, None, weight, bias, True),
}


def forward_and_gradient(function, x: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
    y = function(x)
    return y.detach(), torch.autograd.grad(y, x, cotangent)[0]


# --- what every normaliser computes ---


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("name", REFERENCES)
def test_forward_and_input_gradient(name, replicas):
    # Output and gradient are the reference's, each replica's own.
    norm = norm_at(name, replicas)
    x = input_for(norm, replicas)
    cotangent = torch.randn_like(x)
    y, gradient = forward_and_gradient(norm, x, cotangent)
    for r in range(replicas):
        mine = slice(r * C, (r + 1) * C)
        values = [parameter[mine] for parameter in norm.parameters()]
        part = x[:, mine].detach().requires_grad_()
        expected = forward_and_gradient(lambda x, v=values: REFERENCES[name](x, *v), part, cotangent[:, mine])
        torch.testing.assert_close(y[:, mine], expected[0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(gradient[:, mine], expected[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_fused_replicas_are_separate_normalisers(name):
    # For every normaliser, a new one too: outputs, input gradients and statistics of R fused replicas are those of R.
    fused = norm_at(name, 3)
    x = input_for(fused, 3)
    cotangent, start = torch.randn_like(x), stack_replicas(copy.deepcopy(fused.state_dict()), 3)
    y, gradient = forward_and_gradient(fused, x, cotangent)
    after = stack_replicas(fused.state_dict(), 3)
    for r in range(3):
        mine, alone = slice(r * C, (r + 1) * C), norm_at(name)
        alone.load_state_dict({key: value[r] for key, value in start.items()})
        expected = forward_and_gradient(alone, x[:, mine].detach().requires_grad_(), cotangent[:, mine])
        torch.testing.assert_close((y[:, mine], gradient[:, mine]), expected, rtol=1e-10, atol=1e-10)
        state = {key: value[r] for key, value in after.items()}
        torch.testing.assert_close(state, dict(alone.state_dict()), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(norms).values() if is_normaliser(kind)], ids=lambda k: k.__name__
)
def test_normalisers_are_documented(kind):
    # Which axes it averages over, and whose idea it is.
    text = " ".join(kind.__doc__.split())
    assert "verages over (" in text
    assert re.search(r"arXiv \d{4}\.\d{4,5}", text)


@pytest.mark.parametrize("name", LAYERS)
def test_channels_last_changes_nothing(name):
    # The networks run channels last; the numbers are those of the plain layout.
    norm = norm_at(name, 2)
    x = input_for(norm, 2).detach()
    other = copy.deepcopy(norm)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(norm(x), other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["layer", "layer_full", "group", "instance"])
def test_normalises(name):
    # With scale 1 and shift 0 the elements that share a statistic have mean 0 and variance 1.
    norm = make_norm(name, NormContext(C, H, W, groups=GROUPS)).double()
    y = norm(input_for(norm))
    parts = {"layer": 1, "layer_full": 1, "group": GROUPS, "instance": C}[name]
    y = y.reshape(N * parts, -1)
    assert y.mean(1).abs().max() < 1e-12
    assert (y.var(1, correction=0) - 1).abs().max() < 1e-4  # eps


@pytest.mark.parametrize("name", LAYERS)
def test_parameters_start_neutral(name):
    # Scale 1, shift 0 and whatever else at 0, all of them per channel but for layer_full.
    norm = make_norm(name, NormContext(C, H, W, replicas=2))
    shape = (2 * C, H, W) if name == "layer_full" else (2 * C,)
    for key, value in norm.named_parameters():
        torch.testing.assert_close(value.detach(), torch.full(shape, float(key == "weight")), rtol=0, atol=0)


def test_none_is_no_layer():
    assert make_norm("none", NormContext(C)) is None


# --- how they are related ---


@given(
    parts=st.integers(1, 3),
    splits=st.integers(1, 4),
    channels=st.integers(1, 5),
    height=st.integers(1, 4),
    width=st.integers(2, 4),
)
def test_ghost_norm_is_batch_norm_of_each_split(parts, splits, channels, height, width):
    # Images k, k + S, k + 2S, ... get batch norm among themselves, for any shape.
    norm = GhostBatchNorm(channels, splits).double()
    x = torch.randn(parts * splits, channels, height, width, dtype=torch.float64)
    y = norm(x)
    for k in range(splits):
        expected = F.batch_norm(x[k::splits], None, None, training=True)
        torch.testing.assert_close(y[k::splits], expected, rtol=1e-9, atol=1e-9)


def test_ghost_norm_with_one_split_is_batch_norm():
    # Training, running statistics and evaluation.
    ghost, batch = norm_at("ghost", 2, ghost_splits=1), norm_at("batch", 2)
    ghost.load_state_dict({name: v for name, v in batch.state_dict().items() if "num" not in name} | _rows(batch))
    x = input_for(ghost, 2)
    for _ in range(3):
        torch.testing.assert_close(ghost(x), batch(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ghost.running_mean[0], batch.running_mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ghost.running_var[0], batch.running_var, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ghost.eval()(x), batch.eval()(x), rtol=1e-12, atol=1e-12)


def _rows(batch) -> dict[str, Tensor]:
    return {"running_mean": batch.running_mean[None], "running_var": batch.running_var[None]}


@given(channels=st.integers(1, 6), height=st.integers(1, 4), width=st.integers(2, 4), replicas=st.integers(1, 3))
def test_group_norm_ends(channels, height, width, replicas):
    # One group is layer norm, C groups are instance norm, whatever the shape.
    site = NormContext(channels, height, width, replicas)
    x = torch.randn(3, replicas * channels, height, width, dtype=torch.float64)
    for groups, name in ((1, "layer"), (channels, "instance")):
        group = make_norm("group", NormContext(channels, height, width, replicas, groups)).double()
        torch.testing.assert_close(group(x), make_norm(name, site).double()(x), rtol=1e-9, atol=1e-9)


def test_layer_full_differs_from_layer_only_in_its_affine_part():
    # As long as every element has its channel's scale and shift, the two are the same.
    layer, full = norm_at("layer", 2), norm_at("layer_full", 2)
    with torch.no_grad():
        full.weight.copy_(per_channel(layer.weight).expand_as(full.weight))
        full.bias.copy_(per_channel(layer.bias).expand_as(full.bias))
    x = input_for(layer, 2)
    torch.testing.assert_close(full(x), layer(x), rtol=1e-12, atol=1e-12)


def test_layer_norm_ignores_scale_and_shift_of_the_input():
    # 3x + 7 and x look the same to layer norm; to RMS norm only 3x and x do.
    layer, rms = norm_at("layer"), norm_at("rms")
    x = 1000 * torch.randn(N, C, H, W, dtype=torch.float64)  # large: eps vanishes
    torch.testing.assert_close(layer(3 * x + 7), layer(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(rms(3 * x), rms(x), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(rms(3 * x + 7000), rms(x))


# --- running statistics ---


def test_running_statistics_of_batch_norm():
    # After one batch: a tenth of the batch's mean, nine tenths of 1 plus a tenth of the unbiased variance.
    for norm in (norm_at("batch"), norm_at("batch_renorm")):
        x = input_for(norm).detach()
        norm(x)
        torch.testing.assert_close(norm.running_mean, 0.1 * x.mean((0, 2, 3)))
        torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * x.var((0, 2, 3)))


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_running_statistics_of_ghost_norm(start):
    # Every split keeps its own, from `running_var_start` on.
    norm = norm_at("ghost", running_var_start=start)
    x = input_for(norm).detach()
    norm(x)
    for k in range(SPLITS):
        torch.testing.assert_close(norm.running_mean[k], 0.1 * x[k::SPLITS].mean((0, 2, 3)))
        torch.testing.assert_close(norm.running_var[k], 0.9 * start + 0.1 * x[k::SPLITS].var((0, 2, 3)))


def test_ghost_norm_evaluates_with_the_mean_over_splits():
    # Evaluation is batch norm with the splits' statistics averaged.
    norm = norm_at("ghost", running_var_start=0.0)
    x = input_for(norm).detach()
    norm(x)
    parts = [x[k::SPLITS] for k in range(SPLITS)]
    mean = 0.1 * sum(part.mean((0, 2, 3)) for part in parts) / SPLITS
    var = 0.1 * sum(part.var((0, 2, 3)) for part in parts) / SPLITS
    expected = F.batch_norm(x, mean, var, norm.weight, norm.bias, False)
    torch.testing.assert_close(norm.eval()(x), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_state_moves_in_training_only(name):
    # A training batch moves the running statistics of those that have some; an evaluated one moves nothing.
    norm = norm_at(name, 2)
    start = copy.deepcopy(norm.state_dict())
    norm(input_for(norm, 2))
    moved = {key for key, value in norm.state_dict().items() if not torch.equal(value, start[key])}
    assert moved <= {key for key, _ in norm.named_buffers()}
    if name in REFERENCES:
        assert ({"running_mean", "running_var"} <= moved) == (name in WITH_STATISTICS)

    trained = copy.deepcopy(norm.state_dict())
    norm.eval()(input_for(norm, 2))
    assert all(torch.equal(value, trained[key]) for key, value in norm.state_dict().items())


@pytest.mark.parametrize("name", LAYERS)
def test_evaluation_does_not_depend_on_the_batch(name):
    # An image's output is the same alone and in company; five images, which SPLITS does not divide, are fine.
    norm = norm_at(name, 2)
    x = input_for(norm, 2).detach()
    norm(x)
    norm.eval()
    together = norm(x[:5])
    alone = torch.cat([norm(x[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["batch", "ghost"])
def test_training_and_evaluation_agree_in_the_long_run(name):
    # After many looks at one batch the running statistics are the batch's: what evaluation gives is what training
    # gave, but for the unbiased variance (factor 1 / (1 - 1/60)).
    norm = norm_at(name, ghost_splits=1)
    x = torch.randn(20, C, 1, 3, dtype=torch.float64)
    for _ in range(300):
        trained = norm(x)
    norm.running_var *= 1 - 1 / 60
    torch.testing.assert_close(norm.eval()(x), trained, rtol=1e-6, atol=1e-6)


# --- batch renorm and weight standardisation ---


@pytest.mark.parametrize("step", [0, 500, 5000])
def test_batch_renorm_formula(step):
    # y = gamma * ((x - mean) / sd * r + d) + beta with r and d clipped to the ramp's bounds and held constant in the
    # gradient; r_max goes from 1 to 3 and d_max from 0 to 5 over 1000 steps.
    norm = norm_at("batch_renorm")
    running_mean = torch.tensor([0.0, 2.0, -30.0, 1.0], dtype=torch.float64)
    running_var = torch.tensor([1.0, 9.0, 4.0, 400.0], dtype=torch.float64)
    norm.running_mean.copy_(running_mean)
    norm.running_var.copy_(running_var)
    norm.steps.fill_(step)
    r_max, d_max = {0: (1, 0), 500: (2, 2.5), 5000: (3, 5)}[step]

    def expected(x: Tensor) -> Tensor:
        mean, sd = x.mean((0, 2, 3)), (x.var((0, 2, 3), correction=0) + EPS).sqrt()
        running_sd = (running_var + EPS).sqrt()
        r = (sd / running_sd).clamp(1 / r_max, r_max).detach()
        d = ((mean - running_mean) / running_sd).clamp(-d_max, d_max).detach()
        z = (x - per_channel(mean)) / per_channel(sd) * per_channel(r) + per_channel(d)
        return z * per_channel(norm.weight) + per_channel(norm.bias)

    x = input_for(norm)
    cotangent = torch.randn_like(x)
    torch.testing.assert_close(
        forward_and_gradient(norm, x, cotangent), forward_and_gradient(expected, x, cotangent), rtol=1e-10, atol=1e-10
    )
    assert norm.steps == step + 1


def test_batch_renorm_unclipped_uses_running_statistics():
    # Where nothing is clipped, the training output is what evaluation would give: Ioffe's point.
    norm = BatchRenorm(C, r_max=1e6, d_max=1e6, ramp=1).double()
    x = 2 + 3 * torch.randn(N, C, H, W, dtype=torch.float64)
    norm.steps.fill_(1)
    expected = copy.deepcopy(norm).eval()(x)
    torch.testing.assert_close(norm(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("replicas", [1, 2])
def test_standardised_convolution(replicas):
    # A plain convolution whose filters were given mean 0 and variance 1 by hand, output and gradients.
    conv = StandardisedConv2d(3 * replicas, C * replicas, 3, groups=replicas).double()
    x = torch.randn(2, 3 * replicas, H, W, dtype=torch.float64, requires_grad=True)

    def expected(x: Tensor) -> Tensor:
        filters = []
        for w in conv.weight:
            centred = w - w.sum() / 27
            filters.append(centred / ((centred**2).sum() / 27 + 1e-5).sqrt())
        return F.conv2d(x, torch.stack(filters), conv.bias, groups=replicas)

    cotangent = torch.randn_like(conv(x))
    for target in (x, conv.weight):
        mine = torch.autograd.grad(conv(x), target, cotangent)[0]
        theirs = torch.autograd.grad(expected(x), target, cotangent)[0]
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(conv(x), expected(x), rtol=1e-10, atol=1e-10)


# --- copies ---


@pytest.mark.parametrize("name", LAYERS)
def test_state_dict_round_trip(name):
    # A fresh layer that loads a trained one's state gives its outputs, in training and in evaluation.
    norm, fresh = norm_at(name, 2), norm_at(name, 2)
    x = input_for(norm, 2).detach()
    norm(x)
    assert not torch.equal(norm.eval()(x), fresh.eval()(x))
    fresh.load_state_dict(norm.state_dict(), strict=True)
    assert torch.equal(norm.eval()(x), fresh.eval()(x))
    assert torch.equal(norm.train()(x), fresh.train()(x))


@pytest.mark.parametrize("name", LAYERS)
def test_deepcopy_is_independent(name):
    # Training a copy leaves the original where it was.
    norm = norm_at(name, 2)
    x = input_for(norm, 2).detach()
    before = copy.deepcopy(norm).eval()(x)
    twin = copy.deepcopy(norm)
    torch.optim.SGD(twin.parameters(), 0.1).step(lambda: twin(x).square().sum().backward())
    assert torch.equal(norm.eval()(x), before)
    assert not torch.equal(twin.eval()(x), before)


# --- bad input ---


@pytest.mark.parametrize("name", ["group", "group_ws"])
@pytest.mark.parametrize("groups", [3, 0, 32])
def test_groups_that_do_not_divide(name, groups):
    message = f"^group_norm: groups={groups} does not divide channels=16; valid: 1, 2, 4, 8, 16$"
    with pytest.raises(ValueError, match=message):
        make_norm(name, NormContext(16, groups=groups, replicas=3))


def test_splits_that_do_not_divide():
    message = r"^ghost_norm: splits=4 does not divide a batch of 6; valid: \[1, 2, 3, 6\]$"
    with pytest.raises(ValueError, match=message):
        GhostBatchNorm(4, splits=4)(torch.zeros(6, 4, 2, 2))


def test_unknown_normaliser():
    with pytest.raises(ValueError, match="unknown normaliser 'btach'") as error:
        make_norm("btach", NormContext(4))
    assert all(name in str(error.value) for name in NORMALISERS)


@given(st.integers(1, 300))
def test_divisors(n):
    # All that divide, in order, and nothing else.
    assert divisors(n) == sorted({k for k in range(1, n + 1) if (n // k) * k == n})


@pytest.mark.parametrize("block", [1, 60, 10**9])
def test_group_norm_is_torch_s(monkeypatch, block):
    # forwards and backwards, for input, scale and shift, however many images are worked on at a time
    monkeypatch.setattr(norms, "BLOCK", block)
    source = torch.Generator().manual_seed(0)
    x, weight, bias, grad = (torch.randn(shape, dtype=torch.float64, generator=source) for shape in SHAPES)
    ours, theirs = norms.GroupNorm(4, 12).double(), torch.nn.GroupNorm(4, 12).double()
    found = []
    for layer in (ours, theirs):
        layer.load_state_dict({"weight": weight, "bias": bias})
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        y.backward(grad)
        found.append([y, leaf.grad, layer.weight.grad, layer.bias.grad])
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


SHAPES = ((5, 12, 3, 4), (12,), (12,), (5, 12, 3, 4))


def test_group_norm_keeps_its_sums_in_float32():
    # of bfloat16 maps: the output is off by its own rounding, not by that of the statistics
    x = (torch.randn(4, 8, 26, 26, generator=torch.Generator().manual_seed(0)) + 3).bfloat16()
    exact = F.group_norm(x.double(), 2)
    y = norms.GroupNorm(2, 8)(x)
    assert y.dtype == torch.bfloat16
    assert ((y.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-4).all()
