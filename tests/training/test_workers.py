"""Seeds dealt over processes: which seeds go where, and that it changes no number."""

import dataclasses
import importlib
import json
import math
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from s6lib import data, processes, records
from s6lib.batch import chunks
from s6lib.models.norms import NORMALISERS
from s6lib.training import deal, live, train, train_together, workers
from s6lib.training.checkpoint import begun
from s6lib.training.deal import make_deal, split
from s6lib.training.train import checkpoints_of, train_and_add
from s6lib.training.trainer import Trainer
from s6lib.training.workers import Progress, WorkerError
from s6lib.trial import Trial, TrialError, make_trial

ROOT = Path(__file__).parents[2]
SEEDS = [5, 0, 3, 8]
train_module = importlib.import_module("s6lib.training.train")  # its name is also the function's


def sgd(**settings) -> Trial:
    plain = {"optimiser": "sgd", "momentum": 0.9, "learning_rate": 0.01, "schedule": "constant"}
    return make_trial("regularisers", "t", like="", **{**plain, "epochs": 2, "batch_size": 8, **settings})


def probe(dataset, **settings) -> Trainer:
    return Trainer([sgd(**settings)], dataset, [0], "float32")


@pytest.fixture(scope="session")
def own(digits) -> data.Dataset:
    """Images that no worker could load by name: a training set with its own last images held out."""
    return data.limit(data.hold_out(digits, 40), 24, 10)


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
    """Whatever machine the tests run on: two cores of 8 GB."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("S6_WORKERS", raising=False)
    monkeypatch.setattr(deal, "cores", lambda: 2)
    monkeypatch.setattr(deal, "memory", lambda: 8 << 30)


# --- which seeds go where ---


@pytest.mark.parametrize(("count", "workers_", "most"), [(8, 2, 16), (5, 2, 16), (1, 4, 16), (3, 8, 4), (100, 3, 4)])
def test_split_is_even_whole_and_in_order(count, workers_, most):
    # Every seed once, sizes that differ by one at most, none above `most`, a whole number of rounds.
    groups = split(list(range(count)), workers_, most)
    sizes = [len(group) for group in groups]
    assert [seed for group in groups for seed in group] == list(range(count))
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= most
    assert len(groups) % workers_ == 0 or len(groups) == count


def test_little_work_trains_in_this_process(digits):
    # The stated rule: fewer operations than SMALL are not worth a process; an argument is obeyed all the same.
    small, large = probe(digits), probe(digits, epochs=1000)
    assert deal.work(small, 8) < deal.SMALL < deal.work(large, 8)
    assert make_deal(small, list(range(8)), None) == deal.Deal([list(range(8))], [1], 1)
    assert make_deal(small, list(range(8)), 2) == deal.Deal([[0, 1, 2, 3], [4, 5, 6, 7]], [1, 1], 2)
    assert make_deal(large, list(range(8)), None).workers == 2


def test_the_documented_rule_is_the_code():
    text = " ".join((ROOT / "docs/performance.md").read_text(encoding="utf-8").split())
    assert f"at most {deal.MOST} replicas are fused in a part" in text
    assert f"reckoned as {deal.BASE >> 20} MB per process" in text
    assert f"fewer than 10<sup>{round(math.log10(deal.SMALL))}</sup> floating-point operations" in text
    assert chunks.MOST == deal.MOST


def test_work_counts_what_a_larger_network_costs(digits):
    # 7,384 parameters against 258,602: the images alone say nothing.
    skeleton = Trainer([make_trial("progression", "skeleton", epochs=1)], digits, [0], "float32")
    assert deal.work(skeleton, 1) > 50 * deal.work(probe(digits, epochs=1), 1)


def test_threads_are_never_more_than_cores(digits, monkeypatch):
    monkeypatch.setattr(deal, "cores", lambda: 16)
    monkeypatch.setattr(deal, "memory", lambda: 64 << 30)
    large = probe(digits, epochs=1000)
    for seeds in (1, 3, 5, 16, 100):
        made = make_deal(large, list(range(seeds)), None)
        assert made.workers == min(seeds, 16)
        busy = made.workers * made.threads[0] if made.workers > 1 else 16  # one process: torch's own, all
        assert 16 - made.workers < busy <= 16


def test_threads_that_the_user_grants_are_a_limit(digits, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert make_deal(probe(digits, epochs=1000), SEEDS, None).workers == 1
    monkeypatch.setenv("S6_WORKERS", "2")
    assert make_deal(probe(digits, epochs=1000), SEEDS, None).workers == 2


def test_short_memory_means_fewer_workers_and_smaller_parts(digits, monkeypatch):
    large = probe(digits, epochs=1000, batch_size=128)
    monkeypatch.setattr(deal, "cores", lambda: 16)
    monkeypatch.setattr(deal, "memory", lambda: 4 * (deal.BASE + 2 * deal.bytes_per_seed(large)))
    made = make_deal(large, list(range(20)), None)
    assert made.workers == 3  # three quarters of it: room for three that hold two seeds each
    assert max(map(len, made.groups)) == 2


def test_a_batch_shares_memory_like_cores(monkeypatch):
    # One of four trials side by side on eight cores: two workers, a quarter of the room.
    monkeypatch.setattr(deal, "cores", lambda: 8)
    whole = deal.room()
    monkeypatch.setenv("S6_WORKERS", "2")
    assert deal.room() == whole // 4


def test_trials_that_train_together_count_as_replicas(digits):
    trials = [sgd(epochs=1000), sgd(epochs=1000, l1=1e-3)]
    made = make_deal(Trainer(trials, digits, [0], "float32"), list(range(40)), None)
    assert max(map(len, made.groups)) <= deal.MOST // 2


def test_what_a_notebook_defined_trains_in_this_process(digits, monkeypatch):
    monkeypatch.setitem(NORMALISERS, "batch", lambda context: torch.nn.Identity())
    assert make_deal(probe(digits, epochs=1000), SEEDS, 2).workers == 1


@pytest.mark.parametrize("number", [0, -1, 1.5, True])
def test_workers_out_of_range(tiny, number):
    with pytest.raises(TrialError, match=f"^workers={re.escape(str(number))} is out of range; valid: 1 or more$"):
        train(sgd(), tiny, 2, device="cpu", workers=number)


def test_workers_of_the_environment_out_of_range(digits, monkeypatch):
    monkeypatch.setenv("S6_WORKERS", "many")
    with pytest.raises(TrialError, match=r"^S6_WORKERS='many' is out of range; valid: 1 or more$"):
        make_deal(probe(digits, epochs=1000), SEEDS, None)


def test_a_container_grants_fewer_cores_and_less_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "CGROUP", tmp_path)
    everything = processes.cores(), processes.memory()
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert (processes.cores(), processes.memory()) == everything
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    assert (processes.cores(), processes.memory()) == (1, 1000000)


# --- groups that had begun ---


def begin(trainer: Trainer, seeds: list[int], workers_: int, epochs: int, threads: int = 1) -> None:
    """As a training that was killed leaves it: begun, and with a checkpoint if it had trained an epoch."""
    checkpoints = checkpoints_of(trainer, seeds)
    checkpoints.begin(workers_, threads)
    if epochs:
        tensors, values = trainer.state()
        checkpoints.save(tensors, {**values, "epoch": epochs})


def test_begun_groups_stay_together(tiny):
    # [4..7] is what was left of a deal of 0..7 over two: it goes on as it was, and is not dealt out anew.
    begin(probe(tiny), [4, 5, 6, 7], 2, epochs=0)
    assert make_deal(probe(tiny), [4, 5, 6, 7], 2).groups == [[4, 5, 6, 7]]
    assert make_deal(probe(tiny), [2, 3, 4, 5, 6, 7], 2).groups == [[4, 5, 6, 7], [2], [3]]


def test_a_checkpoint_is_worth_keeping_whatever_the_number_of_workers(tiny):
    begin(probe(tiny), [0, 1, 2, 3], 1, epochs=0)
    assert make_deal(probe(tiny), [0, 1, 2, 3], 2).groups == [[0, 1], [2, 3]]
    begin(probe(tiny), [0, 1, 2, 3], 1, epochs=1)
    assert make_deal(probe(tiny), [0, 1, 2, 3], 2).groups == [[0, 1, 2, 3]]


def test_a_group_goes_on_in_as_many_threads(tiny, monkeypatch):
    # Which change the last bits: what is left of a deal in two trains in this process as its worker would have.
    begin(probe(tiny), [4, 5, 6, 7], 2, epochs=1, threads=3)
    assert make_deal(probe(tiny), [4, 5, 6, 7], 2) == deal.Deal([[4, 5, 6, 7]], [3], 1)
    used = []
    monkeypatch.setattr(train_module, "train_and_add", lambda *_, **__: used.append(torch.get_num_threads()))
    train_module.train_missing([sgd()], tiny, [4, 5, 6, 7], "float32", 2, live.Watch(None))
    assert used == [3]
    assert torch.get_num_threads() == 1


def test_begun_groups_of_others_are_left_alone(tiny):
    # Other settings, seeds that are done or not asked for, a file that is none of ours.
    begin(probe(tiny, l2=0.1), [0, 1], 2, epochs=1)
    begin(probe(tiny), [1, 9], 2, epochs=1)
    folder = checkpoints_of(probe(tiny), [0]).folder
    (folder / "x.json").write_text("[]")
    assert make_deal(probe(tiny), [0, 1], 2).groups == [[0], [1]]


def test_overlapping_groups_train_no_seed_twice(tiny):
    begin(probe(tiny), [0, 1, 2], 2, epochs=1)
    begin(probe(tiny), [2, 3], 2, epochs=1)
    groups = make_deal(probe(tiny), [0, 1, 2, 3], 2).groups
    assert sorted(seed for group in groups for seed in group) == [0, 1, 2, 3]
    assert groups == [[0, 1, 2], [3]]


def test_nothing_of_a_finished_training_counts_as_begun(tiny):
    train(sgd(), tiny, [0, 1], precision="float32", device="cpu")
    assert begun(probe(tiny).identity(), "regularisers", "t", 1) == []


# --- dealt out, nothing changes ---


@pytest.fixture(scope="module")
def dealt(own, tmp_path_factory):
    """Four seeds of a float64 training dealt over two processes, in a results folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S6_LAB", str(tmp_path_factory.mktemp("dealt")))
        patch.setenv("OMP_NUM_THREADS", "2")
        record = train(sgd(), own, SEEDS, precision="float64", device="cpu", workers=2)
        left = sorted(path.name for path in record.path.iterdir())
        return record, left


