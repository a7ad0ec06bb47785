"""Trial + data + seeds -> record: the one training loop, for R replicas at once.

The loss is the SUM over replicas of each replica's mean loss, so every replica gets exactly the gradients it would
get alone. Nothing in a step waits for the device or loops over replicas.
"""

import contextlib
import ctypes
import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from s6lib import checkpoints, records, streams
from s6lib.data import Augmenter, Dataset, random_angles
from s6lib.nets import attach_dropout, count_parameters, initialise, stack_replicas
from s6lib.norms import divisors
from s6lib.penalties import add_l1_subgradient, make_optimiser, soft_threshold
from s6lib.records import Record
from s6lib.trial import Trial, TrialError

PRECISIONS = ("auto", "float32", "bfloat16", "float64")
EVALUATION_BATCH = 500
CHECK_EVERY = 32  # steps between looks at whether any replica still learns


def keep_freed_memory() -> None:
    """Lets glibc keep freed blocks in the process: activations are freed and wanted again in every step, and giving
    them back to the kernel in between costs a fifth to a third of a step. Elsewhere than on glibc, nothing."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**26)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            libc.mallopt(option, value)


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(precision: str, device: torch.device) -> str:
    """The precision that "auto" stands for on `device`: the fastest that was shown to be as accurate as float32.

    That is bfloat16 on processors that multiply it (benchmarks/equivalence.py tests the accuracy, benchmarks/bench.py
    the speed), float32 on others and on GPUs, where neither has been measured. Raises TrialError.
    """
    if precision not in PRECISIONS:
        raise TrialError(f"precision={precision!r} is unknown; valid: {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    return "bfloat16" if device.type == "cpu" and multiplies_bfloat16() else "float32"


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16; known on Linux only."""
    with contextlib.suppress(OSError):
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return False


def train(trial: Trial, dataset: Dataset, seeds: int | Sequence[int], **options) -> Record:
    """Trains one replica of `trial` per seed, all together. See `train_together` for `options`."""
    return train_together([trial], dataset, seeds, **options)[0]


def train_together(
    trials: Sequence[Trial],
    dataset: Dataset,
    seeds: int | Sequence[int],
    precision: str = "auto",
    device: torch.device | str | None = None,
) -> list[Record]:
    """Trains trials that differ only in name and `l1` as one fused network, one replica per trial and seed.

    `seeds` is a number n (seeds 0 .. n - 1) or a list. Replica (trial i, seed j) uses the streams of seed j, so
    trials are paired by seed. Returns one record per trial. Raises TrialError on settings that do not fit.
    """
    seeds = check_seeds(seeds)
    check_fit(trials, dataset)
    device = torch.device(device) if device else default_device()
    keep_freed_memory()
    precision = resolve_precision(precision, device)
    old = checkpoints.previous(trials, describe_dataset(dataset), precision)
    missing = [seed for seed in seeds if not all(record and seed in record.seeds for record in old)]
    if not missing:
        return [records.select(record, seeds) for record in old]
    trainer = Trainer(trials, dataset.to(device), missing, precision)
    trainer.run()
    kept = [seed for seed in seeds if seed not in missing]
    pairs = zip(old, trainer.records(), strict=True)
    return [records.merge(records.select(a, kept), b) if kept else b for a, b in pairs]


def check_seeds(seeds: int | Sequence[int]) -> list[int]:
    """The seeds that `seeds` stands for: n means 0 .. n - 1. Raises TrialError."""
    if type(seeds) is int and seeds >= 1:
        return list(range(seeds))
    plain = isinstance(seeds, list | tuple | range) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not plain or not seeds or len(set(seeds)) != len(seeds):
        raise TrialError(f"seeds={seeds!r} is out of range; valid: 1 or more, or a list of different seeds, 0 or above")
    return list(seeds)


