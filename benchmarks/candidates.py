"""Recipes compared on held-out training images; what benchmarks/frontier.py and benchmarks/speedrun.py share.

Everything trains on the first 50,000 training images of MNIST and is evaluated on its last 10,000, with seeds from 100
on, which final runs do not use; the test images are not loaded.
"""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from s6lib import data, models, training
from s6lib.evidence import probes
from s6lib.models import Net
from s6lib.provenance import provenance
from s6lib.records import Record, replace_file
from s6lib.trial import Trial, make_trial

BENCH = Path(__file__).parent.parent / "results" / "bench"
FIRST_SEED, HELD_OUT = 100, 10_000


@dataclass(frozen=True)
class Candidates:
    """The candidates of one study, kept in a file as they finish; a row is reused only with its very settings."""

    study: str
    path: Path

    def trial(self, settings: dict) -> Trial:
        return make_trial(self.study, "candidate", like="", **settings)

    def run(self, jobs: dict[str, dict], seeds: list[int], processes: int) -> list[dict]:
        """The rows of all jobs, those in the file and those trained now, `processes` side by side."""
        rows = self.state()["candidates"]
        done = {row["candidate"]: row for row in rows if row["seeds"] == seeds and same(row, jobs)}
        with ProcessPoolExecutor(processes) as pool:
            missing = {name: self.trial(settings) for name, settings in jobs.items() if name not in done}
            waiting = [pool.submit(tried, name, trial, jobs[name], seeds) for name, trial in missing.items()]
            for finished in as_completed(waiting):
                row = finished.result()
                done[row["candidate"]] = row
                rows.append(row)
                self.write(candidates=rows)
                held_out = sum(row["held_out"]) / len(row["held_out"])
                print(f"{row['candidate']}: {held_out:.3f} %, {row['seconds']:.0f} s", flush=True)
        return [done[name] for name in jobs]

    def state(self) -> dict:
        """What the file holds."""
        return {"candidates": [], "effects": []} | (json.loads(self.path.read_text()) if self.path.exists() else {})

    def write(self, **parts: object) -> None:
        """Replaces parts of the file, which is never half-written."""
        about = {"provenance": provenance("batch", self.study), "finished": time.strftime("%Y-%m-%d")}
        replace_file(self.path, (json.dumps(self.state() | parts | about, indent=1) + "\n").encode())


def tried(name: str, trial: Trial, settings: dict, seeds: list[int]) -> dict:
    """A row: the candidate's settings, its held-out accuracy per seed, percent, its size and seconds per seed."""
    torch.set_num_threads(1)
    dataset = data.hold_out(data.load("mnist"), HELD_OUT)
    if trial.distillation:
        teachers = training.train(replace(trial, distillation=0.0), dataset, seeds, workers=1)
        dataset = data.with_soft_labels(dataset, soft_labels(teachers, dataset))
    record = training.train(trial, dataset, seeds, workers=1)
    last = record.last()
    averaged = {"held_out_not_averaged": last.raw_test_accuracy.tolist()} if trial.ema else {}
    return {
        "candidate": name,
        "settings": as_written(settings),
        "seeds": record.seeds,
        "held_out": last.test_accuracy.tolist(),
        "held_out_loss": last.test_loss.tolist(),
        **averaged,
        "parameters": models.count_parameters(trial.build()),
        "seconds": record.seconds_per_seed,
    }


def soft_labels(teachers: Record, dataset: data.Dataset) -> torch.Tensor:
    """The mean probability [n, 10] that the record's networks give each training image, as it is on disk."""
    nets = [probes.network(teachers, r) for r in teachers.non_diverged]
    return answers(nets, dataset.normalise(dataset.train_images)[:, None]).softmax(-1).mean(0)


@torch.no_grad()
def answers(nets: Sequence[Net], images: torch.Tensor) -> torch.Tensor:
    """The logits [R, n, 10] of networks of one replica each for images [n, 1, 28, 28]."""
    return torch.stack([torch.cat([net(part)[:, 0] for part in images.split(500)]) for net in nets])


def as_written(settings: dict) -> dict:
    """Settings as the file has them."""
    return {key: plain(value) for key, value in settings.items()}


def plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def same(row: dict, jobs: dict[str, dict]) -> bool:
    """Whether the file's row is of a job as it is now, and not of one that had its name."""
    return row["candidate"] in jobs and row["settings"] == as_written(jobs[row["candidate"]])
