import dataclasses
import math
import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from s6lib import data, records
from s6lib.models import builder
from s6lib.models.norms import NORMALISERS
from s6lib.models.replicas import stack_replicas
from s6lib.studies import NETWORKS
from s6lib.training import precision, train, train_together
from s6lib.training import trainer as loop
from s6lib.training.optim import add_l1_subgradient, make_optimiser, soft_threshold
from s6lib.training.train import check_seeds, share
from s6lib.training.trainer import Trainer
from s6lib.trial import Trial, TrialError, make_trial

SEEDS = [3, 0, 7, 1]
MEASURED = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]


@pytest.fixture(scope="session")
def noise() -> data.Dataset:
    """24 training and 10 test images of noise. In pictures of digits many windows of a pooling layer hold values that
    are equal but for rounding, and which of them passes the gradient on is then a matter of the last digit."""
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (34, 28, 28), dtype=torch.uint8, generator=source)
    labels = torch.arange(34) % 10
    soft = torch.rand(24, 10, generator=source).softmax(-1)
    return data.Dataset("noise", pixels[:24], labels[:24], pixels[24:], labels[24:], 0.5, 0.29, soft)


def sgd(**settings) -> Trial:
    """Two epochs of three steps with SGD: per-element, so that replicas can be compared to the last digits."""
    plain = {"optimiser": "sgd", "momentum": 0.9, "learning_rate": 0.01, "schedule": "constant"}
    plain |= {"epochs": 2, "batch_size": 8, "groups": 2}
    return make_trial("regularisers", "t", like="", **{**plain, **settings})


def trained(trials, dataset, seeds, precision="float64") -> Trainer:
    """Trains on the CPU; a trainer rather than records, whose logits are rounded to half precision."""
    trials = [trials] if isinstance(trials, Trial) else trials
    trainer = Trainer(trials, dataset, list(seeds), precision)
    trainer.run()
    return trainer


def rows_of(table: list[dict], replica: int) -> pd.DataFrame:
    rows = pd.DataFrame([row for row in table if row["replica"] == replica])
    return rows.drop(columns=["replica", "seconds"], errors="ignore").reset_index(drop=True)


def assert_same_replica(a: Trainer, i: int, b: Trainer, j: int, tolerance: float = 1e-9) -> None:
    """Replica i of `a` is replica j of `b`: weights, statistics, logits and history."""
    states = [stack_replicas(t.evaluated_net.state_dict(), t.replicas) for t in (a, b)]
    torch.testing.assert_close(
        {name: value[i] for name, value in states[0].items()},
        {name: value[j] for name, value in states[1].items()},
        rtol=tolerance,
        atol=tolerance,
    )
    torch.testing.assert_close(a.logits[i], b.logits[j], rtol=tolerance, atol=tolerance)
    for mine, theirs in ((a.history, b.history), (a.weight_norms, b.weight_norms)):
        assert len(rows_of(mine, i))
        pd.testing.assert_frame_equal(rows_of(mine, i), rows_of(theirs, j), rtol=tolerance, atol=tolerance)


def assert_fused_equals_separate(trial: Trial, dataset: data.Dataset) -> None:
    fused = trained(trial, dataset, SEEDS)
    losses = [rows_of(fused.history, r).train_loss.iloc[-1] for r in range(4)]
    assert len(set(losses)) == 4  # four replicas, not one four times
    for r, seed in enumerate(SEEDS):
        assert_same_replica(fused, r, trained(trial, dataset, [seed]), 0)


# --- fused replicas are the separate ones, to 1e-9 in float64 ---


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("dropout", [0.0, None], ids=["dropout off", "dropout on"])
def test_four_replicas_are_four_runs(noise, normaliser, dropout):
    # For every normaliser, without dropout and with the network's own. Filter response norm divides maps that are
    # nearly zero by nearly zero, which enlarges rounding up to a thousandfold per layer: smaller steps for it.
    rate = 1e-4 if normaliser == "filter_response" else 1e-2
    assert_fused_equals_separate(sgd(normaliser=normaliser, dropout=dropout, learning_rate=rate), noise)


@pytest.mark.parametrize(
    "penalty",
    [
        {"l1": 1e-3},
        {"l1": 1e-2, "l1_kind": "proximal"},
        {"l2": 1e-2},
        {"l1": 1e-3, "l2": 1e-2, "penalise": "weights"},
        {"label_smoothing": 0.1},
    ],
    ids=["l1", "proximal l1", "l2", "l1 and l2 on weights", "label smoothing"],
)
def test_four_replicas_are_four_runs_with_penalties(noise, penalty):
    assert_fused_equals_separate(sgd(**penalty), noise)


