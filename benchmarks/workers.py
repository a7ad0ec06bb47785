"""Seeds dealt over processes: `python benchmarks/workers.py` writes results/bench/workers.json (about 15 minutes).

Times `train` on an epoch of MNIST, three interleaved rounds of one process with all threads and of the default; counts
memory and files of 16 workers on the digits; and measures what a part costs where there are 2,000 of them.
"""

import argparse
import dataclasses
import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from s6lib import data, records, training
from s6lib.batch import chunks
from s6lib.processes import cores
from s6lib.provenance import provenance
from s6lib.records import Record
from s6lib.training import deal
from s6lib.training.precision import keep_freed_memory
from s6lib.training.trainer import Trainer
from s6lib.trial import make_trial

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "results" / "bench" / "workers.json"
BENCHED = {"seeds": 8, "epochs": 1, "train": 60_000, "test": 10_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", type=int, default=2000)
    parser.add_argument("--side-by-side", type=int, default=16, metavar="WORKERS")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--only", default="", help="these, comma-separated; what is in the file of others stays")
    parser.add_argument("--output", type=Path, default=TARGET)
    options = parser.parse_args()
    measure: dict[str, Callable[[], object]] = {
        "plan": lambda: plan(20, 10_000),
        "training": lambda: training_times(options.dataset, options.rounds),
        "side_by_side": lambda: [side_by_side(number) for number in (1, 2, options.side_by_side)],
        "memory": lambda: [memory_of(study, name) for study, name in ARMS],
        "parts": lambda: [many_parts(options.parts // 4), many_parts(options.parts)],
        "tasks": lambda: many_tasks(options.parts),
    }
    about = {
        "cores": cores(),
        "date": datetime.date.today().isoformat(),
        "provenance": provenance("batch", "regularisers"),
    }
    for name in options.only.split(",") if options.only else measure:
        found = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else {}
        found |= {name: measure[name](), **about}
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(name, json.dumps(found[name]), flush=True)


# --- time ------------------------------------------------------------------------------------------


def training_times(dataset: str, rounds: int) -> dict:
    """Seconds of `train`, start of processes included: one process with all threads against the default."""
    seconds: dict[str, list[float]] = {"one process": [], "default": []}
    for _ in range(rounds):
        seconds["one process"].append(timed(dataset, "1"))
        seconds["default"].append(timed(dataset, ""))
    ratios = sorted(a / b for a, b in zip(*seconds.values(), strict=True))
    return {**BENCHED, "dataset": dataset, "seconds": seconds, "ratio": ratios[len(ratios) // 2], "ratios": ratios}


def timed(dataset: str, workers: str) -> float:
    """Seconds of one training, in a process of its own and a results folder of its own."""
    with tempfile.TemporaryDirectory() as lab:
        return float(this_script("--one", dataset, workers, S6_LAB=lab, S6_QUIET="1"))


def one_training(dataset: str, workers: str) -> None:
    images = data.limit(data.load(dataset), BENCHED["train"], BENCHED["test"])
    trial = make_trial("regularisers", "bn", epochs=BENCHED["epochs"])
    start = time.perf_counter()
    training.train(trial, images, BENCHED["seeds"], workers=int(workers) if workers else None)
    print(time.perf_counter() - start)


# --- memory and files ------------------------------------------------------------------------------

ARMS = (("regularisers", "bn"), ("normalisers", "gn_l1"), ("progression", "gap"), ("progression", "skeleton"))


def side_by_side(workers: int) -> dict:
    """Two seeds in each of `workers` processes, one epoch of the digits: time, their memory together, files."""
    with tempfile.TemporaryDirectory() as lab:
        os.environ |= {"S6_LAB": lab, "S6_QUIET": "1"}
        images, seeds = data.load("digits"), 2 * workers
        watch = Watch() if workers > 1 else None
        start = time.perf_counter()
        training.train(make_trial("regularisers", "bn", epochs=1), images, seeds, precision="float32", workers=workers)
        seconds = time.perf_counter() - start
        files = [path for path in Path(lab).rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
    counted = {"workers": workers, "seeds": seeds, "seconds": seconds, "files": len(files), "file_bytes": size}
    return {**counted, **(watch.stop() if watch else {})}


class Watch:
    """The most memory that the workers of this process held at one time, shared pages counted once."""

    def __init__(self):
        self.most, self.number, self.over = 0, 0, threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()

    def _look(self) -> None:
        while not self.over.wait(0.3):
            found = [proportional(pid) for pid in children()]
            self.most, self.number = max(self.most, sum(found)), max(self.number, len(found))

    def stop(self) -> dict:
        self.over.set()
        self.thread.join()
        return {
            "processes": self.number,
            "memory_mb": self.most / 2**20,
            "per_worker_mb": self.most / 2**20 / self.number,
        }


def children() -> list[str]:
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()


def proportional(pid: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def memory_of(study: str, name: str) -> dict:
    """Memory of one more seed while it trains and is evaluated, from 2 to 6 fused; and what the rule takes it for."""
    probe = Trainer([make_trial(study, name, epochs=1)], data.load("digits"), [0], "float32")
    few, many = (float(this_script("--peak", study, name, str(seeds))) for seeds in (2, 6))
    rule = deal.bytes_per_seed(probe) / 2**20
    return {"trial": f"{study}/{name}", "measured_mb": (many - few) / 4, "rule_mb": rule}


def peak(study: str, name: str, seeds: str) -> None:
    keep_freed_memory()
    trial = make_trial(study, name, epochs=1)
    images = data.load("digits")
    several = torch.arange(1000) % len(images.test_images)  # two batches of evaluation
    images = dataclasses.replace(
        data.limit(images, 3 * trial.batch_size, 297),
        test_images=images.test_images[several],
        test_labels=images.test_labels[several],
    )
    Trainer([trial], images, list(range(int(seeds))), "float32").run_epoch()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


# --- many parts ------------------------------------------------------------------------------------


def many_parts(count: int) -> dict:
    """Adds `count` parts of one seed, 100 test images each, to one trial; then reads them, and adds one more."""
    trial = make_trial("regularisers", "bn", epochs=2)
    few = data.limit(data.load("digits"), 128, 100)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"S6_LAB": folder, "S6_QUIET": "1"}
        model = training.train(trial, few, 1, precision="float32", save=False)
        adding = seconds_of(lambda: [records.add(renamed(model, seed)) for seed in range(count)])
        one_more = seconds_of(lambda: records.add(renamed(model, count)))
        reading = seconds_of(lambda: records.read(trial, few.describe(), "float32"))
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
    facts = {"parts": count, "files": len(files), "bytes_per_part": size / (count + 1)}
    return {**facts, "add_ms": 1000 * adding / count, "add_last_ms": 1000 * one_more, "read_seconds": reading}


def renamed(record: Record, seed: int) -> Record:
    tables = {name: getattr(record, name).assign(seed=seed) for name in ("history", "weight_norms")}
    return dataclasses.replace(record, seeds=[seed], **tables)


def seconds_of(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def many_tasks(count: int) -> dict | None:
    """Seconds that a Dask scheduler with two workers takes for tasks that do nothing; None without Dask."""
    try:
        from distributed import Client
    except ImportError:
        return None
    from s6lib.batch.cluster import local

    with local(2, []) as cluster, Client(cluster, set_as_default=False) as client:
        client.wait_for_workers(2)
        run = client.get_executor(pure=False).submit
        seconds = seconds_of(lambda: [future.result() for future in [run(os.getpid) for _ in range(count)]])
    return {"tasks": count, "seconds": seconds}


def plan(arms: int, seeds: int) -> dict:
    """What `seeds` seeds of `arms` arms would come to, by the committed run's times and sizes, in parts of 16."""
    heads = map(records.read_head, (ROOT / "results/reference/regularisers/bn").glob("seeds-*"))
    head = max(heads, key=lambda head: head["provenance"]["replicas_together"])
    each = head["provenance"]["seconds"] / head["provenance"]["replicas_together"]
    logits = 2 * 10 * head["dataset"]["test_images"]  # float16, ten classes
    parts = arms * -(-seeds // chunks.MOST)
    size = arms * seeds * (logits + 4 * head["provenance"]["parameters"])
    return {
        "arms": arms,
        "seeds_per_arm": seeds,
        "seconds_per_seed": each,
        "core_hours": arms * seeds * each / 3600,
        "tasks": parts + arms,
        "files": 5 * parts,
        "gigabytes": size / 1e9,
        "gigabytes_to_read_an_arm": seeds * logits / 1e9,
    }


def this_script(*words: str, **around: str) -> str:
    """The last line of what this script prints in a process of its own, with all threads unless `around` says so."""
    inherited = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = [sys.executable, __file__, *words]
    answer = subprocess.run(command, env={**inherited, **around}, capture_output=True, text=True, check=True)
    return answer.stdout.splitlines()[-1]


if __name__ == "__main__":
    small = {"--one": one_training, "--peak": peak}
    if len(sys.argv) > 1 and sys.argv[1] in small:
        small[sys.argv[1]](*sys.argv[2:])
    else:
        main()
