"""results/bench/durations.json: seconds per seed that every arm takes on the digits at its own number of epochs.

`python benchmarks/durations.py [STUDY | STUDY/ARM ...]`; five seeds together on one thread, three epochs, the faster of
the last two counts. With some named, the other arms stay as they are; the machine in the file is that of the last call.
"""

import json
import sys

import torch

from s6lib import data, paths, training
from s6lib.provenance import provenance
from s6lib.studies import STUDIES
from s6lib.trial import make_trial

SEEDS = 5


def seconds_per_seed(study: str, arm: str, images: data.Dataset) -> float:
    record = training.train(make_trial(study, arm, epochs=3), images, SEEDS, save=False)
    return float(record.history.groupby("epoch").seconds.max().loc[2:].min()) * make_trial(study, arm).epochs / SEEDS


def named(words: list[str]) -> list[tuple[str, str]]:
    """The arms that studies or arms name; all of them where there are none."""
    arms = [(study.name, arm) for study in STUDIES.values() for arm in study.arms]
    if unknown := set(words) - set(STUDIES) - {f"{study}/{arm}" for study, arm in arms}:
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; valid: studies ({', '.join(STUDIES)}) and STUDY/ARM")
    return [(study, arm) for study, arm in arms if not words or {study, f"{study}/{arm}"} & set(words)]


def main() -> None:
    chosen = named(sys.argv[1:])
    torch.set_num_threads(1)
    images = data.load("digits")
    path = paths.home() / "results" / "bench" / "durations.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["digits"] if sys.argv[1:] else {}
    found = kept | {f"{study}/{arm}": seconds_per_seed(study, arm, images) for study, arm in chosen}
    about = provenance("batch", "regularisers")
    machine = {key: about[key] for key in ("git_commit", "versions", "platform", "processor")}
    rounded = {name: float(f"{value:.2g}") for name, value in found.items()}
    path.write_text(json.dumps({"digits": rounded, "seeds": SEEDS, **machine}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
