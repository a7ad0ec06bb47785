"""Seeds dealt over processes: starts a worker per group, shows how far they are, and deals out anew what one loses.

A worker adds its own part and keeps its own checkpoints, so one that dies costs its current epoch. Workers are plain
processes of `s6lib.training.worker`: nothing is needed of the script or notebook that calls, and no worker survives it.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import safetensors.torch
from torch import Tensor
from tqdm.auto import tqdm

from s6lib.data import Dataset
from s6lib.provenance import PACKAGE, source_fingerprint
from s6lib.training.checkpoint import beat, in_batch
from s6lib.training.deal import Deal
from s6lib.training.live import Watch, last_accuracies
from s6lib.trial import Trial

LIVES = 2  # of a group: a worker that ended without its work done, killed or by an error, is started once more
LOOK = 0.1  # seconds between two looks at the workers


class WorkerError(RuntimeError):
    """Worker processes ended again and again; the message says for which seeds, and why."""


def train_in_workers(trials: Sequence[Trial], dataset: Dataset, deal: Deal, precision: str, watch: Watch) -> None:
    """Trains every group of `deal`, so many at a time, until all have added their parts. Raises WorkerError.

    However this ends, by an error, Ctrl-C or a notebook's stop button, its workers end with it.
    """
    task = {"trials": [trial.settings() for trial in trials], "precision": precision, "workers": deal.workers}
    task |= {"source": source_fingerprint(trials[0].normaliser, trials[0].network)}
    head, content = pack(dataset, task)
    todo = [{**head, "seeds": group, "threads": n} for group, n in zip(deal.groups, deal.threads, strict=True)]
    running, deaths = list[Worker](), Counter[int]()
    with Progress(trials, dataset, deal, watch) as progress:
        try:
            while todo or running:
                while todo and len(running) < deal.workers:
                    running.append(Worker(todo.pop(0)))  # first noted, then started: an interrupt finds it
                    running[-1].start(content)
                time.sleep(LOOK)
                for worker in running:
                    progress.note(worker.group, worker.told)
                for worker in [worker for worker in running if not worker.lives()]:
                    running.remove(worker)
                    if why := worker.close():
                        deaths[worker.group[0]] += 1
                        if deaths[worker.group[0]] == LIVES:
                            raise WorkerError(f"{seeds_text(worker.group)} of {trials[0].name}: {why}")
                        todo.insert(0, worker.task)
                    else:
                        progress.note(worker.group, worker.told)  # its last word may have come since
                        progress.finish(worker.group)
                progress.show()
        finally:
            for worker in running:
                worker.kill()
            for worker in running:
                worker.close()


def pack(dataset: Dataset, task: dict) -> tuple[dict, bytes]:
    """What a worker reads but for its seeds: a head that is JSON-plain, and the images as a safetensors file."""
    fields = vars(dataset)
    tensors = {name: value.cpu().contiguous() for name, value in fields.items() if isinstance(value, Tensor)}
    content = safetensors.torch.save(tensors)
    others = {name: value for name, value in fields.items() if name not in tensors}
    return {**task, "dataset": others, "bytes": len(content)}, content


def seeds_text(seeds: list[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"


class Worker:
    """One process that trains the seeds of `task`, and the last that it told."""

    def __init__(self, task: dict):
        self.task, self.group = task, task["seeds"]
        self.told: dict = {"epoch": 0, "step": 0, "history": []}
        self.process: subprocess.Popen | None = None

    def start(self, content: bytes) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 closed with the worker
        command = [sys.executable, "-P", "-m", "s6lib.processes", str(os.getpid()), "s6lib.training.worker"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.log}
        # A session of its own: a Ctrl-C in the terminal reaches the parent alone, which then ends its workers.
        self.process = subprocess.Popen(command, env=around(self.task["threads"]), start_new_session=True, **pipes)
        self.thread = threading.Thread(target=self._talk, args=(self.process, content), daemon=True)
        self.thread.start()

    def _talk(self, process: subprocess.Popen, content: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # it died
            process.stdin.write(json.dumps(self.task).encode() + b"\n")  # type: ignore[union-attr]
            process.stdin.write(content)  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            for line in process.stdout:  # type: ignore[union-attr]
                with contextlib.suppress(ValueError, TypeError):  # what Python's start-up hooks print
                    self.told = {**self.told, **json.loads(line)}

    def lives(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        if self.process:
            self.process.kill()

    def close(self) -> str:
        """Ends the process where it lives; why it ended, "" where its work was done. Passes on what it printed."""
        if not self.process:
            return "it was not started"
        self.process.kill()
        code = self.process.wait()
        self.thread.join()
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        self.process.stdout.close()  # type: ignore[union-attr]
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").splitlines()
        self.log.close()
        if code == 0 and lines:
            print("\n".join(lines))
        return reason(code, lines)


def reason(code: int, lines: list[str]) -> str:
    """Why a process ended: by which signal, or the last line of its standard error."""
    if code == -signal.SIGKILL:
        return "its process was killed (SIGKILL; most often because memory ran out: fewer workers need less)"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return "" if code == 0 else (lines[-1] if lines else f"its process ended with exit code {code}")


def around(threads: int) -> dict[str, str]:
    """The environment of a worker: this very library, so many threads, no bar, and no heartbeat of its own."""
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    new = {"PYTHONPATH": path, "S6_QUIET": "1", "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return {**{name: value for name, value in os.environ.items() if name != "S6_HEARTBEAT"}, **new}


class Progress:
    """One bar over all groups, by step, and the heartbeat for who watches a batch."""

    def __init__(self, trials: Sequence[Trial], dataset: Dataset, deal: Deal, watch: Watch):
        first, seeds = trials[0], sum(map(len, deal.groups))
        self.names, self.epochs = ", ".join(trial.name for trial in trials), first.epochs
        self.steps, self.replicas = -(-len(dataset.train_images) // first.batch_size), seeds * len(trials)
        self.done = {group[0]: 0.0 for group in deal.groups}  # epochs
        self.weights = {group[0]: len(group) for group in deal.groups}
        self.histories: dict[int, list[list]] = {}
        self.watch = watch
        self.since, self.beaten = time.monotonic(), 0
        name = first.name if len(trials) == 1 else f"{len(trials)} trials"
        self.bar = tqdm(
            total=self.epochs * self.steps * len(deal.groups),
            unit="step",
            desc=f"{name} x {seeds} seeds, {deal.workers} workers",
            disable=in_batch(),
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        self.bar.close()

    def note(self, group: list[int], told: dict) -> None:
        done = min(told["epoch"] + told["step"] / self.steps, self.epochs)
        self.done[group[0]] = max(self.done[group[0]], done)
        self.histories[group[0]] = told["history"]
        self.watch.note(told["history"])

    def finish(self, group: list[int]) -> None:
        self.done[group[0]] = self.epochs

    def show(self) -> None:
        """Moves the bar; after every epoch, by the mean over all seeds, beats."""
        mean = sum(self.done[key] * weight for key, weight in self.weights.items()) / sum(self.weights.values())
        epoch, values = int(mean), [v for rows in self.histories.values() for v in last_accuracies(rows)]
        accuracy = f", mean test accuracy {sum(values) / len(values):.2f} %" if values else ""
        self.bar.set_postfix_str(f"epoch {min(epoch + 1, self.epochs)}/{self.epochs}{accuracy}", refresh=False)
        self.bar.update(round(sum(self.done.values()) * self.steps) - self.bar.n)
        if epoch > self.beaten:
            seconds = (time.monotonic() - self.since) / (epoch - self.beaten)
            self.since, self.beaten = time.monotonic(), epoch
            told = {"trial": self.names, "epoch": epoch, "epochs": self.epochs, "replicas": self.replicas}
            beat({**told, "seconds": seconds})