def check_fit(trials: Sequence[Trial], dataset: Dataset) -> None:
    """Raises TrialError when trials cannot train together or a batch does not suit the normaliser."""
    first = trials[0]
    for trial in trials[1:]:
        if dataclasses.replace(trial, name=first.name, l1=first.l1) != first:
            raise TrialError(f"{trial.name} and {first.name} differ in more than l1; train them one after the other")
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


class Trainer:
    """The state of one fused training, epoch by epoch."""

    def __init__(self, trials: Sequence[Trial], dataset: Dataset, seeds: list[int], precision: str):
        self.trials, self.trial, self.dataset, self.seeds = list(trials), trials[0], dataset, seeds
        self.replica_seeds = [seed for _ in trials for seed in seeds]
        self.precision, self.dtype = precision, torch.float64 if precision == "float64" else torch.float32
        self.device, self.replicas = dataset.train_images.device, len(self.replica_seeds)
        self.net = initialise(self.trial.build(self.replicas), self.replica_seeds).to(self.device, self.dtype)
        l1 = [trial.l1 for trial in trials for _ in seeds]
        self.l1 = self._per_replica(l1) if any(l1) else None
        self.penalised, self.optimiser = make_optimiser(self.trial, self.net)
        self.augment = Augmenter(dataset, self.trial.rotation, self.trial.rotate_after_normalise)
        self.epoch = 0
        self.history: list[dict] = []
        self.weight_norms: list[dict] = []
        self.bad_step = self._per_replica([-1.0] * self.replicas)  # first step with a NaN or infinite loss, or -1
        self.logits: Tensor | None = None

    def _per_replica(self, values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=self.dtype, device=self.device)

    def run(self) -> None:
        """Trains the epochs that are left, from the last checkpoint where there is one."""
        if checkpoints.restore(self):
            self.logits = self.evaluate()
        with tqdm(total=self.trial.epochs, initial=self.epoch, unit="epoch", **self._bar()) as bar:
            while self.epoch < self.trial.epochs and (self.bad_step < 0).any():
                self.run_epoch()
                checkpoints.save(self)
                bar.update()
                bar.set_postfix_str(f"mean test accuracy {self._mean('test_accuracy'):.2f} %")

    def _bar(self) -> dict:
        name = self.trial.name if len(self.trials) == 1 else f"{len(self.trials)} trials"
        return {"desc": f"{name} x {len(self.seeds)} seeds", "disable": checkpoints.in_batch()}

    def _mean(self, column: str) -> float:
        values = [row[column] for row in self.history if row["epoch"] == self.epoch]
        return sum(values) / max(len(values), 1)

    def run_epoch(self) -> None:
        """One pass over the training set, an evaluation, and their row per replica."""
        start = time.perf_counter()
        train_loss, correct = self._train_epoch()
        self.logits = self.evaluate()
        self.epoch += 1
        test_loss, test_accuracy = score(self.logits, self.dataset.test_labels)
        images = len(self.dataset.train_images)
        columns = {
            "train_loss": train_loss / images,
            "train_accuracy": 100 * correct / images,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
        }
        values = {name: value.tolist() for name, value in columns.items()}
        fixed = {"epoch": self.epoch, "learning_rate": self.trial.learning_rates()[self.epoch - 1]}
        seconds, good = time.perf_counter() - start, (self.bad_step < 0).tolist()
        for r in range(self.replicas):
            if good[r]:
                row = {"replica": r, **fixed, **{name: value[r] for name, value in values.items()}}
                self.history.append({**row, "seconds": seconds})
        self._note_weight_norms(self.epoch)

    def _train_epoch(self) -> tuple[Tensor, Tensor]:
        """Trains one epoch; the sum of losses and the number of right answers while training, each [R]."""
        order, angles = self._draw_epoch()
        size, images = self.trial.batch_size, order.shape[0]
        steps = -(-images // size)
        loss_sum, correct = self._per_replica([0.0] * self.replicas), self._per_replica([0.0] * self.replicas)
        self.net.train()
        for step in range(steps):
            if step % CHECK_EVERY == 0 and not (self.bad_step < 0).any():
                break
            part = slice(step * size, (step + 1) * size)
            self._set_rate(self.epoch + step / steps)
            x = self.augment(order[part], None if angles is None else angles[part], self.dtype)
            y = self.dataset.train_labels[order[part]]
            losses, right = self.step(x, y)
            loss_sum += losses * len(y)
            correct += right
            failed = ~torch.isfinite(losses) & (self.bad_step < 0)
            self.bad_step = torch.where(failed, self.epoch * steps + step, self.bad_step)
            if self.epoch == 0 and step == 0:
                self._note_weight_norms(0)
        attach_dropout(self.net, None)
        return loss_sum, correct

    def _draw_epoch(self) -> tuple[Tensor, Tensor | None]:
        """Every replica's own order and angles [images, R] for this epoch; points dropout at the epoch's streams."""
        images, epoch = len(self.dataset.train_images), self.epoch
        draw = lambda purpose: [streams.generator(seed, purpose, epoch) for seed in self.replica_seeds]  # noqa: E731
        order = torch.stack([torch.randperm(images, generator=source) for source in draw("order")], 1)
        angles = None
        if self.trial.rotation:
            rows = [random_angles(images, self.trial.rotation, source) for source in draw("augment")]
            angles = torch.stack(rows, 1).to(self.device)
        masks = [streams.generator(seed, "dropout", epoch, self.device) for seed in self.replica_seeds]
        attach_dropout(self.net, streams.BitStream(masks))
        return order.to(self.device), angles

    def _set_rate(self, moment: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.trial.rate_at(moment)

    def step(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """One update from images [N, R, 28, 28] and labels [N, R]: mean loss and right answers per replica, [R]."""
        logits, losses = self.forward(x, y)
        self.optimiser.zero_grad(set_to_none=True)
        losses.sum().backward()
        self.update()
        return losses.detach(), (logits.detach().argmax(-1) == y).sum(0)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N, R, 10] and each replica's mean loss [R]."""
        with self._autocast():
            logits = self.net(x)
        flat, smoothing = logits.flatten(0, 1).to(self.dtype), self.trial.label_smoothing
        losses = F.cross_entropy(flat, y.flatten(), reduction="none", label_smoothing=smoothing)
        return logits, losses.view(y.shape).mean(0)

    def update(self) -> None:
        """One optimiser step on the gradients at hand, with the trial's L1 penalty."""
        if self.l1 is not None and self.trial.l1_kind == "subgradient":
            add_l1_subgradient(self.penalised, self.l1)
        self.optimiser.step()
        if self.l1 is not None and self.trial.l1_kind == "proximal":
            soft_threshold(self.penalised, self.l1, self.optimiser)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    @torch.no_grad()
    def evaluate(self) -> Tensor:
        """Logits of every replica on the whole test set, [R, n, 10]; in float32 (or float64) whatever the precision."""
        self.net.eval()
        parts = []
        for pixels in self.dataset.test_images.split(EVALUATION_BATCH):
            x = self.dataset.normalise(pixels, self.dtype)[:, None]
            parts.append(self.net(x.expand(-1, self.replicas, -1, -1)))
        return torch.cat(parts).transpose(0, 1)

    @torch.no_grad()
    def _note_weight_norms(self, epoch: int) -> None:
        flat = torch.cat([parameter.view(self.replicas, -1) for parameter in self.net.parameters()], 1)
        sums = zip(flat.abs().sum(1).tolist(), flat.square().sum(1).tolist(), strict=True)
        for r, (sum_abs, sum_squares) in enumerate(sums):
            self.weight_norms.append({"replica": r, "epoch": epoch, "sum_abs": sum_abs, "sum_squares": sum_squares})

    # --- what is left behind ---

    def identity(self) -> dict:
        """What makes two trainings the same one, JSON-plain."""
        return {
            "trials": [trial.settings() for trial in self.trials],
            "dataset": describe_dataset(self.dataset),
            "seeds": self.seeds,
            "precision": self.precision,
            "device": self.device.type,
            "source": records.source_fingerprint(),
        }

    def state(self) -> tuple[dict[str, Tensor], dict]:
        """All that the next epoch depends on: tensors, and JSON-plain values. Random streams follow from the epoch."""
        optimiser = self.optimiser.state_dict()["state"]
        tensors = {f"net/{name}": value for name, value in self.net.state_dict().items()}
        tensors |= {f"optimiser/{i}/{name}": value for i, slots in optimiser.items() for name, value in slots.items()}
        tensors["bad_step"] = self.bad_step
        return tensors, {"epoch": self.epoch, "history": self.history, "weight_norms": self.weight_norms}

    def load_state(self, tensors: dict[str, Tensor], values: dict) -> None:
        """The inverse of `state`."""
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimiser/"):
                _, i, slot = name.split("/")
                slots.setdefault(int(i), {})[slot] = value
        self.net.load_state_dict({name[4:]: value for name, value in tensors.items() if name.startswith("net/")})
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": slots})
        self.bad_step = tensors["bad_step"].to(self.device)
        self.epoch, self.history, self.weight_norms = values["epoch"], values["history"], values["weight_norms"]

    def records(self) -> list[Record]:
        """One record per trial."""
        return [self._record(i, trial) for i, trial in enumerate(self.trials)]

    def _record(self, i: int, trial: Trial) -> Record:
        rows = slice(i * len(self.seeds), (i + 1) * len(self.seeds))
        state = stack_replicas(self.net.state_dict(), self.replicas)
        return Record(
            trial=trial,
            dataset=describe_dataset(self.dataset),
            seeds=self.seeds,
            history=self._table(self.history, rows, records.HISTORY),
            weight_norms=self._table(self.weight_norms, rows, records.WEIGHT_NORMS),
            logits=self.logits[rows].half().cpu().numpy(),
            labels=self.dataset.test_labels.cpu().numpy(),
            weights={name: value[rows].contiguous().cpu().numpy() for name, value in state.items()},
            provenance={**records.provenance(), **self._conditions()},
            diverged=self._diverged(rows),
        )

    def _table(self, rows: list[dict], replicas: slice, columns: Sequence[str]) -> pd.DataFrame:
        table = pd.DataFrame(rows, columns=["replica", *columns[1:]])
        table = table[(table.replica >= replicas.start) & (table.replica < replicas.stop)]
        table = table.assign(seed=[self.replica_seeds[r] for r in table.replica])
        return table.sort_values(["seed", "epoch"], ignore_index=True)[list(columns)]

    def _diverged(self, replicas: slice) -> list[dict]:
        per_epoch = -(-len(self.dataset.train_images) // self.trial.batch_size)
        steps = zip(self.seeds, self.bad_step[replicas].tolist(), strict=True)
        found = [(seed, *divmod(int(step), per_epoch)) for seed, step in steps if step >= 0]
        return [{"seed": seed, "epoch": epoch + 1, "step": step + 1} for seed, epoch, step in found]

    def _conditions(self) -> dict:
        on_gpu = self.device.type == "cuda"
        return {
            "parameters": count_parameters(self.net) // self.replicas,
            "precision": self.precision,
            "device": torch.cuda.get_device_name(self.device) if on_gpu else "cpu",
            "threads": torch.get_num_threads(),
            "replicas_together": self.replicas,
            "seconds": sum(row["seconds"] for row in self.history if row["replica"] == self.history[0]["replica"]),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


def score(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy and accuracy in percent of logits [R, n, 10], each [R]."""
    wide = logits.double()
    loss = F.cross_entropy(wide.flatten(0, 1), labels.repeat(len(wide)), reduction="none")
    return loss.view(len(wide), -1).mean(1), 100 * (wide.argmax(-1) == labels).double().mean(1)


def describe_dataset(dataset: Dataset) -> dict:
    return {
        "name": dataset.name,
        "title": dataset.title,
        "checksum": dataset.checksum,
        "train_images": len(dataset.train_images),
        "test_images": len(dataset.test_images),
    }
