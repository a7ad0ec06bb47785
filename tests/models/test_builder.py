import copy
import math
import re

import pytest
import torch
import torchsummary
from hypothesis import given
from hypothesis import strategies as st

from s6lib import streams
from s6lib.models import builder, describe, layers
from s6lib.models import replicas as replicas_
from s6lib.models.norms import NORMALISERS, StandardisedConv2d
from s6lib.studies import NETWORKS
from s6lib.studies.base import published_table

PUBLISHED = published_table("layer_tables")
TABLES = ("skeleton", "bn_dropout", "gap")
# The smallest network; 2 groups and 2 splits suit it whatever the normaliser.
SMALL = {"network": "regularisers", "groups": 2, "ghost_splits": 2}


def build(network: str, *options, **settings) -> builder.Net:
    return builder.build(NETWORKS[network], *options, **settings)


def small(normaliser: str = "batch", replicas: int = 1, **changes) -> builder.Net:
    return build(**{**SMALL, "normaliser": normaliser, "replicas": replicas, **changes})


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def dropout_layers(net: builder.Net) -> list[layers.Dropout]:
    return [layer for layer in net.modules() if isinstance(layer, layers.Dropout)]


# --- the published networks ---


@pytest.mark.parametrize(
    ("network", "count"),
    [
        ("regularisers", 7384),
        ("normalisers", 9802),
        ("skeleton", 258_602),
        ("bn_dropout", 9736),
        ("gap", 10_224),
        ("speedrun", 29_424),
    ],
)
def test_published_parameter_counts(network, count):
    # As published for one replica, R times as many for R.
    assert describe.count_parameters(build(network, "batch")) == count
    assert describe.count_parameters(build(network, "batch", replicas=3)) == 3 * count


def test_layer_full_costs_64_292_scales_and_shifts():
    # On `gap`, per-element scales and shifts are 64,292 of 74,284 parameters, where batch norm has 232 of 10,224.
    for normaliser, total, affine in (("layer_full", 74_284, 64_292), ("batch", 10_224, 232), ("none", 9992, 0)):
        net = build("gap", normaliser)
        convolutions = sum(p.numel() for layer in net.layers if _is_conv(layer) for p in layer.parameters())
        assert describe.count_parameters(net) == total
        assert total - convolutions == affine


def _is_conv(layer) -> bool:
    return isinstance(layer, torch.nn.Conv2d)


@pytest.mark.parametrize("normaliser", ["layer", "group", "instance", "batch"])
def test_normalisers_network_costs_the_same_for_every_norm(normaliser):
    assert describe.count_parameters(build("normalisers", normaliser, groups=2)) == 9802


def test_published_tables_are_complete():
    assert len(PUBLISHED) == 106
    assert set(PUBLISHED.network) == set(TABLES)


@pytest.mark.parametrize("network", TABLES)
def test_layer_table_equals_the_published_one(network):
    # Name, output shape and parameters of every layer, line by line.
    published = PUBLISHED[PUBLISHED.network == network]
    expected = list(published[["layer", "output_shape", "parameters"]].itertuples(index=False, name=None))
    assert layer_lines(describe.summary_table(build(network))) == expected


def test_multiply_adds_by_hand():
    # a map of 26 x 26 after the first convolution, 24 x 24 after the second, halved, and so on; of one replica
    convolutions = [(26, 8, 1, 9), (24, 16, 8, 9), (10, 16, 16, 9), (8, 16, 16, 9), (2, 10, 16, 9)]
    total = sum(side**2 * outputs * inputs * kernel for side, outputs, inputs, kernel in convolutions)
    assert describe.multiply_adds(build("regularisers", "batch")) == total
    assert describe.multiply_adds(build("regularisers", "batch", replicas=3)) == total


def test_multiply_adds_count_every_view():
    plain, views = (describe.multiply_adds(build(f"frontier{name}", replicas=2)) for name in ("", "_views"))
    assert views == 3 * plain
    assert [describe.count_views(build(f"frontier{name}")) for name in ("", "_views")] == [1, 3]