@pytest.mark.parametrize("normaliser", ["batch", "ghost", "layer", "layer_full", "group", "instance"])
def test_four_replicas_are_four_runs_on_digits(tiny, normaliser):
    # With torch's own kernels even ties in pooling are broken alike: real images, to 1e-9 all the same.
    assert_fused_equals_separate(sgd(normaliser=normaliser), tiny)


@pytest.mark.parametrize("network", ["normalisers", "gap", "bn_dropout"])
def test_four_replicas_are_four_runs_in_other_networks(noise, network):
    # Channel dropout, convolution biases and 1x1 convolutions.
    assert_fused_equals_separate(sgd(network=network, epochs=1), noise)


@pytest.mark.parametrize(
    "settings",
    [
        {"rotation": 0.0},
        {"rotate_after_normalise": True},
        {"schedule": "one_cycle"},
        {"shift": 2},
        {"shift": 1, "rotation": 0.0},
        {"ema": 0.9},
        {"ema": 0.9, "normaliser": "ghost"},
        {"distillation": 0.5},
    ],
    ids=str,
)
def test_four_replicas_are_four_runs_under_other_recipes(noise, settings):
    assert_fused_equals_separate(sgd(**settings), noise)


def test_four_replicas_are_four_runs_with_a_smaller_last_batch(noise):
    # 20 images in batches of 8: the last has 4.
    assert_fused_equals_separate(sgd(normaliser="ghost"), data.limit(noise, 20, 10))


def test_four_replicas_are_four_runs_with_adam(noise):
    # Adam divides by a gradient's own size and so enlarges rounding; still the same to 1e-6 after six steps.
    trial = sgd(optimiser="adam", l1=1e-4, l2=1e-4)
    fused = trained(trial, noise, SEEDS)
    for r, seed in enumerate(SEEDS):
        assert_same_replica(fused, r, trained(trial, noise, [seed]), 0, tolerance=1e-6)


@pytest.mark.parametrize("kind", ["subgradient", "proximal"])
def test_trials_fused_by_lambda_are_separate_trials(noise, kind):
    # A lambda per replica, zero among them, each trial with the same two seeds.
    trials = [sgd(l1=value, l1_kind=kind) for value in (0.0, 1e-3, 1e-1)]
    fused = trained(trials, noise, [5, 2])
    for i, trial in enumerate(trials):
        for j, seed in enumerate((5, 2)):
            assert_same_replica(fused, 2 * i + j, trained(trial, noise, [seed]), 0)


def test_train_together_keeps_trials_and_seeds_apart(tiny):
    # One record per trial, in order, with its own numbers.
    trials = [dataclasses.replace(sgd(l1=value), name=f"l1_{value:g}") for value in (0.0, 1e-1)]
    together = train_together(trials, tiny, [5, 2], precision="float64", device="cpu")
    for trial, record in zip(trials, together, strict=True):
        alone = train(trial, tiny, [5, 2], precision="float64", device="cpu")
        assert (record.trial, record.seeds) == (trial, [5, 2])
        pd.testing.assert_frame_equal(record.history[MEASURED], alone.history[MEASURED], rtol=1e-9)
        pd.testing.assert_frame_equal(record.weight_norms, alone.weight_norms, rtol=1e-9)
        for name, value in alone.weights.items():
            np.testing.assert_allclose(record.weights[name], value, rtol=1e-9, atol=1e-9)
        assert record.history.seed.tolist() == [2, 2, 5, 5]


def sweep(*values):
    return [dataclasses.replace(sgd(l1=value), name=f"l1_{value:g}") for value in values]


def together_with(records):
    """Per trial the parts' seeds and how many replicas trained with each."""
    return [[(part["seeds"], part["provenance"]["replicas_together"]) for part in one.parts] for one in records]


