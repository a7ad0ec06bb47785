"""One checkpoint per epoch, so that a training killed at any moment goes on where it was.

A batch says where through the environment, so that notebooks hold only science: `S6_CHECKPOINTS` is the folder for
checkpoints, `S6_PREVIOUS` a published record whose seeds need not be trained again, `S6_HEARTBEAT` a file that is
rewritten after every epoch for whoever watches, and `S6_QUIET` turns progress bars off. Without them nothing is
written. A checkpoint is a safetensors file named after the training's identity; nothing is unpickled.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch

from s6lib import records
from s6lib.records import Record

if TYPE_CHECKING:
    from s6lib.training import Trainer
    from s6lib.trial import Trial


def in_batch() -> bool:
    return bool(os.environ.get("S6_QUIET"))


def _file(trainer: "Trainer") -> Path | None:
    folder = os.environ.get("S6_CHECKPOINTS")
    if not folder:
        return None
    key = hashlib.sha256(json.dumps(trainer.identity(), sort_keys=True).encode()).hexdigest()[:16]
    return Path(folder) / f"{key}.safetensors"


def save(trainer: "Trainer") -> None:
    """Replaces the training's checkpoint, atomically, and its heartbeat."""
    if file := _file(trainer):
        tensors, values = trainer.state()
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        _replace(file, safetensors.torch.save(plain, {"values": json.dumps(values)}))
    if path := os.environ.get("S6_HEARTBEAT"):
        names = [trial.name for trial in trainer.trials]
        seconds = trainer.history[-1]["seconds"] if trainer.history else 0.0
        beat = {"trial": ", ".join(names), "epoch": trainer.epoch, "epochs": trainer.trial.epochs}
        _replace(Path(path), json.dumps({**beat, "replicas": trainer.replicas, "seconds": seconds}).encode())


def _replace(file: Path, content: bytes) -> None:
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


def restore(trainer: "Trainer") -> bool:
    """Brings the trainer to its last checkpoint; False where there is none that can be used."""
    file = _file(trainer)
    try:
        with safetensors.safe_open(file, "pt") as content:
            values = json.loads(content.metadata()["values"])
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (no dict)
    except (OSError, TypeError, KeyError, ValueError, safetensors.SafetensorError):
        return False  # none asked for, none yet, or torn by a full disk: from the start
    trainer.load_state(tensors, values)
    return True


def previous(trials: Sequence["Trial"], dataset: dict, precision: str) -> list[Record | None]:
    """For each trial, its published record on the same data at the same precision, if `S6_PREVIOUS` holds one."""
    folder = os.environ.get("S6_PREVIOUS")
    found = records.find(folder)[0] if folder else []
    fits = {r.trial: r for r in found if r.dataset == dataset and r.provenance.get("precision") == precision}
    return [fits.get(trial) for trial in trials]
