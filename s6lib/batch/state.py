"""How far a run is done: what lies in its folders, and in the parts it stands on, against what is asked for now.

No torch here, so `status` answers at once.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from s6lib import paths, records
from s6lib.batch.plan import Run, difference
from s6lib.records import RecordError, plain_text
from s6lib.records.files import digest_of
from s6lib.records.parts import is_part_name


def is_part(name: Any) -> bool:
    """Whether this names a part relative to the run folder, and leads nowhere else: "study/trial/seeds-..."."""
    parts = Path(name).parts if isinstance(name, str) else ()
    return len(parts) == 3 and ".." not in parts and not Path(name).is_absolute() and is_part_name(parts[-1])


# What a run.json must hold; the rest of it is for readers.
RUN_FILE: dict[str, Callable[[Any], bool]] = {
    "settings": lambda value: isinstance(value, dict),
    "code": lambda value: isinstance(value, str),
    "data": lambda value: value is None or isinstance(value, str),
    "seconds": lambda value: type(value) in (int, float) and 0 <= value < 1e9,
    "parts": lambda value: isinstance(value, list) and len(value) > 0 and all(map(is_part, value)),
}


@dataclass(frozen=True)
class State:
    """`kind` is done, stale, damaged, missing, or other (of other data files); `info` is the run.json that stands for
    it, `heads` are its parts'."""

    kind: str
    reason: str = ""
    info: dict = field(default_factory=dict)
    heads: list[dict] = field(default_factory=list)
    folder: Path | None = None

    @property
    def diverged(self) -> str:
        """Which seeds diverged, and when; "" where none did."""
        bad = [entry for head in self.heads for entry in head["diverged"]]
        parts = [f"seed {entry['seed']} at epoch {entry['epoch']}, step {entry['step']}" for entry in bad]
        return f"diverged: {', '.join(parts)}" if bad else ""


def run_key(settings: dict) -> str:
    """Eight digits that stand for a run's settings in the name of its folder."""
    return digest_of(settings)[:8]


def state_of(run: Run, results: Path) -> State:
    """How far the run folders of a trial, and the parts they stand on, are what is asked for now."""
    trial = results / run.study / run.trial
    folders = sorted(trial.glob(f"run.{run_key(run.settings)}*"))
    states = [state_of_folder(folder, run, results) for folder in folders]
    if not states:
        changes = [difference(info["settings"], run.settings) for info in read_runs(trial, "run.*").values()]
        return State("missing", f"is there with other parameters: {min(changes, key=len)}" if changes else "")
    return min(reversed(states), key=lambda state: ("done", "stale", "other", "damaged").index(state.kind))


def state_of_folder(folder: Path, run: Run, results: Path) -> State:
    try:
        info = read_run(folder)
        heads = [records.check(results / name) for name in info["parts"]]
    except RecordError as error:
        return State("damaged", str(error))
    data = data_fingerprint(run.settings.get("dataset", ""))
    if data and info["data"] not in (None, data):
        return State("other", "the data files changed")
    reasons = ["the notebook's code changed"] if info["code"] != run.code else []
    reasons += ["the library's training code changed"] if any(map(records.is_stale, heads)) else []
    return State("stale" if reasons else "done", " and ".join(reasons), info, heads, folder)


def read_runs(folder: Path, pattern: str) -> dict[Path, dict]:
    """{folder: run.json} of the committed runs that match, without those that cannot be read."""
    found = {}
    for path in folder.glob(pattern):
        with contextlib.suppress(RecordError):
            found[path] = read_run(path)
    return found


def read_run(folder: Path) -> dict:
    """run.json of a committed run. Raises RecordError naming the file."""
    file = folder / "run.json"
    try:
        info = json.loads(file.read_bytes())
        wrong = [name for name, fine in RUN_FILE.items() if not fine(info.get(name))]
    except OSError as error:
        raise RecordError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise RecordError(plain_text(f"{file}: not a run's description ({error})")) from error
    if wrong:
        raise RecordError(f"{file}: not a run's description ({', '.join(wrong)} missing or of another type)")
    return info


def data_fingerprint(dataset: str, data_dir: str | None = None) -> str | None:
    """A hash over the data set's files, below another folder than this process's where one is given; None for the
    bundled digits, and where the files are not there (yet)."""
    folder = paths.raw_folder(dataset, data_dir)
    if not folder or not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*-ubyte"), *folder.glob("*-int")]):
        digest.update(_sha256(file, file.stat().st_mtime_ns).encode())
    return digest.hexdigest()[:16]


@cache
def _sha256(file: Path, changed: int) -> str:
    return records.sha256(file)
