"""Parts on disk: written aside, flushed, renamed into place; checked in full when they are read."""

import itertools
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.numpy

from s6lib import paths
from s6lib.records import answers
from s6lib.records.files import commit_folder, digest_of, plain_text, sha256
from s6lib.records.head import check, trial_of
from s6lib.records.record import FILES, HISTORY, RAW, WEIGHT_NORMS, Record, RecordError

PART = re.compile(r"seeds-([0-9]+(?:-[0-9]+)?(?:_[0-9]+(?:-[0-9]+)?)*)\.([0-9a-f]{8})(?:\.[0-9]+)?")
RANGES = 8  # of seeds in a part's name
ROW_BYTES = 400  # no row of a table is longer


# --- names -----------------------------------------------------------------------------------------


def key_of(settings: dict, dataset: dict, precision: str) -> str:
    """Eight digits that stand for a trial's settings, the data and the precision in a part's name."""
    return digest_of({"trial": settings, "dataset": dataset, "precision": precision})[:8]


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


def part_folders(root: str | Path, unread: list[str] | None = None) -> Iterator[Path]:
    """Every folder below `root` that is a part by its files or its name, in the order of paths; nothing hidden, no
    links followed. Adds a line to `unread` for every link, and for every folder that cannot be read."""
    lines = [] if unread is None else unread

    def note(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # `root` may be yet to come
            lines.append(plain_text(f"{error.filename}: cannot be read ({error.strerror})"))

    for folder, inner, files in os.walk(root, onerror=note):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        links = [path for name in inner if (path := Path(folder, name)).is_symlink()]
        lines += [plain_text(f"{path}: a link, not followed") for path in links]
        if "record.json" in files or is_part_name(Path(folder).name):
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
    remove_dead_partials(trial.parents[1])
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
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    head = {
        "format": 3,
        "trial": record.trial.settings(),
        "dataset": record.dataset,
        "seeds": record.seeds,
        "weight_seeds": record.with_weights,
        "diverged": record.diverged,
        "provenance": record.provenance,
        "finished": finished or record.provenance.get("finished") or now,  # the provenance's: a converted record
        "files": {name: sha256(folder / name) for name in FILES},
    }
    (folder / "record.json").write_text(json.dumps({**head, "sha256": digest_of(head)}, indent=1) + "\n")


# --- reading ---------------------------------------------------------------------------------------


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
    if any(value.shape[:1] != (len(record.with_weights),) for value in record.weights.values()):
        raise ValueError(f"weights.safetensors holds tensors that are not of {len(record.with_weights)} replicas")