def plain(record: records.Record) -> pd.DataFrame:
    return record.history.drop(columns="seconds")


def test_seconds_are_of_all_epochs_also_where_the_first_seed_diverges(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("S6_LAB", str(tmp_path))

    def poison(trainer):  # after the first epoch
        if trainer.history:
            trainer.net.layers[0].weight.data.chunk(2)[0].fill_(math.nan)

    train_and_add([sgd(epochs=3)], tiny, [0, 1], "float64", told=poison)
    record = records.read(sgd(epochs=3), tiny.describe(), "float64", [0, 1])
    assert record.diverged == [{"seed": 0, "epoch": 2, "step": 2}]
    assert record.provenance["seconds"] == pytest.approx(record.history[record.history.seed == 1].seconds.sum())


@pytest.mark.slow
def test_same_grouping_same_history(dealt, own):
    # To the last bit, whether a group trained in a worker or here.
    record, _ = dealt
    for group in (SEEDS[:2], SEEDS[2:]):
        train_and_add([sgd()], own, group, "float64")
    here = records.read(sgd(), own.describe(), "float64", SEEDS)
    assert plain(here).equals(plain(record))
    assert here.weight_norms.equals(record.weight_norms)
    assert np.array_equal(here.logits, record.logits)
    assert all(np.array_equal(here.weights[name], record.weights[name]) for name in here.weights)


@pytest.mark.slow
def test_another_grouping_is_the_same_to_rounding(dealt, own):
    # All four fused in this process: six steps in float64, 1e-9.
    record, _ = dealt
    here = train(sgd(), own, SEEDS, precision="float64", device="cpu", workers=1)
    assert here.provenance["replicas_together"] == 4
    pd.testing.assert_frame_equal(plain(here), plain(record), rtol=1e-9)
    for name, value in here.weights.items():
        np.testing.assert_allclose(record.weights[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_every_worker_adds_a_part_that_says_how_it_was_dealt(dealt):
    record, left = dealt
    assert sorted(part["seeds"] for part in record.parts) == [[3, 8], [5, 0]]
    facts = {"workers": 2, "replicas_together": 2, "threads": 1}
    assert all(facts.items() <= part["provenance"].items() for part in record.parts)
    assert record.seeds == SEEDS
    assert [name.split(".")[0] for name in left] == ["seeds-0_5", "seeds-3_8"]  # nothing else, nothing hidden


@pytest.mark.slow
def test_an_error_of_a_worker_is_named(own):
    # A label that is no digit: the last line of the worker's traceback, and whose seeds they were.
    bad = data.Dataset("bad", own.train_images, own.train_labels + 9, *[own.test_images, own.test_labels], 0.5, 0.3)
    with pytest.raises(WorkerError, match=r"^seeds? .* of t: IndexError: Target .* is out of bounds"):
        train(sgd(), bad, 2, precision="float32", device="cpu", workers=2)
    assert not running()


@pytest.mark.slow
def test_code_that_changed_meanwhile_is_named(own, monkeypatch):
    # As a kernel that runs since before an edit: its parts would be stale to it.
    monkeypatch.setattr(workers, "source_fingerprint", lambda *_: "before the edit")
    with pytest.raises(WorkerError, match=r"the library's code has changed since .* start that one again$"):
        train(sgd(), own, 2, precision="float32", device="cpu", workers=2)


def running() -> list[str]:
    """Workers of this process."""
    found = subprocess.run(
        ["pgrep", "-f", f"s6lib.processes {os.getpid()} s6lib.training.worker"], capture_output=True, text=True
    )
    return found.stdout.split()


def test_why_a_process_ended():
    assert "killed (SIGKILL; most often because memory ran out" in workers.reason(-9, ["x"])
    assert workers.reason(-15, []) == "its process was ended by SIGTERM"
    assert workers.reason(1, ["Traceback", "ValueError: far too red"]) == "ValueError: far too red"
    assert workers.reason(1, []) == "its process ended with exit code 1"
    assert workers.reason(0, ["a warning"]) == ""


def test_without_saving_all_is_done_in_this_process(tiny, monkeypatch):
    monkeypatch.setattr(train_module, "train_in_workers", None)
    record = train(sgd(), tiny, SEEDS, device="cpu", save=False, workers=2)
    assert record.seeds == SEEDS


def test_seconds_of_parts_side_by_side(tiny):
    # Two parts of 6 and 8 s that ran at the same time took 7 s; four seeds at a time, one took 1.5 or 2 s.
    record = train(sgd(), tiny, SEEDS, device="cpu")
    one = {**record.provenance, "workers": 2, "replicas_together": 2}
    record.parts = [{"provenance": {**one, "seconds": seconds}} for seconds in (6.0, 8.0)]
    assert record.seconds == 7.0
    assert record.seconds_per_seed == 1.75


def test_all_of_a_data_set_reaches_the_worker(own):
    # Soft labels too: what a worker makes of its task is the same data set.
    soft = dataclasses.replace(own, soft_labels=torch.rand(len(own.train_images), 10))
    head, content = workers.pack(soft, {})
    head = json.loads(json.dumps(head))
    again = data.Dataset(**{**head["dataset"], **safetensors.torch.load(content)})
    assert len(content) == head["bytes"]
    assert again.describe() == soft.describe()
    assert (again.mean, again.std) == (soft.mean, soft.std)


# --- what is shown ---


def rows(seed: int, *accuracies: float) -> list[list]:
    """What a training tells of one seed."""
    return [["t", seed, epoch, 0.5, 80.0, 0.4, accuracy] for epoch, accuracy in enumerate(accuracies, 1)]


def test_the_bar_moves_by_step_over_all_groups(tiny, monkeypatch, tmp_path):
    # Two epochs of three steps for each of two groups: 12 steps; the mean is over the seeds of both.
    monkeypatch.delenv("S6_QUIET")
    monkeypatch.setenv("S6_HEARTBEAT", str(tmp_path / "beat.json"))
    with Progress([sgd()], tiny, deal.Deal([[0, 1], [2]], [1, 1], 2), live.Watch(None)) as progress:
        progress.note([0, 1], {"epoch": 0, "step": 2, "history": []})
        progress.show()
        assert (progress.bar.n, progress.bar.total) == (2, 12)
        assert not (tmp_path / "beat.json").exists()
        progress.note([0, 1], {"epoch": 1, "step": 1, "history": rows(0, 90.0) + rows(1, 96.0)})
        progress.note([2], {"epoch": 1, "step": 1, "history": rows(2, 99.0)})
        progress.show()
        assert progress.bar.n == 8
        assert progress.bar.postfix == "epoch 2/2, mean test accuracy 95.00 %"
        told = json.loads((tmp_path / "beat.json").read_text())
        assert (told["trial"], told["epoch"], told["epochs"], told["replicas"]) == ("t", 1, 2, 3)
        progress.finish([0, 1])
        progress.finish([2])
        progress.show()
        assert progress.bar.n == 12


def test_options_pass_through_every_call(tiny, monkeypatch):
    # `train` is `train_together` of one trial, `workers` included.
    asked = []
    monkeypatch.setattr(
        train_module, "train_missing", lambda *a: asked.append((a[-2], a[-1].live)) or train_and_add(*a[:-2])
    )
    train_together([sgd()], tiny, [0], device="cpu", workers=3)
    train(sgd(), tiny, [1], device="cpu", workers=4, live=print)
    assert asked == [(3, None), (4, print)]


# --- watched ---


@pytest.mark.parametrize("options", [{}, {"save": False}])
def test_a_watcher_gets_every_epoch_whole(tiny, options):
    # Once an epoch, not once a step; at the end the table is the record's history.
    seen = []
    record = train(sgd(), tiny, [4, 7], device="cpu", workers=1, live=seen.append, **options)
    assert [len(table) for table in seen] == [2, 4]
    same = seen[-1].sort_values(["seed", "epoch"], ignore_index=True)
    assert set(same.trial) == {"t"}
    columns = ["seed", "epoch", *live.COLUMNS]
    pd.testing.assert_frame_equal(same[columns], record.history[columns])


def test_a_watcher_gets_all_groups_in_one_table(tiny):
    seen = []
    watch = live.Watch(seen.append)
    watch.note(rows(0, 90.0) + rows(1, 96.0))
    watch.note(rows(2, 99.0))
    watch.note(rows(2, 99.0))  # nothing new
    assert [list(table.seed) for table in seen] == [[0, 1], [0, 1, 2]]


@pytest.mark.slow
def test_workers_tell_their_histories(own):
    # Also of what had been trained before: the last table is the record's history.
    seen = []
    record = train(sgd(), own, [21, 22], precision="float64", device="cpu", workers=2, live=seen.append)
    last = seen[-1].sort_values(["seed", "epoch"], ignore_index=True)
    columns = ["seed", "epoch", *live.COLUMNS]
    pd.testing.assert_frame_equal(last[columns], record.history[columns])