def test_a_value_added_to_a_sweep_trains_alone(tiny):
    # what has all its seeds is not trained again; seeds added to all train together again; who watches sees it all
    train_together(sweep(0.0, 1e-1), tiny, 2, device="cpu")
    three = train_together(sweep(0.0, 1e-1, 1e-3), tiny, 2, device="cpu")
    assert together_with(three) == [[([0, 1], 4)], [([0, 1], 4)], [([0, 1], 2)]]
    train_together(sweep(1e-3), tiny, 3, device="cpu")
    seen = []
    three = train_together(sweep(0.0, 1e-1, 1e-3), tiny, 4, device="cpu", live=seen.append)
    assert together_with(three)[0] == [([0, 1], 4), ([2, 3], 4)]
    assert together_with(three)[2] == [([0, 1], 2), ([2], 1), ([3], 1)]
    assert Counter(seen[-1].trial) == {"l1_0": 4, "l1_0.1": 4, "l1_0.001": 2}  # two epochs of each new seed


@pytest.mark.parametrize("values", [(0.0, 1e-1), (0.0, 1e-1, 1e-3)])
def test_a_sweep_killed_between_its_records_goes_on_from_its_checkpoint(tiny, monkeypatch, values):
    # one trial's part is there, the next one's is not: its epochs are in the checkpoint of both, also where a third
    # trial was there before
    train_together(sweep(*values[2:], 1.0), tiny, 2, device="cpu")
    added, add = [], records.add

    def add_one(record):
        if added:
            raise KeyboardInterrupt
        added.append(add(record))

    monkeypatch.setattr(records, "add", add_one)
    with pytest.raises(KeyboardInterrupt):
        train_together(sweep(*values), tiny, 2, device="cpu")
    monkeypatch.setattr(records, "add", add)
    monkeypatch.delattr(Trainer, "step")  # no step is left to make
    found = train_together(sweep(*values), tiny, 2, device="cpu")
    assert together_with(found[:2]) == [[([0, 1], 4)], [([0, 1], 4)]]


@pytest.mark.parametrize(
    ("lacking", "begun", "shared"),
    [
        # trials of which none has anything train together, and so do those that lack the same
        ([{0, 1}, {0, 1}], [], {(0, 1): {0, 1}}),
        ([{1}, {0, 1}, {1}, set()], [], {(0, 2): {1}, (1,): {0, 1}}),
        # two had begun, and are in no need of the third; one of them, or all, may lack nothing any more
        ([{0, 1}, {0, 1}, {0, 1}], [((0, 1), [0, 1])], {(0, 1): {0, 1}, (2,): {0, 1}}),
        ([set(), {0, 1}], [((0, 1), [0, 1])], {(0, 1): {0, 1}}),
        ([set(), set(), {0, 1}], [((0, 1), [0, 1])], {(2,): {0, 1}}),
        # a group of all that goes on, and the seeds that none of them has, are dealt out together
        ([{0, 1, 2, 3}, {0, 1, 2, 3}], [((0, 1), [0, 1])], {(0, 1): {0, 1, 2, 3}}),
        # and not what one has already
        ([set(), {0, 1, 2, 3}], [((0, 1), [0, 1])], {(0, 1): {0, 1}, (1,): {2, 3}}),
    ],
)
def test_what_had_begun_together_goes_on_together(lacking, begun, shared):
    assert share(lacking, begun) == shared


def test_same_seed_same_history(tiny):
    # Float32, Adam and dropout: two runs are identical to the last bit.
    trial = sgd(optimiser="adam", normaliser="ghost", l1=1e-4)
    a, b = (train(trial, tiny, 3, device="cpu") for _ in range(2))
    assert a.history.drop(columns="seconds").equals(b.history.drop(columns="seconds"))
    assert a.weight_norms.equals(b.weight_norms)
    assert np.array_equal(a.logits, b.logits)
    assert all(np.array_equal(a.weights[name], b.weights[name]) for name in a.weights)