def layer_lines(table: str) -> list[tuple[str, str, int]]:
    """The lines of a torchsummary table as (layer, 10x28x28, parameters)."""
    body = table.split("=" * 64)[1].strip("\n").splitlines()
    cells = [(line.split()[0], line[line.index("[") + 1 : line.index("]")], line.split()[-1]) for line in body]
    return [(name, "x".join(shape.split(", ")[1:]), int(count.replace(",", ""))) for name, shape, count in cells]


def _torchsummary_as_shipped(net: builder.Net) -> None:
    torchsummary.summary(net, (net.replicas, 28, 28), device="cpu")


@pytest.mark.parametrize(("summarise", "harmless"), [(describe.summary_table, True), (_torchsummary_as_shipped, False)])
def test_only_our_summary_is_without_side_effects(summarise, harmless):
    # torchsummary as shipped moves batch norm's statistics and torch's random state; ours moves neither.
    net = small("batch", replicas=2)
    state, random_state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    summarise(net)
    assert equal(net.state_dict(), state) == harmless
    assert torch.equal(torch.get_rng_state(), random_state) == harmless
    assert net.training  # torchsummary leaves the mode alone
    assert not any(module._forward_hooks for module in net.modules())


def test_summary_table_of_a_network_in_float64():
    assert describe.summary_table(small().double()) == describe.summary_table(small())


def test_receptive_fields_by_hand():
    # conv conv pool conv conv pool conv average: a 3x3 kernel adds 2 steps, a 2x2 pool adds 1 and doubles the step.
    rows = describe.receptive_fields(small())
    assert rows.receptive_field.tolist() == [3, 5, 6, 10, 14, 16, 24, 28]
    assert rows.step.tolist() == [1, 1, 2, 2, 2, 4, 4, 8]
    assert rows.kernel.tolist() == [3, 3, 2, 3, 3, 2, 3, 2]


@pytest.mark.parametrize(("network", "pixels"), [("regularisers", 28), ("normalisers", 28)])
def test_receptive_field_is_what_the_gradient_sees(network, pixels):
    # The last output reads exactly that many input pixels each way: no dropout, no norm, positive weights.
    net = build(network, "none", dropout=0.0).double()
    for parameter in net.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    pooling = [layer for layer in net.layers if isinstance(layer, torch.nn.MaxPool2d)]
    for layer in pooling:  # a maximum sends its gradient to one pixel; the mean of the same window to all
        net.layers[list(net.layers).index(layer)] = torch.nn.AvgPool2d(2)
    x = torch.ones(1, 1, 28, 28, dtype=torch.float64, requires_grad=True)
    net(x).sum().backward()
    seen = x.grad[0, 0] != 0
    assert seen.any(0).sum() == seen.any(1).sum() == pixels == describe.receptive_fields(net).receptive_field.iloc[-1]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("replicas", [1, 3])
def test_output_shape(network, replicas):
    net = build(network, "layer", replicas).eval()
    assert net(torch.zeros(2, replicas, 28, 28)).shape == (2, replicas, 10)


@pytest.mark.parametrize("network", NETWORKS)
def test_convolution_before_a_shift_has_the_published_bias(network):
    # The two studies' own networks have no biases; those of the progression have one everywhere.
    biases = {layer.bias is not None for layer in build(network).layers if _is_conv(layer)}
    assert biases == {network in ("skeleton", "bn_dropout", "gap")}


def test_group_ws_standardises_the_convolutions_before_norms():
    # The last has no norm after it that would let its filters' scale be free.
    convolutions = [type(layer) for layer in small("group_ws").layers if _is_conv(layer)]
    assert convolutions == [StandardisedConv2d] * 4 + [layers.Conv2d]


def test_table_says_what_it_leaves_out():
    # torchsummary counts weights and biases only; filter response norm's thresholds are neither.
    assert "Not in the table: 56 parameters that are neither" in describe.summary_table(small("filter_response"))
    assert "Not in the table" not in describe.summary_table(small("batch"))


def test_groups_per_layer():
    # A list gives every normaliser its own number, R times as many for R replicas.
    net = small("group", replicas=3, groups=[8, 4, 2, 1])
    assert [layer.num_groups for layer in net.layers if isinstance(layer, torch.nn.GroupNorm)] == [24, 12, 6, 3]


