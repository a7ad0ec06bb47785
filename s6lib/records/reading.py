"""Reading a trial: the parts with one key together, each seed once, and what was left out and why."""

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from s6lib import paths
from s6lib.provenance import source_fingerprint
from s6lib.records.files import plain_text, replace_file
from s6lib.records.head import read_head, trial_of
from s6lib.records.parts import claim, is_part_name, load, part_folders
from s6lib.records.record import Record, RecordError, counted

if TYPE_CHECKING:
    from s6lib.trial import Trial

ASKED = "asked.json"  # beside a run's studies: {study/trial: keys of the parts that its last run asked for}
Part = tuple[Path, dict]  # its folder, and its head


def is_stale(head: dict) -> bool:
    """Whether the code that trained a part, of which record.json is `head`, has changed since."""
    normaliser, network = str(head["trial"].get("normaliser")), str(head["trial"].get("network"))
    return head["provenance"].get("source") != source_fingerprint(normaliser, network)


def read(
    trial: "Trial", dataset: dict, precision: str, seeds: Sequence[int] | None = None, root: str | Path = ""
) -> Record | None:
    """The record of `trial` by today's code from its parts below `root`; None where no part fits.

    `seeds` narrows it down to those of them that are there, in that order.
    """
    folder = Path(root or paths.interactive_results(), trial.study, trial.name)
    parts, left_out = _heads(folder)
    fitting = [part for part in parts if _fits(part[1], trial, dataset, precision)]
    fresh = [part for part in fitting if not is_stale(part[1])]
    left_out += _count(folder, len(parts) - len(fitting), "of other settings, data or precision")
    left_out += _count(folder, len(fitting) - len(fresh), "by other training code (stale)")
    record = _together(folder, fresh, left_out, seeds)
    claim([part["path"] for part in record.parts] if record else [])
    return record


def find(root: str | Path) -> tuple[list[Record], list[str]]:
    """All records below `root`, one per trial and key, in order of paths, and a line for what had to be left out.

    Of parts made by different training code, those by today's are read, else the newest; records of the latter say that
    they are `stale`. Where a run noted what it asked for, parts of the same trial with other settings are left out.
    """
    parts, left_out = _heads(Path(root))
    asked = _asked(Path(root))
    groups: dict[Hashable, list[Part]] = {}
    unasked = Counter[Path]()
    for path, head in parts:
        keys = asked.get(f"{head['trial']['study']}/{head['trial']['name']}")
        if keys and path.name.split(".")[1] not in keys:
            unasked[path.parent] += 1
            continue
        groups.setdefault(_identity(head), []).append((path, head))
    for folder, number in unasked.items():
        left_out += _count(folder, number, "of other settings than the last run asked for")
    found = []
    for group in groups.values():  # wherever they lie: the copy of a folder counts no seed again
        folder = group[0][0].parent
        chosen, stale = _newest_code(group)
        lines = _count(folder, len(group) - len(chosen), "by other training code (stale)")
        if record := _together(folder, chosen, lines):
            record.stale = stale
            found.append(record)
        left_out += lines
    return found, left_out


def lookup(
    root: str | Path, trial: "Trial", dataset: dict, precision: str = "auto", seeds: Sequence[int] | None = None
) -> Record | None:
    """The record of `trial` below `root` for showing, whatever code trained it; "auto": the precision of most seeds.

    With all seeds that are there, or with `seeds` in that order; None where one of these is missing. Parts made by one
    version of the code are preferred to a mixture.
    """
    folder = Path(root, trial.study, trial.name)
    alike: dict[str | None, list[Part]] = {}
    for part in _heads(folder)[0]:
        kind = part[1]["provenance"].get("precision")
        if precision in ("auto", kind) and _fits(part[1], trial, dataset, kind):
            alike.setdefault(kind, []).append(part)
    whole = [_whole(folder, parts, seeds) for parts in alike.values()]
    return max(filter(None, whole), key=lambda record: len(record.seeds), default=None)


def describe_dataset(name: str) -> dict | None:
    """What the reference run's records say of the data set `name`; None where there is none on it."""
    heads = (head for _, head in _heads(paths.reference())[0])
    return next((head["dataset"] for head in heads if head["dataset"]["name"] == name), None)


def where(record: Record) -> str:
    """In words: where a record lies, in how many parts, and what was left out there."""
    if record.path is None:
        return f"{record.name}: not saved"
    parts = counted(len(record.parts), "part")
    return "\n".join([f"{paths.relative_to_home(record.path)}: {parts}", *record.left_out])


# --- which parts -----------------------------------------------------------------------------------


def _heads(root: Path) -> tuple[list[Part], list[str]]:
    """Every part below `root` whose head can be used, and a line for every other."""
    parts, left_out = list[Part](), list[str]()
    for folder in part_folders(root, left_out):
        try:
            if not is_part_name(folder.name):
                raise RecordError(
                    f"{folder}: of an older layout; `python -m s6lib.records.convert {root}` makes parts of it"
                )
            head = read_head(folder)
            trial_of(head)
            parts.append((folder, head))
        except RecordError as error:
            left_out.append(plain_text(str(error)))
        except Exception as error:  # a trial that cannot be made
            left_out.append(plain_text(f"{folder}: not a usable record ({type(error).__name__}: {error})"))
    return parts, left_out


