"""Which recipe for a small network? Compares candidates on held-out training images; the test images are not loaded.

    python benchmarks/frontier.py --seeds 4

Every candidate is study `frontier`'s protocol with the settings named here, trained on the first 50,000 training images
of MNIST and evaluated on its last 10,000, with seeds from 100 on, which final runs do not use. Writes
results/bench/frontier_candidates.json; every finished candidate is kept there, and not repeated.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from s6lib import data, training
from s6lib.evidence import probes
from s6lib.provenance import provenance
from s6lib.records import Record
from s6lib.trial import Trial, make_trial

OUT = Path(__file__).parent.parent / "results" / "bench" / "frontier_candidates.json"
FIRST_SEED, HELD_OUT = 100, 10_000
TEACHER = "as it is"  # its seeds together teach the candidates that distil

CANDIDATES: dict[str, dict] = {
    TEACHER: {},
    "no average": {"ema": 0.0},
    "average .9995": {"ema": 0.9995},
    "average .998": {"ema": 0.998},
    "no shift": {"shift": 0},
    "shift 2": {"shift": 2},
    "rotation 7": {"rotation": 7.0},
    "rotation 15": {"rotation": 15.0},
    "peak rate .01": {"learning_rate": 0.01},
    "peak rate .02": {"learning_rate": 0.02},
    "peak rate .03": {"learning_rate": 0.03},
    "batch 64": {"batch_size": 64, "ema": 0.9995},
    "labels smoothed .05": {"label_smoothing": 0.05},
    "labels smoothed .1": {"label_smoothing": 0.1},
    "ghost norm, 2 splits": {"normaliser": "ghost"},
    "wide at first": {"widths": (10, 12, 16, 18, 20)},
    "wide at last": {"widths": (6, 10, 16, 20, 26)},
    "distilled, half": {"distillation": 0.5},
    "distilled, nine tenths": {"distillation": 0.9},
    "30 epochs": {"epochs": 30},
    "60 epochs": {"epochs": 60},
}


def candidate(name: str) -> Trial:
    return make_trial("frontier", "candidate", like="", **CANDIDATES[name])


def soft_labels(teachers: Record, dataset: data.Dataset) -> torch.Tensor:
    """The mean probability [n, 10] that the record's networks give each training image, as it is on disk."""
    nets = [probes.network(teachers, r) for r in teachers.non_diverged]
    with torch.no_grad():
        batches = [dataset.normalise(part)[:, None] for part in dataset.train_images.split(500)]
        return torch.stack([torch.cat([net(x)[:, 0] for x in batches]).softmax(-1) for net in nets]).mean(0)


def tried(name: str, dataset: data.Dataset, seeds: list[int]) -> dict:
    """A row: the candidate's settings, its held-out accuracy per seed, percent, its size and seconds per seed."""
    if CANDIDATES[name].get("distillation"):
        teachers = training.train(candidate(TEACHER), dataset, seeds)
        dataset = data.with_soft_labels(dataset, soft_labels(teachers, dataset))
    record = training.train(candidate(name), dataset, seeds)
    return {
        "candidate": name,
        "settings": CANDIDATES[name],
        "seeds": record.seeds,
        "held_out": record.last().test_accuracy.tolist(),
        "parameters": record.provenance["parameters"],
        "seconds": record.seconds_per_seed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--only", nargs="*", choices=CANDIDATES, default=list(CANDIDATES), help="these candidates")
    options = parser.parse_args()
    seeds = list(range(FIRST_SEED, FIRST_SEED + options.seeds))
    dataset = data.hold_out(data.load("mnist"), HELD_OUT)
    state = json.loads(OUT.read_text()) if OUT.exists() else {"candidates": []}
    for name in options.only:
        done = [row for row in state["candidates"] if row["candidate"] == name and row["seeds"] == seeds]
        if not done:
            state["candidates"] += [row := tried(name, dataset, seeds)]
            state |= {"provenance": provenance("batch", "frontier"), "finished": time.strftime("%Y-%m-%d")}
            OUT.write_text(json.dumps(state, indent=1) + "\n")
            print(f"{name}: {sum(row['held_out']) / len(seeds):.3f} %, {row['seconds']:.0f} s per seed", flush=True)


if __name__ == "__main__":
    main()