def test_dropout_replaces_every_rate():
    assert [layer.p for layer in dropout_layers(small())] == [0.05, 0.1, 0.05, 0.1]
    assert [layer.p for layer in dropout_layers(small(dropout=0.3))] == [0.3] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normaliser": "group", "groups": 3}, "group_norm: groups=3 does not divide channels=8; valid: 1, 2, 4, 8"),
        ({"normaliser": "group", "groups": [2, 2]}, "groups=[2, 2] has 2 entries; regularisers has 4 normalisers"),
    ],
)
def test_bad_networks(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        small(**options)


# --- replicas ---


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_fused_replicas_are_the_plain_networks(normaliser):
    # Entry r of the stacked state is what the plain network initialised from seed r holds, name for name, and loads.
    seeds = [5, 0, 11]
    fused = builder.initialise(small(normaliser, 3), seeds)
    stacked = replicas_.stack_replicas(fused.state_dict(), 3)
    for r, seed in enumerate(seeds):
        mine = {name: value[r] for name, value in stacked.items()}
        assert equal(mine, builder.initialise(small(normaliser), [seed]).state_dict())
        small(normaliser).load_state_dict(mine, strict=True)


@given(st.sampled_from(list(NORMALISERS)), st.sampled_from(["regularisers", "gap"]), st.integers(1, 4))
def test_stack_and_fuse_are_inverse(normaliser, network, replicas):
    # For any normaliser and number of replicas, with every value different from every other.
    state = small(normaliser, replicas, network=network).state_dict()
    start = 0
    for value in state.values():
        if value.ndim:
            value.copy_(torch.arange(start, start + value.numel()).view_as(value))
            start += value.numel()
        else:
            value.fill_(7)
    stacked = replicas_.stack_replicas(state, replicas)
    assert {len(value) for value in stacked.values()} == {replicas}
    assert equal(replicas_.fuse_replicas(stacked), state)


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_fused_forward_is_the_plain_networks(normaliser):
    # In training mode without dropout, every replica's logits and running statistics are the plain network's.
    seeds = [2, 8]
    options = {"dropout": 0.0}
    fused = builder.initialise(small(normaliser, 2, **options), seeds).double()
    x = torch.rand(4, 2, 28, 28, dtype=torch.float64)
    y = fused(x)
    stacked = replicas_.stack_replicas(fused.state_dict(), 2)
    for r, seed in enumerate(seeds):
        plain = builder.initialise(small(normaliser, **options), [seed]).double()
        torch.testing.assert_close(y[:, r], plain(x[:, r : r + 1])[:, 0], rtol=1e-11, atol=1e-11)
        mine = {name: value[r] for name, value in stacked.items()}
        torch.testing.assert_close(mine, dict(plain.state_dict()), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("replicas", [1, 3])
def test_every_layer_runs_channels_last(replicas):
    # Also with one replica, where torch calls any layout channels last: fused and plain networks use the same kernels.
    net, strides = small("layer_full", replicas), []
    for layer in net.layers:
        layer.register_forward_hook(lambda _, __, y: strides.append(y.stride()))
    net(torch.rand(2, replicas, 28, 28))
    assert {stride[1] for stride in strides} == {1}


def test_replicas_do_not_touch_each_other():
    # A NaN in one replica's images leaves the others' logits and gradients as they were.
    net = builder.initialise(small("ghost", 3, dropout=0.0), [0, 1, 2])
    x = torch.rand(4, 3, 28, 28)
    clean = copy.deepcopy(net)
    expected = clean(x)
    expected.sum().backward()
    x[0, 1, 5, 5] = math.nan
    y = net(x)
    y.sum().backward()
    assert y[:, 1].isnan().any()
    for r in (0, 2):
        assert torch.equal(y[:, r], expected[:, r])
        for mine, theirs in zip(net.parameters(), clean.parameters(), strict=True):
            assert torch.equal(mine.grad.chunk(3)[r], theirs.grad.chunk(3)[r])


# --- initial weights ---


def test_initial_weights_follow_the_seed_alone():
    # The same seed gives the same weights in any company, another seed others.
    alone, pair, three = (
        replicas_.stack_replicas(builder.initialise(small(replicas=len(seeds)), seeds).state_dict(), len(seeds))
        for seeds in ([4], [4, 1], [0, 1, 4])
    )
    for name in ("layers.0.weight", "layers.4.weight"):
        assert torch.equal(alone[name][0], pair[name][0])
        assert torch.equal(alone[name][0], three[name][2])
        assert torch.equal(pair[name][1], three[name][1])
        assert not torch.equal(pair[name][0], pair[name][1])


def test_initialise_leaves_the_global_random_state_alone():
    net, before = small(), torch.get_rng_state()
    builder.initialise(net, [0])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("replicas", [1, 4])
def test_initial_weights_follow_torch_s_law(replicas):
    # Weights and biases are uniform between -1/sqrt(fan_in) and 1/sqrt(fan_in), where fan_in is the plain network's.
    net = builder.initialise(build("skeleton", replicas=replicas), range(replicas))
    for layer in filter(_is_conv, net.layers):
        fan_in = layer.in_channels // replicas * layer.kernel_size[0] ** 2
        for values in (layer.weight, layer.bias):
            scaled = values.detach() * math.sqrt(fan_in)
            assert scaled.abs().max() <= 1
            if scaled.numel() > 4000:  # then mean and variance 1/3 are known to a few hundredths
                assert scaled.abs().max() > 0.99
                assert abs(scaled.mean()) < 0.05
                assert abs(scaled.square().mean() - 1 / 3) < 0.03


def test_initial_bounds_are_torch_s_own():
    # The bound that torch's reset_parameters uses is the same: both fill the same interval.
    ours = builder.initialise(build("skeleton"), [0])
    theirs = build("skeleton")
    for mine, default in zip(filter(_is_conv, ours.layers), filter(_is_conv, theirs.layers), strict=True):
        if mine.weight.numel() > 4000:
            torch.testing.assert_close(mine.weight.abs().max(), default.weight.abs().max(), rtol=0.01, atol=0)


# --- dropout and its factor ---


def test_attach_dropout_reaches_every_layer():
    net, source = small(), streams.BitStream([streams.generator(0, "dropout")])
    builder.attach_dropout(net, source)
    assert all(layer.source is source for layer in dropout_layers(net))
    builder.attach_dropout(net, None)
    assert all(layer.source is None for layer in dropout_layers(net))


@pytest.mark.parametrize("normaliser", ["batch", "group_ws"])
@pytest.mark.parametrize("network", NETWORKS)
def test_every_dropout_is_paid_for_by_the_next_convolution(network, normaliser):
    # Between a dropout and the convolution that carries its factor stand only layers that pass a factor on.
    owed = 1.0
    for layer in build(network, normaliser, dropout=0.25).layers:
        if isinstance(layer, layers.Dropout):
            owed *= 1 / (1 - 0.25)
        elif _is_conv(layer):
            assert layer.gain == pytest.approx(owed)
            owed = 1.0
        else:
            assert owed == 1 or isinstance(layer, torch.nn.MaxPool2d | torch.nn.AvgPool2d)
    assert owed == 1


def test_training_computes_what_torch_s_layers_compute():
    # The same masks, weights and images through torch's own convolutions and scaled dropout: logits and gradients.
    net = builder.initialise(small(), [3]).double().train()
    x = torch.randn(4, 1, 28, 28, dtype=torch.float64)
    torch.manual_seed(1)
    net(x).square().sum().backward()
    torch.manual_seed(1)
    y, weights = x, []
    for layer in copy.deepcopy(net).layers:
        if _is_conv(layer):
            weights.append(layer.weight.detach().requires_grad_())
            y = torch.nn.functional.conv2d(y, weights[-1])
        elif isinstance(layer, layers.Dropout):
            y = layer(y) / (1 - round(layer.p * 65536) / 65536)
        else:
            y = layer(y)
    y.square().sum().backward()
    ours = [layer.weight.grad for layer in net.layers if _is_conv(layer)]
    for mine, theirs in zip(ours, weights, strict=True):
        torch.testing.assert_close(mine, theirs.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda net: net.conv(4).dropout(0.1).norm().conv(10), "a normaliser after dropout, before a convolution"),
        (lambda net: net.conv(10).dropout(0.1).avg_pool(26), "dropout after the last convolution"),
    ],
)
def test_dropout_that_nothing_pays_for_is_refused(network, words):
    with pytest.raises(ValueError, match=words):
        builder.build(network, "batch")