def write_asked(root: Path, parts: Iterable[str]) -> None:
    """Notes the keys of `parts`, named "study/trial/part": those that the run in `root` asks for. What it asked for in
    other trials stays; a file that would not change is not written."""
    asked: dict[str, list[str]] = {}
    for name in parts:
        trial, part = name.rsplit("/", 1)
        if (key := part.split(".")[1]) not in asked.setdefault(trial, []):
            asked[trial].append(key)
    known = _asked(root)
    if known | asked != known or not (root / ASKED).exists():
        replace_file(root / ASKED, (json.dumps(known | asked, indent=1) + "\n").encode())


def _asked(root: Path) -> dict[str, list[str]]:
    try:
        asked = json.loads((root / ASKED).read_bytes())
        return {name: keys for name, keys in asked.items() if isinstance(keys, list)}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}  # no run of the batch


def _fits(head: dict, trial: "Trial", dataset: dict, precision: str) -> bool:
    return head["dataset"] == dataset and head["provenance"].get("precision") == precision and trial_of(head) == trial


def _identity(head: dict) -> Hashable:
    return trial_of(head), json.dumps(head["dataset"], sort_keys=True), head["provenance"].get("precision")


def _newest_code(parts: list[Part]) -> tuple[list[Part], bool]:
    """The parts by today's code, else by the code of the part finished last; and whether that code is another."""
    if fresh := [part for part in parts if not is_stale(part[1])]:
        return fresh, False
    source = max(parts, key=_finished)[1]["provenance"].get("source")
    return [part for part in parts if part[1]["provenance"].get("source") == source], True


def _finished(part: Part) -> tuple[str, str]:
    return part[1].get("finished", ""), part[0].name


def _count(folder: Path, number: int, what: str) -> list[str]:
    return [f"{folder}: {counted(number, 'part')} {what} left out"] if number else []


# --- together --------------------------------------------------------------------------------------


def _whole(folder: Path, parts: list[Part], seeds: Sequence[int] | None) -> Record | None:
    """One record of these parts, of one version of the code if that has all `seeds`; None where one is missing."""
    for chosen in (_newest_code(parts)[0], parts):
        record = _together(folder, chosen, [], seeds)
        if record and len(record.seeds) == len(seeds or record.seeds):
            record.stale = any(is_stale(head) for _, head in chosen)
            return record
    return None


def _together(
    folder: Path, parts: list[Part], left_out: list[str], seeds: Sequence[int] | None = None
) -> Record | None:
    """One record of parts that belong together; a seed counts from the part finished first. Adds to `left_out`."""
    pieces: list[Record] = []
    taken: set[int] = set()
    for path, head in sorted(parts, key=_finished):
        asked = [seed for seed in head["seeds"] if seeds is None or seed in seeds]
        new = [seed for seed in asked if seed not in taken]
        if twice := len(asked) - len(new):
            left_out.append(f"{path}: {twice} of {len(head['seeds'])} seeds left out, they come twice")
        if not new:
            continue
        try:
            piece = load(path)
            _check_alike(pieces, piece)
        except RecordError as error:
            left_out.append(str(error))
            continue
        taken |= set(new)
        pieces.append(piece.only(new))
    return _join(folder, pieces, left_out, seeds) if pieces else None


def _check_alike(pieces: list[Record], piece: Record) -> None:
    """Raises RecordError where a part that is whole by itself does not go with those before it."""
    if not pieces:
        return
    first, shapes = pieces[0], lambda record: {name: value.shape[1:] for name, value in record.weights.items()}
    weighed = [one for one in pieces if one.weights][:1] if piece.weights else []
    if not np.array_equal(first.labels, piece.labels) or any(shapes(one) != shapes(piece) for one in weighed):
        raise RecordError(f"{piece.path}: its labels or weights do not go with those of {first.path}")


def _join(folder: Path, pieces: list[Record], left_out: list[str], seeds: Sequence[int] | None) -> Record:
    at = {seed: row for row, seed in enumerate(seed for one in pieces for seed in one.seeds)}
    order = sorted(at) if seeds is None else [seed for seed in seeds if seed in at]
    rows = [at[seed] for seed in order]
    small = any(one.logits is None for one in pieces)

    def array(name: str) -> np.ndarray:
        return np.concatenate([getattr(one, name) for one in pieces])[rows]

    def table(name: str) -> pd.DataFrame:
        tables = [frame for one in pieces if len(frame := getattr(one, name))]
        return pd.concat(tables or [getattr(pieces[-1], name)]).sort_values(["seed", "epoch"], ignore_index=True)

    return replace(
        pieces[-1],  # they come in the order in which they were finished
        seeds=order,
        history=table("history"),
        weight_norms=table("weight_norms"),
        logits=None if small else array("logits"),
        predicted=array("predicted"),
        probabilities=np.stack([array("confidence"), array("label_probability")]) if small else None,
        **_weights([one for one in pieces if one.weights], order),
        diverged=[entry for one in pieces for entry in one.diverged],
        path=folder,
        parts=[{"path": one.path, "seeds": one.seeds, "provenance": one.provenance} for one in pieces],
        left_out=left_out,
    )


def _weights(pieces: list[Record], order: list[int]) -> dict:
    """The weights, and the seeds they are of: those in `order` that some piece kept."""
    at = {seed: row for row, seed in enumerate(seed for one in pieces for seed in one.with_weights)}
    seeds = [seed for seed in order if seed in at]
    rows, names = [at[seed] for seed in seeds], pieces[0].weights if seeds else {}
    weights = {name: np.concatenate([one.weights[name] for one in pieces])[rows] for name in names}
    return {"weights": weights, "weight_seeds": seeds}