def test_training_does_not_depend_on_the_global_random_state(tiny):
    torch.manual_seed(1)
    a = train(sgd(), tiny, 1, device="cpu")
    torch.manual_seed(2)
    b = train(sgd(), tiny, 1, device="cpu")
    assert a.history.train_loss.equals(b.history.train_loss)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_every_normaliser_learns_at_every_precision(tiny, normaliser, precision):
    # The 24 images are learned by heart: the training loss halves.
    trial = sgd(normaliser=normaliser, optimiser="adam", epochs=12, dropout=0.0, rotation=0.0)
    losses = train(trial, tiny, 1, precision=precision, device="cpu").history.train_loss
    assert losses.iloc[-1] < 0.5 * losses.iloc[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_cpu(tiny):
    # The same seed on another device, dropout off (its streams are the device's): the same to 1e-7 in float64.
    trial = sgd(dropout=0.0, l1=1e-3)
    fused = trained(trial, tiny.to("cuda"), SEEDS)
    fused.net, fused.logits = fused.net.cpu(), fused.logits.cpu()
    for r, seed in enumerate(SEEDS):
        assert_same_replica(fused, r, trained(trial, tiny, [seed]), 0, tolerance=1e-7)


# --- what a step computes ---


def one_step(dataset: data.Dataset, **settings) -> tuple[dict, dict]:
    """The parameters of seed 0 before and after the first step on `gap`, which has weights, biases and norms."""
    trainer = Trainer([sgd(network="gap", batch_size=24, epochs=1, **settings)], dataset, [0], "float64")
    before = {name: p.detach().clone() for name, p in trainer.net.named_parameters()}
    trainer.run_epoch()
    return before, {name: p.detach().clone() for name, p in trainer.net.named_parameters()}


def convolution_weights(names) -> set[str]:
    net = builder.build(NETWORKS["gap"])
    modules = dict(net.named_modules())
    return {n for n in names if n.endswith("weight") and isinstance(modules[n[: -len(".weight")]], torch.nn.Conv2d)}


@pytest.mark.parametrize("penalty", [{"l1": 0.01}, {"l1": 0.01, "l1_kind": "proximal"}, {"l2": 0.1}])
def test_penalise_weights_leaves_norms_and_biases_alone(tiny, penalty):
    # After one step from the same point, only convolution weights differ from the run without a penalty; with "all"
    # every parameter that is not zero does.
    start, free = one_step(tiny)
    _, on_weights = one_step(tiny, **penalty, penalise="weights")
    _, on_all = one_step(tiny, **penalty, penalise="all")
    weights = convolution_weights(start)
    assert {name for name in start if not torch.equal(on_weights[name], free[name])} == weights
    changed = {name for name in start if not torch.equal(on_all[name], free[name])}
    assert changed >= weights | {name for name in start if start[name].any()}


def test_l1_step_formula(tiny):
    # Subgradient with SGD: one step moves a weight by a further -lr * l1 * sign(w).
    start, free = one_step(tiny)
    _, penalised = one_step(tiny, l1=0.02)
    for name, w in start.items():
        torch.testing.assert_close(penalised[name], free[name] - 0.01 * 0.02 * w.sign(), rtol=1e-10, atol=1e-12)


def test_l2_step_formula(tiny):
    # Coupled with SGD: one step moves a weight by a further -lr * l2 * w.
    start, free = one_step(tiny)
    _, penalised = one_step(tiny, l2=0.2)
    for name, w in start.items():
        torch.testing.assert_close(penalised[name], free[name] - 0.01 * 0.2 * w, rtol=1e-10, atol=1e-12)


def test_proximal_step_formula(tiny):
    # SGD with momentum 0.9, then w <- sign(w) max(|w| - lr * l1 / (1 - 0.9), 0).
    _, free = one_step(tiny)
    _, penalised = one_step(tiny, l1=0.2, l1_kind="proximal")
    for name, w in free.items():
        expected = torch.where(w.abs() > 0.02, w - 0.02 * w.sign(), 0.0)
        torch.testing.assert_close(penalised[name], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("kind", "some"), [("proximal", True), ("subgradient", False)])
def test_only_the_proximal_step_reaches_zero(tiny, kind, some):
    # A penalty strong enough to drive weights to zero: exact zeros by soft threshold, none by subgradient.
    net = trained(sgd(l1=0.1, l1_kind=kind, epochs=10, learning_rate=0.03), tiny, [0]).net
    weights = torch.cat([layer.weight.detach().flatten() for layer in net.layers if isinstance(layer, torch.nn.Conv2d)])
    assert ((weights == 0).sum() > 1000) == some
    assert ((weights == 0).sum() == 0) != some


def with_gradients(**settings) -> tuple[builder.Net, list, torch.optim.Optimizer, list, list]:
    """A small network, what its penalties act on, its optimiser, and its parameters and made-up gradients."""
    trial = make_trial("regularisers", "t", like="", learning_rate=0.02, **settings)
    net = builder.initialise(trial.build(2), [0, 1]).double()
    penalised, optimiser = make_optimiser(trial, net)
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    start = [p.detach().clone() for p in net.parameters()]
    return net, penalised, optimiser, start, [p.grad.clone() for p in net.parameters()]


@pytest.mark.parametrize("kind", ["coupled", "decoupled"])
def test_adam_step_by_hand(kind):
    # The first step of Adam is lr * g / (|g| + eps). Coupled decay adds l2 * w to g; decoupled shrinks w by lr * l2.
    net, _, optimiser, start, gradients = with_gradients(l2=0.5, l2_kind=kind)
    optimiser.step()
    for p, w, g in zip(net.parameters(), start, gradients, strict=True):
        if kind == "coupled":
            g = g + 0.5 * w
            expected = w - 0.02 * g / (g.abs() + 1e-8)
        else:
            expected = w * (1 - 0.02 * 0.5) - 0.02 * g / (g.abs() + 1e-8)
        torch.testing.assert_close(p.detach(), expected, rtol=1e-9, atol=1e-12)


def test_adam_decay_kinds_differ():
    after = []
    for kind in ("coupled", "decoupled"):
        torch.manual_seed(0)
        net, _, optimiser, start, _ = with_gradients(l2=0.5, l2_kind=kind)
        optimiser.step()
        after.append([p.detach() for p in net.parameters()])
    started_at_zero = [not w.any() for w in start]  # shifts: no decay of either kind
    same = [torch.allclose(a, b) for a, b in zip(*after, strict=True)]
    assert same == started_at_zero


def test_proximal_adam_step_by_hand():
    # After the first step sqrt(v) is |g|: the threshold is lr * l1 / (|g| + eps), a lambda per replica.
    net, penalised, optimiser, start, gradients = with_gradients(l1=1.0, l1_kind="proximal")
    optimiser.step()
    l1 = torch.tensor([0.5, 0.0], dtype=torch.float64)
    soft_threshold(penalised, l1, optimiser)
    for p, w, g in zip(net.parameters(), start, gradients, strict=True):
        stepped = w - 0.02 * g / (g.abs() + 1e-8)
        share = torch.cat([torch.full_like(part, value) for part, value in zip(w.chunk(2), l1, strict=True)])
        threshold = 0.02 * share / (g.abs() + 1e-8)
        expected = stepped.sign() * (stepped.abs() - threshold).clamp(min=0)
        torch.testing.assert_close(p.detach(), expected, rtol=1e-9, atol=1e-12)


def test_l1_subgradient_by_hand():
    # grad += l1 * sign(w), replica by replica; nothing at zero.
    net, penalised, _, start, gradients = with_gradients(l1=1.0)
    add_l1_subgradient(penalised, torch.tensor([0.5, 0.0], dtype=torch.float64))
    for p, w, g in zip(net.parameters(), start, gradients, strict=True):
        added = torch.cat([0.5 * w.chunk(2)[0].sign(), torch.zeros_like(w.chunk(2)[1])])
        torch.testing.assert_close(p.grad, g + added, rtol=0, atol=1e-15)


def test_decoupled_decay_needs_adam(tiny):
    with pytest.raises(TrialError, match="decoupled"):
        trained(sgd(l2=0.1, l2_kind="decoupled"), tiny, [0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_per_replica(tiny, smoothing):
    # A replica's loss is torch's own on its logits; smoothed: (1 - s) of the true class, s/10 of each.
    trainer = Trainer([sgd(label_smoothing=smoothing, dropout=0.0)], tiny, [0, 1], "float64")
    x = torch.rand(8, 2, 28, 28, dtype=torch.float64)
    y = torch.randint(10, (8, 2))
    trainer.net.train()
    logits = trainer.net(x)
    losses, right = trainer.step(x, y)
    for r in range(2):
        expected = F.cross_entropy(logits[:, r], y[:, r], label_smoothing=smoothing)
        torch.testing.assert_close(losses[r], expected.detach(), rtol=1e-12, atol=0)
        log_p = logits[:, r].log_softmax(1)
        by_hand = -((1 - smoothing) * log_p[range(8), y[:, r]] + smoothing * log_p.mean(1)).mean()
        torch.testing.assert_close(losses[r], by_hand.detach(), rtol=1e-12, atol=0)
        assert right[r] == (logits[:, r].argmax(1) == y[:, r]).sum()


# --- what is measured ---


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_evaluation_does_not_depend_on_the_batch_size(tiny, monkeypatch, normaliser):
    trainer = trained(sgd(normaliser=normaliser, epochs=1), tiny, [0, 1])
    for size in (1, 3, 10, 500):
        monkeypatch.setattr(loop, "EVALUATION_BATCH", size)
        torch.testing.assert_close(trainer.evaluate(), trainer.logits, rtol=1e-12, atol=1e-12)


def test_evaluation_changes_nothing(tiny):
    # No weight and no statistic moves, and dropout is off.
    trainer = trained(sgd(epochs=1), tiny, [0])
    before = {name: value.clone() for name, value in trainer.net.state_dict().items()}
    assert torch.equal(trainer.evaluate(), trainer.evaluate())
    assert all(torch.equal(value, before[name]) for name, value in trainer.net.state_dict().items())


def test_score():
    # Mean cross-entropy and percent right, replica by replica.
    logits, labels = torch.randn(3, 40, 10), torch.randint(10, (40,))
    loss, accuracy = loop.score(logits, labels)
    for r in range(3):
        assert loss[r].item() == pytest.approx(F.cross_entropy(logits[r].double(), labels).item())
        assert accuracy[r].item() == 100 * (logits[r].argmax(1) == labels).sum().item() / 40


def test_history_is_what_the_logits_say(tiny):
    # The last row's test numbers follow from the record's own logits (half precision), and the columns are in order.
    record = train(sgd(), tiny, [4, 2], device="cpu")
    loss, accuracy = loop.score(torch.tensor(record.logits), torch.tensor(record.labels))
    last = record.history[record.history.epoch == 2].set_index("seed").loc[[4, 2]]
    assert last.test_loss.tolist() == pytest.approx(loss.tolist(), rel=1e-3)
    assert last.test_accuracy.tolist() == accuracy.tolist()
    assert list(record.history.columns) == list(records.HISTORY)
    assert record.history.learning_rate.tolist() == [0.01] * 4


def test_every_epoch_has_its_own_order(tiny):
    # With a rate of next to nothing only the batches' make-up, through batch norm, can change the training loss.
    trainer = trained(sgd(learning_rate=1e-12, dropout=0.0, rotation=0.0, epochs=3), tiny, [0])
    losses = [row["train_loss"] for row in trainer.history]
    assert abs(losses[0] - losses[1]) > 1e-4
    assert abs(losses[1] - losses[2]) > 1e-4


def test_training_loss_is_a_mean_over_images(digits):
    # With a rate of next to nothing and no dropout, an epoch's training loss is the loss of the untouched network:
    # batches of 8, 8 and 4 count by their images, not one like the other.
    few = data.limit(digits, 20, 10)
    trainer = Trainer([sgd(learning_rate=1e-12, normaliser="none", dropout=0.0, rotation=0.0)], few, [0], "float64")
    loss, accuracy = loop.score(_logits_of(trainer, few.train_images), few.train_labels)
    trainer.run_epoch()
    assert trainer.history[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-9)
    assert trainer.history[0]["train_accuracy"] == pytest.approx(accuracy.item())


def test_evaluation_sees_the_test_images_as_they_are(tiny):
    # Normalised and nothing else: no rotation, no shift, every image once, in order.
    trainer = trained(sgd(), tiny, [3])
    expected = trainer.net.eval()(tiny.normalise(tiny.test_images, torch.float64)[:, None])[:, 0]
    torch.testing.assert_close(trainer.logits[0], expected, rtol=1e-12, atol=1e-12)


def _logits_of(trainer: Trainer, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return trainer.net(trainer.dataset.normalise(images, torch.float64)[:, None]).transpose(0, 1)


def test_weight_norms(tiny):
    # Sums over all parameters of a replica, after the first batch (epoch 0) and after every epoch.
    record = train(sgd(), tiny, [4, 2], precision="float64", device="cpu")
    assert record.weight_norms.epoch.tolist() == [0, 1, 2] * 2
    assert record.weight_norms.sum_abs.iloc[0] != record.weight_norms.sum_abs.iloc[1]
    learned = [v for name, v in record.weights.items() if "running" not in name and "num_batches" not in name]
    for r, seed in enumerate([4, 2]):
        last = record.weight_norms[record.weight_norms.seed == seed].iloc[-1]
        assert last.sum_abs == pytest.approx(sum(np.abs(v[r]).sum() for v in learned))
        assert last.sum_squares == pytest.approx(sum((v[r] ** 2).sum() for v in learned))


def test_record_says_where_it_comes_from(tiny):
    record = train(sgd(), tiny, 2, precision="float32", device="cpu")
    assert record.dataset["checksum"] == tiny.checksum
    expected = {"parameters": 7384, "precision": "float32", "device": "cpu", "replicas_together": 2}
    assert expected.items() <= record.provenance.items()
    assert {"git_commit", "git_dirty", "versions", "seconds"} <= record.provenance.keys()
    assert record.logits.dtype == np.float16


@pytest.mark.parametrize(
    ("asked", "device", "able", "expected"),
    [
        ("auto", "cpu", True, "bfloat16"),
        ("auto", "cpu", False, "float32"),
        ("auto", "cuda", True, "float32"),
        ("float32", "cpu", True, "float32"),
        ("bfloat16", "cpu", False, "bfloat16"),
    ],
)
def test_what_auto_stands_for(monkeypatch, asked, device, able, expected):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: able)
    assert precision.resolve_precision(asked, torch.device(device)) == expected


# --- what goes wrong ---


def test_poisoned_replica_is_recorded_and_harms_nobody(tiny):
    # Replica 1 starts with a NaN weight: seed, epoch and step are noted, and the others' numbers are those without it.
    healthy = trained(sgd(), tiny, [3, 0, 7])
    poisoned = Trainer([sgd()], tiny, [3, 0, 7], "float64")
    with torch.no_grad():
        poisoned.net.layers[0].weight.chunk(3)[1].fill_(math.nan)
    poisoned.run()
    for r in (0, 2):
        assert_same_replica(poisoned, r, healthy, r, tolerance=0)
    record = poisoned.records()[0]
    assert record.diverged == [{"seed": 0, "epoch": 1, "step": 1}]
    assert set(record.history.seed) == {3, 7}
    assert record.non_diverged == [0, 2]


def test_late_divergence_is_dated(tiny):
    # A weight that turns NaN after the first epoch shows in the second epoch's first step; the first epoch's row stays.
    trainer = Trainer([sgd(epochs=3)], tiny, [3, 0], "float64")
    trainer.run_epoch()
    with torch.no_grad():
        trainer.net.layers[0].weight.chunk(2)[1].fill_(math.nan)
    trainer.run()
    record = trainer.records()[0]
    assert record.diverged == [{"seed": 0, "epoch": 2, "step": 1}]
    assert record.history[["seed", "epoch"]].values.tolist() == [[0, 1], [3, 1], [3, 2], [3, 3]]


def test_everything_diverges(tiny, tmp_path):
    # A learning rate of 1e30 ends in infinity for every seed: training stops, the record says so and can be kept.
    record = train(sgd(learning_rate=1e30, normaliser="none", epochs=50), tiny, [3, 0], device="cpu")
    assert [entry["seed"] for entry in record.diverged] == [3, 0]
    assert {entry["epoch"] for entry in record.diverged} == {1}
    assert all(2 <= entry["step"] <= 3 for entry in record.diverged)  # the first step's loss is still sound
    assert len(record.history) == 0
    assert record.non_diverged == []
    loaded = records.load(records.add(record, tmp_path))
    assert loaded.diverged == record.diverged


def test_ghost_splits_that_do_not_divide_the_last_batch(digits):
    # 20 images in batches of 8 leave 4, which 8 splits do not divide; said before anything is trained.
    trial = sgd(normaliser="ghost", ghost_splits=8)
    message = "ghost_splits=8 does not divide a batch of 4 images (20 = 2 x 8 + 4); valid: [1, 2, 4]"
    with pytest.raises(TrialError, match=f"^{re.escape(message)}$"):
        train(trial, data.limit(digits, 20, 10), 1, device="cpu")


def test_ghost_splits_that_do_not_divide_the_batch(tiny):
    message = "ghost_splits=3 does not divide a batch of 8 images (24 = 3 x 8 + 0); valid: [1, 2, 4, 8]"
    with pytest.raises(TrialError, match=f"^{re.escape(message)}$"):
        train(sgd(normaliser="ghost", ghost_splits=3), tiny, 1, device="cpu")


def test_ghost_splits_that_divide_both_batches_train(digits):
    record = train(sgd(normaliser="ghost", ghost_splits=4), data.limit(digits, 20, 10), 1, device="cpu")
    assert len(record.history) == 2


@pytest.mark.parametrize("seeds", [0, -1, [], [1, 1], [-1], [0, -3]])
def test_bad_seeds(tiny, seeds):
    with pytest.raises(TrialError, match=f"^seeds={re.escape(str(seeds))}"):
        train(sgd(), tiny, seeds, device="cpu")


def test_number_of_seeds():
    # n stands for seeds 0 .. n - 1; a list stands for itself.
    assert check_seeds(3) == [0, 1, 2]
    assert check_seeds([7, 3]) == [7, 3]
    for numbers in (np.int64(3), np.arange(3), [np.int64(0), 1, 2]):
        assert check_seeds(numbers) == [0, 1, 2]
        assert {type(seed) for seed in check_seeds(numbers)} == {int}


def test_a_study_that_is_no_folder_is_refused_before_training(tiny):
    for study in ("my study", "../../up", ""):
        with pytest.raises(TrialError, match=f"^study={study!r} is no name of a folder"):
            train(dataclasses.replace(sgd(), study=study), tiny, 1, device="cpu")


def test_trials_that_differ_in_more_than_l1(tiny):
    with pytest.raises(TrialError, match="differ in more than l1; train them one after the other"):
        train_together([sgd(), sgd(l2=0.1)], tiny, 1, device="cpu")


def test_unknown_precision(tiny):
    message = "precision='half' is unknown; valid: auto, float32, bfloat16, float64"
    with pytest.raises(TrialError, match=f"^{message}$"):
        train(sgd(), tiny, 1, precision="half", device="cpu")


# --- averaged weights, soft labels, hooks ---


def test_average_by_hand(noise):
    # After T steps: sum over t of (1 - d_t) * prod_{u > t} d_u * w_t, d_t = min(decay, (1 + t) / (10 + t)).
    trainer = Trainer([sgd(ema=0.5, epochs=1)], noise, [0], "float64")
    expected = {name: value.clone() for name, value in trainer.net.state_dict().items()}
    steps = iter(range(100))

    def follow():
        t = next(steps)
        decay = min(0.5, (1 + t) / (10 + t))
        for name, value in trainer.net.state_dict().items():
            moved = decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value.clone()
            expected[name] = moved

    trainer.on_step = follow
    trainer.run()
    torch.testing.assert_close(trainer.average.net.state_dict(), expected, rtol=1e-12, atol=1e-12)
    assert next(steps) == 3


def test_average_is_what_is_evaluated_and_kept(noise):
    # the last weights' own accuracy and loss stand beside it in the history
    trainer = trained(sgd(ema=0.9), noise, [0])
    last, kept = trainer.history[-1], stack_replicas(trainer.average.net.state_dict(), 1)
    mean_loss, mean_accuracy = loop.score(trainer.evaluate(trainer.average.net), noise.test_labels)
    raw_loss, raw_accuracy = loop.score(trainer.evaluate(trainer.net), noise.test_labels)
    assert (last["test_loss"], last["test_accuracy"]) == (mean_loss.item(), mean_accuracy.item())
    assert (last["raw_test_loss"], last["raw_test_accuracy"]) == (raw_loss.item(), raw_accuracy.item())
    assert last["raw_test_loss"] != last["test_loss"]
    weights = trainer.records()[0].weights
    assert all(np.array_equal(weights[name], value.numpy()) for name, value in kept.items())


def test_averaging_leaves_the_training_itself_alone(noise):
    plain, averaged = trained(sgd(), noise, [0]), trained(sgd(ema=0.9), noise, [0])
    torch.testing.assert_close(plain.net.state_dict(), averaged.net.state_dict(), rtol=0, atol=0)


def test_averaged_training_goes_on_from_its_state(noise):
    whole, first, second = (Trainer([sgd(ema=0.9)], noise, [0, 1], "float64") for _ in range(3))
    whole.run()
    first.run_epoch()
    second.load_state(*first.state())
    second.run_epoch()
    assert torch.equal(whole.logits, second.logits)


def test_soft_labels_by_hand(noise):
    # cross-entropy with (1 - a) * one-hot + a * soft labels of the very images
    trainer = Trainer([sgd(distillation=0.25, rotation=0.0)], noise, [0], "float64")
    index = torch.tensor([[3], [7]])
    soft = trainer._soft_labels(index)
    logits, losses = trainer.forward(trainer.augment(index, None, torch.float64), noise.train_labels[index], soft)
    target = 0.75 * F.one_hot(noise.train_labels[[3, 7]], 10) + 0.25 * noise.soft_labels[[3, 7]].double()
    expected = -(target * logits[:, 0].log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(losses[0], expected, rtol=1e-12, atol=1e-12)


def test_a_record_of_averaged_weights_reads_back(noise, tmp_path):
    record = trained(sgd(ema=0.9), noise, [0, 1]).records()[0]
    again = records.load(records.add(record, tmp_path))
    pd.testing.assert_frame_equal(again.history, record.history)
    assert set(records.RAW) <= set(again.history.columns)
