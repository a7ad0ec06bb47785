"""Training a trial: from trial, data and seeds to a record. What a notebook calls."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch

from s6lib import paths, records
from s6lib.data import Dataset
from s6lib.models.norms import divisors
from s6lib.records import MOST_SEEDS, Record, RecordError
from s6lib.records.head import is_name
from s6lib.training.checkpoint import Checkpoints, left
from s6lib.training.deal import make_deal
from s6lib.training.live import Live, Watch
from s6lib.training.precision import default_device, keep_freed_memory, resolve_precision
from s6lib.training.trainer import Trainer
from s6lib.training.workers import train_in_workers
from s6lib.trial import Trial, TrialError


def train(trial: Trial, dataset: Dataset, seeds: int | Sequence[int], **options) -> Record:
    """Trains one replica of `trial` per seed, all together. See `train_together` for `options`."""
    return train_together([trial], dataset, seeds, **options)[0]


def train_together(
    trials: Sequence[Trial],
    dataset: Dataset,
    seeds: int | Sequence[int],
    precision: str = "auto",
    device: torch.device | str | None = None,
    save: bool = True,
    workers: int | None = None,
    live: Live | None = None,
) -> list[Record]:
    """Trains trials that differ only in name and `l1` as fused networks, one replica per trial and seed.

    `seeds` is a number n (seeds 0 .. n - 1) or a list. Replica (trial i, seed j) uses the streams of seed j, so
    trials are paired by seed. Returns one record per trial. Raises TrialError on settings that do not fit. Where some
    trials have seeds already, those that lack the same seeds train together.

    `workers` processes share the seeds, by default one per core where there is enough to do, and on a GPU only this
    one; 1 trains in this process. Raises WorkerError when they die again and again. `live` is called after every
    epoch with the histories so far, a table of trial, seed, epoch, losses and accuracies (`plots.live` draws them).

    Results are kept below `paths.interactive_results()`: seeds that are there are not trained again, and a training
    that was stopped continues after its last whole epoch. `save=False` neither reads nor writes results, and trains in
    this process.
    """
    seeds = check_seeds(seeds)
    check_fit(trials, dataset)
    device = torch.device(device) if device else default_device()
    keep_freed_memory()
    precision = resolve_precision(precision, device)
    if not save:
        trainer, watch = Trainer(trials, dataset.to(device), seeds, precision), Watch(live)
        trainer.on_step = lambda: watch(trainer)
        trainer.run()
        watch(trainer)
        return trainer.records()

    description = dataset.describe()
    found = [records.read(trial, description, precision, seeds) for trial in trials]
    if any(record is None or len(record.seeds) < len(seeds) for record in found):
        try:
            train_lacking(trials, dataset.to(device), found, seeds, precision, workers, Watch(live))
        except KeyboardInterrupt as stop:
            print("interrupted; whole epochs are kept, and the same call goes on from them")
            stop.__dict__["_render_traceback_"] = lambda: ["KeyboardInterrupt"]  # Jupyter shows this, not 50 lines
            raise
        found = [records.read(trial, description, precision, seeds) for trial in trials]
    whole = [record for record in found if record and len(record.seeds) == len(seeds)]
    if len(whole) < len(trials):
        folder = paths.interactive_results() / trials[0].study
        raise RecordError(f"{folder}: what was just trained cannot be read back; records.find says why")
    return whole


def train_lacking(
    trials: Sequence[Trial],
    dataset: Dataset,
    found: Sequence[Record | None],
    seeds: list[int],
    precision: str,
    workers: int | None,
    watch: Watch,
) -> None:
    """Trains the seeds that the trials lack in what was `found` of them, as `share` says."""
    probe = Trainer(trials[:1], dataset, seeds[:1], precision)
    known = [trial.settings() for trial in trials]
    begun = [
        (tuple(map(known.index, settings)), some)
        for settings, some in left(probe.identity(), trials[0].study, [trial.name for trial in trials])
        if all(one in known for one in settings) and set(some) <= set(seeds)
    ]
    lacking = [set(seeds) - set(record.seeds if record else []) for record in found]
    for places, some in share(lacking, begun).items():
        chosen = [seed for seed in seeds if seed in some]
        train_missing([trials[i] for i in places], dataset, chosen, precision, workers, watch)


def share(
    lacking: list[set[int]], begun: Sequence[tuple[tuple[int, ...], list[int]]]
) -> dict[tuple[int, ...], set[int]]:
    """Which trials, by their places, train which seeds together, from the seeds that each lacks.

    Trials and seeds that had `begun` together go on so, where one of the trials lacks one of the seeds; otherwise the
    trials that lack the same seeds train together.
    """
    shared: dict[tuple[int, ...], set[int]] = {}
    for places, seeds in begun:
        if any(lacking[i] & set(seeds) for i in places):
            shared.setdefault(places, set()).update(seeds)
            lacking = [lack - set(seeds) if i in places else lack for i, lack in enumerate(lacking)]
    for missing in {frozenset(lack): None for lack in lacking if lack}:
        shared.setdefault(tuple(i for i, lack in enumerate(lacking) if lack == missing), set()).update(missing)
    return shared


def train_missing(
    trials: Sequence[Trial],
    dataset: Dataset,
    missing: list[int],
    precision: str,
    workers: int | None,
    watch: Watch,
) -> None:
    """Deals the seeds `missing` and trains them, here or in worker processes; every group adds its own part."""
    probe = Trainer(trials, dataset, missing[:1], precision)
    deal = make_deal(probe, missing, workers)
    for group, threads in zip(deal.groups, deal.threads, strict=True):
        checkpoints_of(probe, group).begin(deal.workers, threads)
    if deal.workers > 1:
        train_in_workers(trials, dataset, deal, precision, watch)
        return
    usual = torch.get_num_threads()
    try:
        for group, threads in zip(deal.groups, deal.threads, strict=True):
            torch.set_num_threads(threads)
            train_and_add(trials, dataset, group, precision, told=watch)
    finally:
        torch.set_num_threads(usual)


def train_and_add(
    trials: Sequence[Trial],
    dataset: Dataset,
    seeds: list[int],
    precision: str,
    workers: int = 1,
    told: Callable[[Trainer], None] | None = None,
) -> None:
    """Trains one group, from the last checkpoint where there is one, and adds a part to every trial.

    Calls `told` after every step and at the end. `workers` is for the record: how many groups are trained side by side.
    """
    trainer = Trainer(trials, dataset, seeds, precision)
    if told:
        trainer.on_step = lambda: told(trainer)
    checkpoints = checkpoints_of(trainer, seeds)
    trainer.run(checkpoints)
    if told:
        told(trainer)
    seconds = {row["epoch"]: row["seconds"] for row in trainer.history}  # also of epochs that not all replicas reached
    for record in trainer.records():
        record.provenance |= {"workers": workers, "seconds": sum(seconds.values())}
        records.add(record)
    checkpoints.remove()


def checkpoints_of(trainer: Trainer, seeds: list[int]) -> Checkpoints:
    """Where a training like that of `trainer`, but of these seeds, keeps its checkpoints."""
    return Checkpoints({**trainer.identity(), "seeds": seeds}, trainer.trial.study, trainer.trial.name)


def check_seeds(seeds: int | Sequence[int] | np.ndarray | np.integer) -> list[int]:
    """The seeds that `seeds` stands for: n means 0 .. n - 1. Raises TrialError."""
    if isinstance(seeds, np.ndarray | np.integer):
        seeds = seeds.tolist()
    if type(seeds) is int and 1 <= seeds <= MOST_SEEDS:
        return list(range(seeds))
    many = list(seeds) if isinstance(seeds, list | tuple | range) else []
    many = [seed.item() if isinstance(seed, np.integer) else seed for seed in many]
    if not many or not all(type(seed) is int and 0 <= seed < 2**63 for seed in many) or len(set(many)) != len(many):
        valid = f"1 to {MOST_SEEDS:,}, or a list of different seeds, 0 to 2**63 - 1"
        raise TrialError(f"seeds={seeds!r} is out of range; valid: {valid}")
    return many


def check_fit(trials: Sequence[Trial], dataset: Dataset) -> None:
    """Raises TrialError when trials cannot train together or a batch does not suit the normaliser."""
    first = trials[0]
    if not is_name(first.study):
        raise TrialError(f"study={first.study!r} is no name of a folder; valid: letters, digits, _ . + - only")
    for trial in trials[1:]:
        if dataclasses.replace(trial, name=first.name, l1=first.l1) != first:
            raise TrialError(f"{trial.name} and {first.name} differ in more than l1; train them one after the other")
    if first.distillation and dataset.soft_labels is None:
        raise TrialError(
            f"distillation={first.distillation:g} needs soft labels, and {dataset.title} has none; "
            "data.with_soft_labels adds them"
        )
    images = len(dataset.train_images)
    if first.normaliser != "ghost":
        return
    for size in {min(first.batch_size, images), images % first.batch_size} - {0}:
        if size % first.ghost_splits:
            both = [k for k in divisors(first.batch_size) if images % first.batch_size % k == 0]
            raise TrialError(
                f"ghost_splits={first.ghost_splits} does not divide a batch of {size} images ({images:,} = "
                f"{images // first.batch_size} x {first.batch_size} + {images % first.batch_size}); valid: {both}"
            )
