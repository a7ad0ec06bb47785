"""Parts on disk: written aside, flushed, renamed into place; checked in full when they are read."""

import hashlib
import itertools
import json
import math
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.numpy

from s6lib import paths
from s6lib.records import answers
from s6lib.records.record import FILES, HISTORY, RAW, WEIGHT_NORMS, Record, RecordError

PART = re.compile(r"seeds-([0-9]+(?:-[0-9]+)?(?:_[0-9]+(?:-[0-9]+)?)*)\.([0-9a-f]{8})(?:\.[0-9]+)?")
HEAD_BYTES, ROW_BYTES = 1 << 24, 400  # no record.json and no row of a table is longer
RANGES = 8  # of seeds in a part's name


# --- names -----------------------------------------------------------------------------------------


def key_of(settings: dict, dataset: dict, precision: str) -> str:
    """Eight digits that stand for a trial's settings, the data and the precision in a part's name."""
    return _digest({"trial": settings, "dataset": dataset, "precision": precision})[:8]


def part_name(seeds: Iterable[int], key: str) -> str:
    """`seeds-0-4_7.3f2a9c1d`; of more ranges than a name can hold only the first are in it."""
    runs = [list(run) for _, run in itertools.groupby(enumerate(sorted(seeds)), lambda pair: pair[1] - pair[0])]
    words = [f"{run[0][1]}-{run[-1][1]}" if len(run) > 1 else str(run[0][1]) for run in runs]
    return f"seeds-{'_'.join(words[:RANGES])}.{key}"


def may_hold(name: str, seeds: Iterable[int]) -> bool:
    """Whether a part of this name can hold any of `seeds`: spares opening all the others."""
    if not (match := PART.fullmatch(name)):
        return False
    runs = [[int(end) for end in word.split("-")] for word in match[1].split("_")]
    return len(runs) >= RANGES or any(run[0] <= seed <= run[-1] for run in runs for seed in seeds)


def is_part_name(name: str) -> bool:
    return PART.fullmatch(name) is not None


def part_folders(root: str | Path) -> Iterator[Path]:
    """Every folder below `root` that holds a record.json, in the order of paths; nothing hidden, no links followed."""
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        if "record.json" in files:
            yield Path(folder)


# --- writing ---------------------------------------------------------------------------------------


def add(record: Record, root: str | Path = "", finished: str = "") -> Path:
    """Writes `record` as one more part of its trial below `root` (the current results folder) and returns its folder.

    Where others have added the same seeds, trained by the same code, in the meantime, theirs stand and nothing is
    written: a line says so and theirs is returned. `finished` is the time of a part that is copied.
    """
    trial = Path(root or paths.interactive_results(), record.trial.study, record.name)
    key = key_of(record.trial.settings(), record.dataset, record.provenance.get("precision", ""))
    if faster := _covering(trial, key, record):
        print(f"seeds {record.seeds} had been added by {faster[0]} first; this training's equal results are not kept")
        claim(faster)
        return faster[0]
    temporary = trial / f".partial-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        temporary.mkdir(parents=True)
        _write_files(record, temporary, finished)
        place = commit_folder(temporary, trial / part_name(record.seeds, key))
    except OSError as error:
        raise RecordError(f"{trial}: could not be written ({error}); nothing was left there") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    claim([place])
    return place


def _covering(trial: Path, key: str, record: Record) -> list[Path]:
    """Whole parts of the same key and code that together hold all seeds of `record`; [] where some are missing."""
    missing, found = set(record.seeds), []
    for folder in sorted(trial.glob(f"seeds-*.{key}*")):
        if not may_hold(folder.name, record.seeds):
            continue
        try:
            head = check(folder)
        except RecordError:
            continue
        if head["provenance"].get("source") == record.provenance.get("source") and missing & set(head["seeds"]):
            missing -= set(head["seeds"])
            found.append(folder)
    return [] if missing else found


def commit_folder(temporary: Path, place: Path) -> Path:
    """Renames a finished folder to `place`, or to `place`.2, .3, ... where that is taken; nothing is ever replaced."""
    flush(temporary)
    target, number = place, 1
    while True:
        try:
            if not os.path.lexists(target):
                temporary.rename(target)
                flush(target.parent, files=False)
                return target
        except OSError:
            if not os.path.lexists(target):
                raise  # not because another process was faster
        number += 1
        target = place.with_name(f"{place.name}.{number}")


