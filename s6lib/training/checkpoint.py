"""A checkpoint per epoch, so that a training stopped at any moment goes on where it was.

Checkpoints lie in .work/<study>/<trial>/checkpoints of the results folder, or where the batch says: `S6_CHECKPOINTS` is
their folder, `S6_HEARTBEAT` a file that is rewritten after every epoch for whoever watches, and `S6_QUIET` turns
progress bars off. A checkpoint is its own SHA-256, a new line, and a safetensors file; nothing is unpickled. Beside it,
`<key>.json` says from the start which seeds train together there, so that whoever goes on deals them alike.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from s6lib import paths
from s6lib.records.files import digest_of, replace_file

KEPT = 2


def in_batch() -> bool:
    return bool(os.environ.get("S6_QUIET"))


class Checkpoints:
    """The last two checkpoints of the training `identity`, which is what its name and content say they belong to."""

    def __init__(self, identity: dict, study: str, trial: str):
        self.folder, self.identity = checkpoint_folder(study, trial), identity
        self.key = digest_of(identity)[:16]

    def begin(self, workers: int, threads: int) -> None:
        """Notes that this training has begun, with so many threads, one of the groups dealt over so many processes."""
        about = {"identity": self.identity, "workers": workers, "threads": threads}
        _replace(self.folder / f"{self.key}.json", json.dumps(about).encode())

    def files(self) -> list[Path]:
        """From the newest to the oldest."""
        return sorted(self.folder.glob(f"{self.key}-*.checkpoint"), reverse=True)

    def save(self, tensors: dict[str, Tensor], values: dict) -> None:
        """Adds a checkpoint, atomically, and removes those before the last two."""
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        text = json.dumps({"identity": self.identity, "values": values}).encode()
        content = safetensors.torch.save({**plain, "json": torch.frombuffer(bytearray(text), dtype=torch.uint8)})
        digest = hashlib.sha256(content).hexdigest().encode()
        _replace(self.folder / f"{self.key}-{values['epoch']:06d}.checkpoint", digest + b"\n" + content)
        for old in self.files()[KEPT:]:
            old.unlink(missing_ok=True)

    def restore(self) -> tuple[dict[str, Tensor], dict] | None:
        """Tensors and values of the newest whole checkpoint; a damaged one is named, set aside, and not used."""
        for file in self.files():
            with contextlib.suppress(FileNotFoundError):  # another process has finished the same training
                if found := self._read(file):
                    return found
                aside = file.with_suffix(".damaged")
                file.replace(aside)
                print(f"{file}: damaged, renamed to {aside.name}; training continues from the one before, else anew")
        return None

    def _read(self, file: Path) -> tuple[dict[str, Tensor], dict] | None:
        digest, _, content = file.read_bytes().partition(b"\n")
        if hashlib.sha256(content).hexdigest().encode() != digest:
            return None
        tensors = safetensors.torch.load(content)
        text = json.loads(tensors.pop("json").numpy().tobytes())
        return (tensors, text["values"]) if text["identity"] == self.identity else None

    def remove(self) -> None:
        """What a finished training needs no more."""
        for file in [*self.files(), *self.folder.glob(f".{self.key}*"), self.folder / f"{self.key}.json"]:
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # as far as they are empty
            for folder in (self.folder, *self.folder.parents[:3]):
                folder.rmdir()


def checkpoint_folder(study: str, trial: str) -> Path:
    default = paths.interactive_results() / ".work" / study / trial / "checkpoints"
    return Path(os.environ.get("S6_CHECKPOINTS") or default)


def begun(identity: dict, study: str, trial: str, workers: int) -> list[tuple[list[int], int]]:
    """Seeds and threads of the groups that trainings like `identity` have begun with: those with a checkpoint, which
    would be lost, and those dealt for as many workers, which would be dealt alike."""
    groups = []
    for one, dealt, threads, kept in _noted(checkpoint_folder(study, trial)):
        if {**one, "seeds": identity["seeds"]} == identity and (kept or dealt == workers):
            groups.append((one["seeds"], threads))
    return sorted(groups)


def left(identity: dict, study: str, trials: Iterable[str]) -> list[tuple[list[dict], list[int]]]:
    """Settings of the trials, and seeds, of the trainings that have a checkpoint in the folders of `trials` and differ
    from `identity` in these two at most."""
    folders = sorted({checkpoint_folder(study, trial) for trial in trials})
    every = [one for folder in folders for one, _, _, kept in _noted(folder) if kept]
    alike = [one for one in every if {**identity, "trials": one.get("trials"), "seeds": one.get("seeds")} == one]
    return [(one["trials"], one["seeds"]) for one in alike]


def _noted(folder: Path) -> Iterator[tuple[dict, int, int, bool]]:
    """Of every training that has begun there: identity, processes, threads, and whether there is a checkpoint."""
    for file in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # gone, or not ours
            about = json.loads(file.read_bytes())
            kept = any(folder.glob(f"{file.stem}-*.checkpoint"))
            yield dict(about["identity"]), about["workers"], about["threads"], kept


def beat(progress: dict) -> None:
    """Replaces the heartbeat file with how far the training is."""
    if path := os.environ.get("S6_HEARTBEAT"):
        _replace(Path(path), json.dumps(progress).encode())


def _replace(file: Path, content: bytes) -> None:
    """Also where another process, which has finished, removes the empty folder meanwhile."""
    for _ in range(100):
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return replace_file(file, content)
    replace_file(file, content)
