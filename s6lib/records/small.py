"""`python -m s6lib.records.small FROM TO [--weights N]`: copies a run's parts in their small form.

For every image and seed the copy keeps the predicted class, its probability and that of the label (`answers`). It keeps
the weights of seeds below N only (default 2). Provenance and times are copied unchanged. FROM is only read, and what is
already in TO is not changed. TO/hardest.npz gets the hardest test images where the data set is available.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np

from s6lib import data
from s6lib.records import images
from s6lib.records.head import check, read_head
from s6lib.records.parts import add, load, part_folders
from s6lib.records.reading import find
from s6lib.records.record import Record, RecordError


def small(record: Record, weights: int = 2) -> Record:
    """The small form of a record; of its weights those of seeds below `weights` stay."""
    return dataclasses.replace(
        record,
        logits=None,
        predicted=record.predicted,
        probabilities=np.stack([record.confidence, record.label_probability]),
        **record.weights_of(range(weights)),
    )


def copy(source: Path, target: Path, weights: int = 2) -> list[str]:
    """Adds the small form of every part below `source` to `target`; a line for each that could not be read."""
    trouble = []
    for folder in list(part_folders(source)):
        try:
            head = check(folder)
            place = target / head["trial"]["study"] / head["trial"]["name"]
            if not any(_same(part, head) for part in part_folders(place)):
                add(small(load(folder), weights), target, finished=head.get("finished", ""))
        except RecordError as error:
            trouble.append(str(error))
    return trouble


def _same(part: Path, head: dict) -> bool:
    """Whether a part is the copy of the one with this head."""
    try:
        other = read_head(part)
    except RecordError:
        return False
    names = ("trial", "dataset", "seeds", "provenance", "finished")
    return all(other.get(name) == head.get(name) for name in names)


def keep_hardest(root: Path) -> str:
    """Writes `hardest.npz` of the records below `root`; a line that says what was done, or why nothing was."""
    found = images.of_one_data_set(find(root)[0])
    if not found:
        return f"{root}: no records, so no images"
    try:
        pixels = images.images_of(found[0])
    except data.DataError as error:
        return f"{root / images.NAME}: not written ({error})"
    return str(images.write(root, found, pixels))


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m s6lib.records.small", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("source", type=Path, metavar="FROM", help="a run, such as results/full")
    parser.add_argument("target", type=Path, metavar="TO", help="where the copies go, such as results/reference")
    parser.add_argument("--weights", type=int, default=2, help="keep the weights of seeds below this (default 2)")
    chosen = parser.parse_args(words)
    if not chosen.source.is_dir() or chosen.source.resolve() == chosen.target.resolve():
        parser.error(f"{chosen.source}: no folder of parts, or the target itself")
    trouble = copy(chosen.source, chosen.target, chosen.weights)
    print(*trouble, keep_hardest(chosen.target), sep="\n")
    return int(bool(trouble))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
