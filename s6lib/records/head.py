"""record.json: what a part says of itself, signed, and checked in full before any of it is used."""

import json
import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from s6lib.records.files import digest_of, plain_text, sha256
from s6lib.records.record import FILES, RecordError

HEAD_BYTES = 1 << 24  # no record.json is longer
Check = Callable[[Any], bool]


def read_head(path: str | Path) -> dict:
    """record.json of the part `path`, its own checksum verified, every value of the type and range it should have."""
    file = Path(path) / "record.json"
    try:
        if file.stat().st_size > HEAD_BYTES:
            raise ValueError(f"longer than {HEAD_BYTES >> 20} MB")
        head = json.loads(file.read_bytes())
        digest = head.pop("sha256")
    except FileNotFoundError:
        raise RecordError(f"{file}: missing; this folder is no record, or one that was not finished") from None
    except OSError as error:
        raise RecordError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecordError(plain_text(f"{file}: not a record ({error})")) from error
    if digest_of(head) != digest:
        raise RecordError(f"{file}: changed since it was written (its checksum differs)")
    if wrong := _wrong_in(head):
        raise RecordError(f"{file}: not a usable record ({wrong})")
    return head


def check(path: str | Path) -> dict:
    """`read_head`, and every file verified against its checksum. Raises RecordError; loads nothing else."""
    head, folder = read_head(path), Path(path)
    for name in FILES:
        file = folder / name
        try:
            found = sha256(file)
        except OSError as error:
            raise RecordError(f"{file}: cannot be read ({error.strerror})") from error
        if found != head["files"][name]:
            raise RecordError(f"{file}: changed or truncated since it was written (its checksum differs)")
    return head


def trial_of(head: dict):
    """The Trial that a head describes. Raises TrialError, or TypeError for settings that there are none of."""
    return _trial(json.dumps(head["trial"], sort_keys=True))


@cache
def _trial(settings: str):
    from s6lib.trial import Trial  # needs torch, which `check` does not

    return Trial(**json.loads(settings))


# --- what must be in it ----------------------------------------------------------------------------


def _is_count(low: int = 0, high: float = math.inf) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 1000 and value.isprintable()


def is_name(value: Any) -> bool:
    """Of a folder: one that leads nowhere else."""
    return _is_text(value) and bool(re.fullmatch(r"[\w.+-]+", value)) and value[0] != "."


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_count(high=2**63 - 1), value)) and len(set(value)) == len(value)


HEAD: dict[str, Check] = {
    "format": lambda value: value in (1, 2, 3),
    "trial": lambda value: isinstance(value, dict) and all(map(is_name, (value.get("name"), value.get("study")))),
    "dataset": lambda value: isinstance(value, dict),
    "seeds": lambda value: _is_counts(value) and len(value) > 0,
    "diverged": lambda value: isinstance(value, list),
    "provenance": lambda value: isinstance(value, dict),
    "files": lambda value: isinstance(value, dict) and all(_is_text(value.get(name)) for name in FILES),
}
DATASET: dict[str, Check] = dict.fromkeys(("name", "title", "checksum"), _is_text)
DATASET |= dict.fromkeys(("train_images", "test_images"), _is_count(1, 10**7))
PROVENANCE: dict[str, Check] = dict.fromkeys(
    ("source", "precision", "device", "python", "platform", "processor", "finished"), _is_text
)
PROVENANCE |= dict.fromkeys(("parameters", "threads"), _is_count())
PROVENANCE |= dict.fromkeys(("replicas_together", "workers"), _is_count(1))
PROVENANCE |= {"seconds": _is_number, "versions": lambda v: isinstance(v, dict)}


def _wrong_in(head: dict) -> str:
    """What is not as it should be in a head, named; "" where all is."""
    for name, fine in HEAD.items():
        if not fine(head.get(name)):
            return f"{name} is missing or not what it should be"
    for name, fine in DATASET.items():
        if not fine(head["dataset"].get(name)):
            return f"dataset: {name} is missing or not what it should be"
    for name, value in head["provenance"].items():
        if name in PROVENANCE and not PROVENANCE[name](value):
            return f"provenance: {name} is not what it should be"
    if not _is_counts(weighed := head.get("weight_seeds", [])) or not set(weighed) <= set(head["seeds"]):
        return "weight_seeds are not among the seeds"
    if not _is_count(1)(head["trial"].get("epochs")):
        return "trial: epochs is missing or not what it should be"
    for entry in head["diverged"]:
        whole = isinstance(entry, dict) and set(entry) == {"seed", "epoch", "step"}
        if not whole or entry["seed"] not in head["seeds"] or not all(map(_is_count(), entry.values())):
            return "diverged names something other than seed, epoch and step"
    if not _is_text(head.get("finished", "")):
        return "finished is not what it should be"
    return ""
