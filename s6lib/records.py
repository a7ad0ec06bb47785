"""Records: what the replicas of a trial left behind, as a directory that is complete or absent.

    record.json          trial, data set, seeds, provenance, SHA-256 of the files below and of itself
    history.csv          seed, epoch, learning_rate, train_loss, train_accuracy, test_loss, test_accuracy, seconds
    weight_norms.csv     seed, epoch, sum_abs, sum_squares over all parameters; epoch 0 is after the first batch
    predictions.npz      float16 logits [replica, image, class], labels, seeds
    weights.safetensors  {name: [replica, ...]}: entry r is the state dict of the plain network of replica r

Accuracies are in percent, losses in nats per image, seconds are wall time for all replicas together.
Nothing here is ever unpickled. This module does not import torch, so a batch's status needs none.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import safetensors.numpy

from s6lib import paths

if TYPE_CHECKING:
    from s6lib.trial import Trial

HISTORY = ("seed", "epoch", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds")
WEIGHT_NORMS = ("seed", "epoch", "sum_abs", "sum_squares")
FILES = ("history.csv", "weight_norms.csv", "predictions.npz", "weights.safetensors")
PRECISIONS = ("auto", "float32", "bfloat16", "float64")


class RecordError(Exception):
    """A record that cannot be used; the message names the path and what is wrong with it."""


@dataclass
class Record:
    """All replicas of one trial. `logits` [R, n, 10] float16 on the test set; `weights` {name: [R, ...]}."""

    trial: "Trial"
    dataset: dict
    seeds: list[int]
    history: pd.DataFrame = field(repr=False)
    weight_norms: pd.DataFrame = field(repr=False)
    logits: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    weights: dict[str, np.ndarray] = field(repr=False)
    provenance: dict
    diverged: list[dict] = field(default_factory=list)
    path: Path | None = None

    @property
    def name(self) -> str:
        return self.trial.name

    @property
    def predictions(self) -> np.ndarray:
        """Predicted classes [R, n]."""
        return self.logits.argmax(-1)

    @property
    def non_diverged(self) -> list[int]:
        """Positions of the replicas that did not diverge."""
        bad = {entry["seed"] for entry in self.diverged}
        return [r for r, seed in enumerate(self.seeds) if seed not in bad]

    def last(self) -> pd.DataFrame:
        """The history's last epoch, one row per seed that reached it."""
        return self.history[self.history.epoch == self.trial.epochs].sort_values("seed")

    @property
    def seconds(self) -> float:
        """Wall time of all trainings that the seeds come from: seeds can have been added later (see `merge`)."""
        total, part = 0.0, self.provenance
        while part:
            total += part.get("seconds", float("nan"))
            part = part.get("merged_with", {}).get("provenance")
        return total

    @property
    def seconds_per_seed(self) -> float:
        """Wall time of the newest training and its evaluation, divided by the replicas that were trained together."""
        together = self.provenance.get("replicas_together", len(self.seeds))
        return self.provenance.get("seconds", float("nan")) / together

    def describe(self) -> str:
        """One line: what was recorded, for how many seeds, where."""
        last = self.last()
        mean = f"{last.test_accuracy.mean():.2f} %" if len(last) else "none"
        seeds = "1 seed" if len(self.seeds) == 1 else f"{len(self.seeds)} seeds"
        text = f"{self.name}: {seeds}, {self.trial.epochs} epochs on {self.dataset['title']}, "
        text += f"last-epoch test accuracy {mean}"
        return text + (f", {len(self.diverged)} diverged" if self.diverged else "")

    def first_batch(self) -> str:
        """Size of all parameters after the first batch, to three digits: in float64 the same on every machine."""
        rows = self.weight_norms[self.weight_norms.epoch == 0]
        lines = [f"seed {row.seed}: sum|w| = {row.sum_abs:.3g}" for row in rows.itertuples()]
        return "\n".join(["after the first batch, all parameters of one replica", *lines])


# --- saving --------------------------------------------------------------------------------------


def save(record: Record, path: str | Path = "") -> Path:
    """Writes `record` as directory `path`, under a temporary name first, then renamed into place of an older one.

    Without a path: results/lab/<study>/<trial>, or what `paths.interactive_results` says.
    """
    path = Path(path or paths.interactive_results() / record.trial.study / record.name)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _write_files(record, temporary)
        replace_directory(temporary, path)
    except OSError as error:
        raise RecordError(f"{path}: could not be written ({error}); nothing was left there") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    record.path = path
    return path


def save_all(many: list[Record], path: str | Path = "") -> list[Path]:
    """Writes several records, each below `path` under its trial's name."""
    return [save(record, Path(path) / record.name if path else "") for record in many]


def where(path: Path) -> str:
    """For readers: a saved record's path, or that it is beside the notebook, where the batch moves what it wrote."""
    return f"{path.name}, beside this notebook" if ".work" in path.parts else str(path)


