"""A process that trains one group of seeds, `s6lib.training.worker`.

It reads its task from standard input and ends when that is closed; on standard output it says how far it is, a line of
JSON at a time; what the training prints goes to standard error.
"""

import json
import os
import sys
import threading
import time

import safetensors.torch
import torch

from s6lib.data import Dataset
from s6lib.provenance import source_fingerprint
from s6lib.training.live import so_far
from s6lib.training.precision import keep_freed_memory
from s6lib.training.train import train_and_add
from s6lib.training.trainer import Trainer
from s6lib.trial import Trial

EVERY = 0.2  # seconds between two lines


def main() -> None:
    task = json.loads(sys.stdin.buffer.readline())
    tensors = safetensors.torch.load(sys.stdin.buffer.read(task["bytes"]))
    threading.Thread(target=end_with_input, daemon=True).start()
    reporter = Reporter(os.dup(1))
    os.dup2(2, 1)
    keep_freed_memory()
    torch.set_num_threads(task["threads"])
    trials = [Trial(**settings) for settings in task["trials"]]
    if source_fingerprint(trials[0].normaliser, trials[0].network) != task["source"]:
        sys.exit("the library's code has changed since the process that asks was started; start that one again")
    dataset = Dataset(**{**task["dataset"], **tensors})
    train_and_add(trials, dataset, task["seeds"], task["precision"], task["workers"], reporter)


def end_with_input() -> None:
    """Ends this process at once when its parent has gone, also where the system itself does not see to it."""
    while os.read(0, 1024):
        pass
    os._exit(1)


class Reporter:
    """Called after every step, it tells the parent now and then, and of every epoch its rows."""

    def __init__(self, pipe: int):
        self.pipe, self.epoch, self.steps, self.last = pipe, -1, 0, 0.0

    def __call__(self, trainer: Trainer) -> None:
        if trainer.epoch != self.epoch:
            self.epoch, self.steps, self.last = trainer.epoch, 0, 0.0
            self.tell(history=so_far(trainer))
        self.steps += 1
        if time.monotonic() - self.last >= EVERY:
            self.last = time.monotonic()
            self.tell()

    def tell(self, **more: object) -> None:
        line = json.dumps({"epoch": self.epoch, "step": self.steps, **more}).encode() + b"\n"
        while line:
            line = line[os.write(self.pipe, line) :]


if __name__ == "__main__":
    main()
