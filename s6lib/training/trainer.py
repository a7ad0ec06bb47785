"""The one training loop, for R replicas at once.

The loss is the SUM over replicas of each replica's mean loss, so every replica gets exactly the gradients it would
get alone. Nothing in a step waits for the device or loops over replicas.
"""

import time
from collections.abc import Callable, Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from s6lib import records, streams
from s6lib.data import Augmenter, Dataset, random_moves
from s6lib.models.builder import Net, attach_dropout, initialise
from s6lib.models.describe import count_parameters
from s6lib.models.replicas import stack_replicas
from s6lib.provenance import provenance, source_fingerprint
from s6lib.records import Record
from s6lib.training.average import WeightAverage
from s6lib.training.checkpoint import Checkpoints, beat, in_batch
from s6lib.training.optim import add_l1_subgradient, make_optimiser, soft_threshold
from s6lib.trial import Trial

EVALUATION_BATCH = 500
CHECK_EVERY = 32  # steps between looks at whether any replica still learns


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
        self.average = WeightAverage(self.net, self.trial.ema) if self.trial.ema else None
        trial = self.trial
        self.augment = Augmenter(dataset, trial.rotation, trial.rotate_after_normalise, trial.shift)
        self.epoch = 0
        self.history: list[dict] = []
        self.weight_norms: list[dict] = []
        self.bad_step = self._per_replica([-1.0] * self.replicas)  # first step with a NaN or infinite loss, or -1
        self.logits: Tensor | None = None
        self.on_step: Callable[[], object] = lambda: None  # called after every step: for progress bars

    @property
    def evaluated_net(self) -> Net:
        """What is evaluated and kept: the average of the weights where the trial asks for one."""
        return self.average.net if self.average else self.net

    def _per_replica(self, values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=self.dtype, device=self.device)

    def run(self, checkpoints: Checkpoints | None = None) -> None:
        """Trains the epochs that are left, from the last of `checkpoints` where there is one."""
        if found := checkpoints and checkpoints.restore():
            self.load_state(*found)
            self.logits = self.evaluate()
        with tqdm(total=self.trial.epochs, initial=self.epoch, unit="epoch", **self._bar()) as bar:
            while self.epoch < self.trial.epochs and (self.bad_step < 0).any():
                self.run_epoch()
                if checkpoints:
                    checkpoints.save(*self.state())
                beat(self._progress())
                bar.update()
                bar.set_postfix_str(f"mean test accuracy {self._mean('test_accuracy'):.2f} %")

    def _bar(self) -> dict:
        name = self.trial.name if len(self.trials) == 1 else f"{len(self.trials)} trials"
        return {"desc": f"{name} x {len(self.seeds)} seeds", "disable": in_batch()}

    def _progress(self) -> dict:
        """What a watcher of the batch is told."""
        seconds = self.history[-1]["seconds"] if self.history else 0.0
        names = ", ".join(trial.name for trial in self.trials)
        done = {"trial": names, "epoch": self.epoch, "epochs": self.trial.epochs}
        return {**done, "replicas": self.replicas, "seconds": seconds}

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
        if self.average:  # what the columns above are of
            raw = score(self.evaluate(self.net), self.dataset.test_labels)
            columns |= dict(zip(records.RAW, raw, strict=True))
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
        order, moves = self._draw_epoch()
        size, images = self.trial.batch_size, order.shape[0]
        steps = -(-images // size)
        loss_sum, correct = self._per_replica([0.0] * self.replicas), self._per_replica([0.0] * self.replicas)
        self.net.train()
        for step in range(steps):
            if step % CHECK_EVERY == 0 and not (self.bad_step < 0).any():
                break
            part = slice(step * size, (step + 1) * size)
            self._set_rate(self.epoch + step / steps)
            x = self.augment(order[part], None if moves is None else moves[part], self.dtype)
            y, soft = self.dataset.train_labels[order[part]], self._soft_labels(order[part])
            losses, right = self.step(x, y, soft)
            loss_sum += losses * len(y)
            correct += right
            failed = ~torch.isfinite(losses) & (self.bad_step < 0)
            self.bad_step = torch.where(failed, self.epoch * steps + step, self.bad_step)
            if self.epoch == 0 and step == 0:
                self._note_weight_norms(0)
            self.on_step()
        attach_dropout(self.net, None)
        return loss_sum, correct

    def _draw_epoch(self) -> tuple[Tensor, Tensor | None]:
        """Every replica's own order and moves [images, R] for this epoch; points dropout at the epoch's streams."""
        images, epoch = len(self.dataset.train_images), self.epoch
        draw = lambda purpose: [streams.generator(seed, purpose, epoch) for seed in self.replica_seeds]  # noqa: E731
        order = torch.stack([torch.randperm(images, generator=source) for source in draw("order")], 1)
        moves, rotation, shift = None, self.trial.rotation, self.trial.shift
        if rotation or shift:
            rows = [random_moves(images, rotation, shift, source) for source in draw("augment")]
            moves = torch.stack(rows, 1).to(self.device)
        masks = [streams.generator(seed, "dropout", epoch, self.device) for seed in self.replica_seeds]
        attach_dropout(self.net, streams.BitStream(masks))
        return order.to(self.device), moves

    def _soft_labels(self, index: Tensor) -> Tensor | None:
        """The targets [N, R, 10] of images `index`, where they are more than the labels."""
        share, soft = self.trial.distillation, self.dataset.soft_labels
        if not share or soft is None:
            return None
        return F.one_hot(self.dataset.train_labels[index], 10) * (1 - share) + share * soft[index].to(self.dtype)

    def _set_rate(self, moment: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.trial.rate_at(moment)

    def step(self, x: Tensor, y: Tensor, soft: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One update from images [N, R, 28, 28] and labels [N, R]: mean loss and right answers per replica, [R].

        The loss is of the soft labels [N, R, 10] where there are any."""
        logits, losses = self.forward(x, y, soft)
        self.optimiser.zero_grad(set_to_none=True)
        losses.sum().backward()
        self.update()
        return losses.detach(), (logits.detach().argmax(-1) == y).sum(0)

    def forward(self, x: Tensor, y: Tensor, soft: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits [N, R, 10] and each replica's mean loss [R]."""
        with self._autocast():
            logits = self.net(x)
        flat, smoothing = logits.flatten(0, 1).to(self.dtype), self.trial.label_smoothing
        target = y.flatten() if soft is None else soft.flatten(0, 1)
        losses = F.cross_entropy(flat, target, reduction="none", label_smoothing=smoothing)
        return logits, losses.view(y.shape).mean(0)

    def update(self) -> None:
        """One optimiser step on the gradients at hand, with the trial's L1 penalty."""
        if self.l1 is not None and self.trial.l1_kind == "subgradient":
            add_l1_subgradient(self.penalised, self.l1)
        self.optimiser.step()
        if self.l1 is not None and self.trial.l1_kind == "proximal":
            soft_threshold(self.penalised, self.l1, self.optimiser)
        if self.average:
            self.average.update(self.net)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    @torch.no_grad()
    def evaluate(self, net: Net | None = None) -> Tensor:
        """Logits of every replica on the whole test set, [R, n, 10]; in float32 (or float64) whatever the precision."""
        net = net or self.evaluated_net
        net.eval()
        parts = []
        for pixels in self.dataset.test_images.split(EVALUATION_BATCH):
            x = self.dataset.normalise(pixels, self.dtype)[:, None]
            parts.append(net(x.expand(-1, self.replicas, -1, -1)))
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
            "dataset": self.dataset.describe(),
            "seeds": self.seeds,
            "precision": self.precision,
            "device": self.device.type,
            "source": source_fingerprint(self.trial.normaliser, self.trial.network),
        }

    def state(self) -> tuple[dict[str, Tensor], dict]:
        """All that the next epoch depends on: tensors, and JSON-plain values. Random streams follow from the epoch."""
        optimiser = self.optimiser.state_dict()["state"]
        tensors = {f"net/{name}": value for name, value in self.net.state_dict().items()}
        tensors |= {f"optimiser/{i}/{name}": value for i, slots in optimiser.items() for name, value in slots.items()}
        tensors["bad_step"] = self.bad_step
        if self.average:
            tensors |= {f"average/{name}": value for name, value in self.average.state().items()}
        return tensors, {"epoch": self.epoch, "history": self.history, "weight_norms": self.weight_norms}

    def load_state(self, tensors: dict[str, Tensor], values: dict) -> None:
        """The inverse of `state`."""
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimiser/"):
                _, i, slot = name.split("/")
                slots.setdefault(int(i), {})[slot] = value
        self.net.load_state_dict(_below("net/", tensors))
        if self.average:
            self.average.load_state(_below("average/", tensors))
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": slots})
        self.bad_step = tensors["bad_step"].to(self.device)
        self.epoch, self.history, self.weight_norms = values["epoch"], values["history"], values["weight_norms"]

    def evaluated(self) -> Tensor:
        """The logits of the last evaluation; of one made now where no epoch was trained."""
        return self.evaluate() if self.logits is None else self.logits

    def records(self) -> list[Record]:
        """One record per trial."""
        return [self._record(i, trial) for i, trial in enumerate(self.trials)]

    def _record(self, i: int, trial: Trial) -> Record:
        rows = slice(i * len(self.seeds), (i + 1) * len(self.seeds))
        state = stack_replicas(self.evaluated_net.state_dict(), self.replicas)
        return Record(
            trial=trial,
            dataset=self.dataset.describe(),
            seeds=self.seeds,
            history=self._table(self.history, rows, records.HISTORY + records.RAW * bool(trial.ema)),
            weight_norms=self._table(self.weight_norms, rows, records.WEIGHT_NORMS),
            logits=self.evaluated()[rows].half().cpu().numpy(),
            predicted=self.evaluated()[rows].argmax(-1).to(torch.uint8).cpu().numpy(),  # rounded logits have ties
            labels=self.dataset.test_labels.cpu().numpy(),
            weights={name: value[rows].contiguous().cpu().numpy() for name, value in state.items()},
            provenance={**provenance(trial.normaliser, trial.network), **self._conditions()},
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
        }


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def score(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy and accuracy in percent of logits [R, n, 10], each [R]."""
    wide = logits.double()
    loss = F.cross_entropy(wide.flatten(0, 1), labels.repeat(len(wide)), reduction="none")
    return loss.view(len(wide), -1).mean(1), 100 * (wide.argmax(-1) == labels).double().mean(1)
