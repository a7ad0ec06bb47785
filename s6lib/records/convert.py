"""`python -m s6lib.records.convert <run folder>`: records of the older layout, one folder per trial, become parts.

A record whose seeds came from several trainings becomes several parts, each with its own provenance. The old folder
is removed only when its parts read back with the same numbers.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np

from s6lib.records.parts import add, is_part_name, load, part_folders
from s6lib.records.record import FILES, Record, RecordError


def convert(root: Path) -> list[Path]:
    """Converts every record of the older layout below `root`; the parts made. Their place is <study>/<trial>."""
    made = []
    for folder in [path for path in part_folders(root) if not is_part_name(path.name)]:
        old = load(folder)
        parts = [add(piece, root) for piece in split(old)]
        _compare(old, [load(part) for part in parts])
        for name in ("record.json", *FILES):
            (folder / name).unlink()
        while folder != root and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
        made += parts
    return made


def split(record: Record) -> list[Record]:
    """One record for every training that the seeds of `record` come from."""
    pieces, left, provenance = [], list(record.seeds), dict(record.provenance)
    while provenance:
        earlier = provenance.pop("merged_with", {"seeds": [], "provenance": {}})
        mine = [seed for seed in left if seed not in earlier["seeds"]]
        pieces.append(dataclasses.replace(record.only(mine), provenance=provenance))
        left, provenance = [seed for seed in left if seed in earlier["seeds"]], dict(earlier["provenance"])
    return pieces[::-1]


def _compare(old: Record, parts: list[Record]) -> None:
    for part in parts:
        again = old.only(part.seeds)
        same = again.history.reset_index(drop=True).equals(part.history)
        same &= again.weight_norms.reset_index(drop=True).equals(part.weight_norms)
        same &= np.array_equal(again._logits, part._logits, equal_nan=True)
        same &= all(np.array_equal(again.weights[name], part.weights[name], equal_nan=True) for name in again.weights)
        if not same:
            raise RecordError(f"{old.path}: {part.path} does not read back with its numbers; the old one was kept")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python -m s6lib.records.convert <run folder>, such as results/full")
    print(*convert(Path(sys.argv[1])), sep="\n")