def replace_directory(source: Path, target: Path) -> None:
    """Renames `source` to `target`; a directory already there is moved away first and removed afterwards."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        target.rename(old)
    try:
        source.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write_files(record: Record, folder: Path) -> None:
    record.history.to_csv(folder / "history.csv", index=False)
    record.weight_norms.to_csv(folder / "weight_norms.csv", index=False)
    with (folder / "predictions.npz").open("wb") as file:
        np.savez_compressed(file, logits=record.logits, labels=record.labels, seeds=np.array(record.seeds))
    (folder / "weights.safetensors").write_bytes(safetensors.numpy.save(record.weights))
    head = {
        "format": 1,
        "trial": record.trial.settings(),
        "dataset": record.dataset,
        "seeds": record.seeds,
        "diverged": record.diverged,
        "provenance": record.provenance,
        "files": {name: sha256(folder / name) for name in FILES},
    }
    (folder / "record.json").write_text(json.dumps({**head, "sha256": _digest(head)}, indent=1) + "\n")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(head: dict) -> str:
    return hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()


# --- loading -------------------------------------------------------------------------------------


def read_head(path: str | Path) -> dict:
    """record.json of the record directory `path`, its own checksum verified."""
    file = Path(path) / "record.json"
    try:
        head = json.loads(file.read_bytes())
        digest = head.pop("sha256")
    except FileNotFoundError:
        raise RecordError(f"{file}: missing; this is no record, or one that was not finished") from None
    except OSError as error:
        raise RecordError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecordError(f"{file}: not a record ({error})") from error
    if _digest(head) != digest:
        raise RecordError(f"{file}: changed since it was written (its checksum differs)")
    return head


def check(path: str | Path) -> dict:
    """`read_head`, and every file verified against its checksum. Raises RecordError; loads nothing else."""
    head, folder = read_head(path), Path(path)
    sums = head.get("files")
    if not isinstance(sums, dict) or not set(FILES) <= set(sums):
        raise RecordError(f"{folder / 'record.json'}: names no checksums for {', '.join(FILES)}")
    for name in FILES:
        file = folder / name
        try:
            found = sha256(file)
        except OSError as error:
            raise RecordError(f"{file}: cannot be read ({error.strerror})") from error
        if found != sums[name]:
            raise RecordError(f"{file}: changed or truncated since it was written (its checksum differs)")
    return head


def load(path: str | Path) -> Record:
    """The record in directory `path`. Raises RecordError naming the file and what is wrong."""
    from s6lib.trial import Trial  # needs torch, which `check` does not

    folder, head = Path(path), check(path)
    try:
        with np.load(folder / "predictions.npz", allow_pickle=False) as arrays:
            logits, labels = arrays["logits"], arrays["labels"]
        record = Record(
            trial=Trial(**head["trial"]),
            dataset=head["dataset"],
            seeds=head["seeds"],
            history=_read_table(folder / "history.csv"),
            weight_norms=_read_table(folder / "weight_norms.csv"),
            logits=logits,
            labels=labels,
            weights=safetensors.numpy.load_file(folder / "weights.safetensors"),
            provenance=head["provenance"],
            diverged=head["diverged"],
            path=folder,
        )
        _check_shapes(record)
    except Exception as error:  # whatever a reader makes of damage that was signed again
        raise RecordError(f"{folder}: not a usable record ({type(error).__name__}: {error})") from error
    return record


def _read_table(file: Path) -> pd.DataFrame:
    """A history or weight norms, with numbers in its columns even when no replica left a row."""
    table = pd.read_csv(file)
    return table.astype({name: "int64" if name in ("seed", "epoch") else "float64" for name in table})


def _check_shapes(record: Record) -> None:
    missing = [name for name in HISTORY if name not in record.history]
    if missing:
        raise ValueError(f"history.csv lacks {', '.join(missing)}")
    expected = (len(record.seeds), len(record.labels), 10)
    if record.logits.shape != expected:
        raise ValueError(f"logits have shape {record.logits.shape}, expected {expected}")
    if not set(record.history.seed) <= set(record.seeds):
        raise ValueError("history.csv names seeds that record.json does not")


def find(root: str | Path) -> tuple[list[Record], list[str]]:
    """All records below `root` in order of their paths, and a line for each that had to be left out."""
    found, left_out = [], []
    for file in sorted(Path(root).rglob("record.json")):
        if any(part.startswith(".") for part in file.relative_to(root).parts):
            continue  # work in progress
        try:
            found.append(load(file.parent))
        except RecordError as error:
            left_out.append(str(error))
    return found, left_out


def select(record: Record, seeds: list[int]) -> Record:
    """The record of `seeds` only, in that order; they must be among the record's."""
    rows = [record.seeds.index(seed) for seed in seeds]
    return dataclasses.replace(
        record,
        seeds=seeds,
        history=record.history[record.history.seed.isin(seeds)],
        weight_norms=record.weight_norms[record.weight_norms.seed.isin(seeds)],
        logits=record.logits[rows],
        weights={name: value[rows] for name, value in record.weights.items()},
        diverged=[entry for entry in record.diverged if entry["seed"] in seeds],
    )


def merge(old: Record, new: Record) -> Record:
    """One record with the seeds of both, of the same trial and data; where both have a seed, `new` wins."""
    if old.trial != new.trial or old.dataset != new.dataset:
        raise RecordError(f"{old.path}: of another trial or data set than the new seeds")
    keep = [r for r, seed in enumerate(old.seeds) if seed not in new.seeds]
    kept = [old.seeds[r] for r in keep]
    order = np.argsort(kept + new.seeds)
    join = lambda a, b: np.concatenate([a[keep], b])[order]  # noqa: E731
    tables = [
        pd.concat([a[a.seed.isin(kept)], b]).sort_values(["seed", "epoch"], ignore_index=True)
        for a, b in ((old.history, new.history), (old.weight_norms, new.weight_norms))
    ]
    return Record(
        trial=new.trial,
        dataset=new.dataset,
        seeds=sorted(kept + new.seeds),
        history=tables[0],
        weight_norms=tables[1],
        logits=join(old.logits, new.logits),
        labels=new.labels,
        weights={name: join(old.weights[name], value) for name, value in new.weights.items()},
        provenance={**new.provenance, "merged_with": {"seeds": kept, "provenance": old.provenance}},
        diverged=[entry for entry in old.diverged if entry["seed"] in kept] + new.diverged,
    )