def flush(folder: Path, files: bool = True) -> None:
    """Has the disk hold the files before the rename that makes them count, and then the rename itself."""
    for path in [*(folder.iterdir() if files else []), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def claim(parts: Iterable[Path]) -> None:
    """Tells the batch, where one is waiting, which parts this process used or made."""
    if file := os.environ.get("S6_CLAIMS"):
        with Path(file).open("a", encoding="utf-8") as handle:
            handle.writelines(f"{json.dumps(str(part))}\n" for part in parts)


def remove_dead_partials(root: Path) -> None:
    """Removes what processes that were killed while writing a part left behind."""
    for path in root.glob("*/*/.partial-*"):
        host, _, pid = path.name.removeprefix(".partial-").rpartition("-")[0].rpartition("-")
        here = host == socket.gethostname() and pid.isdigit()
        if (here and not Path(f"/proc/{pid}").exists() and Path("/proc").exists()) or _age(path) > 3600:
            shutil.rmtree(path, ignore_errors=True)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _write_files(record: Record, folder: Path, finished: str) -> None:
    record.history.to_csv(folder / "history.csv", index=False)
    record.weight_norms.to_csv(folder / "weight_norms.csv", index=False)
    with (folder / "predictions.npz").open("wb") as file:
        np.savez_compressed(file, **answers.arrays_of(record))  # type: ignore[arg-type]
    (folder / "weights.safetensors").write_bytes(safetensors.numpy.save(record.weights))
    seconds = time.time()
    head = {
        "format": 3,
        "trial": record.trial.settings(),
        "dataset": record.dataset,
        "seeds": record.seeds,
        "weight_seeds": record.seeds if record.weight_seeds is None else record.weight_seeds,
        "diverged": record.diverged,
        "provenance": record.provenance,
        "finished": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds % 1 * 1e6):06d}Z",
        "files": {name: sha256(folder / name) for name in FILES},
    }
    if earlier := finished or record.provenance.get("finished"):  # of a converted record
        head["finished"] = earlier
    (folder / "record.json").write_text(json.dumps({**head, "sha256": _digest(head)}, indent=1) + "\n")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(head: dict) -> str:
    return hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()


# --- reading ---------------------------------------------------------------------------------------


def plain_text(text: str) -> str:
    """Without terminal escapes and control characters, which a file or a notebook could use to forge lines."""
    text = re.sub(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)", "", text)
    return "".join(c for c in text if c in "\n\t" or c.isprintable())


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
    if _digest(head) != digest:
        raise RecordError(f"{file}: changed since it was written (its checksum differs)")
    if wrong := _wrong_in(head):
        raise RecordError(f"{file}: not a usable record ({wrong})")
    return head


Check = Callable[[Any], bool]


def _is_count(low: int = 0, high: float = math.inf) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 1000 and value.isprintable()


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_count(high=2**63 - 1), value)) and len(set(value)) == len(value)


HEAD: dict[str, Check] = {
    "format": lambda value: value in (1, 2, 3),
    "trial": lambda value: isinstance(value, dict) and all(map(_is_text, (value.get("name"), value.get("study")))),
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


def load(path: str | Path) -> Record:
    """The record in the part `path` alone. Raises RecordError naming the folder and what is wrong."""
    folder, head = Path(path), check(path)
    try:
        record = Record(
            trial=trial_of(head),
            dataset=head["dataset"],
            seeds=head["seeds"],
            history=_read_table(folder / "history.csv", HISTORY + RAW * bool(head["trial"].get("ema")), head),
            weight_norms=_read_table(folder / "weight_norms.csv", WEIGHT_NORMS, head),
            **answers.read(folder / "predictions.npz", head),  # type: ignore[arg-type]
            weights=safetensors.numpy.load_file(folder / "weights.safetensors"),
            provenance=head["provenance"],
            diverged=head["diverged"],
            path=folder,
            weight_seeds=head.get("weight_seeds"),
        )
        _check_contents(record)
    except Exception as error:  # whatever a reader makes of damage that was signed again
        raise RecordError(plain_text(f"{folder}: not a usable record ({type(error).__name__}: {error})")) from error
    return record


def trial_of(head: dict):
    """The Trial that a head describes. Raises TrialError, or TypeError for settings that there are none of."""
    return _trial(json.dumps(head["trial"], sort_keys=True))


@cache
def _trial(settings: str):
    from s6lib.trial import Trial  # needs torch, which `check` does not

    return Trial(**json.loads(settings))


def _read_table(file: Path, columns: tuple[str, ...], head: dict) -> pd.DataFrame:
    """A history or weight norms: these columns, all numbers, one row at most per seed and epoch."""
    seeds, epochs = head["seeds"], head["trial"]["epochs"]
    if file.stat().st_size > ROW_BYTES * (2 + len(seeds) * (epochs + 1)):
        raise ValueError(f"{file.name} is longer than {len(seeds)} seeds and {epochs} epochs make it")
    kinds = {name: "int64" if name in ("seed", "epoch") else "float64" for name in columns}
    table = pd.read_csv(file, dtype=kinds)
    if tuple(table.columns) != columns:
        raise ValueError(f"{file.name} has columns {', '.join(map(str, table.columns))}; expected {', '.join(columns)}")
    if not table.seed.isin(seeds).all() or not table.epoch.between(0, epochs).all():
        raise ValueError(f"{file.name} names seeds or epochs that record.json does not")
    if table.duplicated(["seed", "epoch"]).any():
        raise ValueError(f"{file.name} has two rows for one seed and epoch")
    return table


def _check_contents(record: Record) -> None:
    bad = {entry["seed"] for entry in record.diverged}
    whole = record.history[~record.history.seed.isin(bad)]
    if len(whole) != (len(record.seeds) - len(bad)) * record.trial.epochs or (record.history.epoch < 1).any():
        raise ValueError(f"history.csv lacks epochs of seeds that did not diverge; expected {record.trial.epochs} each")
    percent = record.history[["train_accuracy", "test_accuracy"]]
    if not percent.map(lambda value: 0 <= value <= 100).all(axis=None):
        raise ValueError("history.csv has accuracies that are not within 0 to 100")
    weighed = record.seeds if record.weight_seeds is None else record.weight_seeds
    if any(value.shape[:1] != (len(weighed),) for value in record.weights.values()):
        raise ValueError(f"weights.safetensors holds tensors that are not of {len(weighed)} replicas")
