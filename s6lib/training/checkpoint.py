"""One checkpoint per epoch, so that a training killed at any moment goes on where it was.

A batch says where through the environment, so that notebooks hold only science: `S6_CHECKPOINTS` is the folder for
checkpoints, `S6_PREVIOUS` a published record whose seeds need not be trained again, `S6_HEARTBEAT` a file that is
rewritten after every epoch for whoever watches, and `S6_QUIET` turns progress bars off. Without them nothing is
written. A checkpoint is a safetensors file named after the training's identity; nothing is unpickled.
"""

import hashlib
import json
import os
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor


def in_batch() -> bool:
    return bool(os.environ.get("S6_QUIET"))


def _file(identity: dict) -> Path | None:
    folder = os.environ.get("S6_CHECKPOINTS")
    if not folder:
        return None
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return Path(folder) / f"{key}.safetensors"


def save(identity: dict, tensors: dict[str, Tensor], values: dict) -> None:
    """Replaces the checkpoint of the training `identity`, atomically."""
    if file := _file(identity):
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        _replace(file, safetensors.torch.save(plain, {"values": json.dumps(values)}))


def beat(progress: dict) -> None:
    """Replaces the heartbeat file with how far the training is."""
    if path := os.environ.get("S6_HEARTBEAT"):
        _replace(Path(path), json.dumps(progress).encode())


def _replace(file: Path, content: bytes) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def restore(identity: dict) -> tuple[dict[str, Tensor], dict] | None:
    """Tensors and values of the last checkpoint of the training `identity`; None where none can be used."""
    file = _file(identity)
    try:
        with safetensors.safe_open(file, "pt") as content:
            values = json.loads(content.metadata()["values"])
            return {name: content.get_tensor(name) for name in content.keys()}, values  # noqa: SIM118 (no dict)
    except (OSError, TypeError, KeyError, ValueError, safetensors.SafetensorError):
        return None  # none asked for, none yet, or torn by a full disk: from the start
