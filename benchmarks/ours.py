"""This library: R replicas fused into one network, trained as `train` does."""

import itertools

from recipe import load, make_trial
from torch import Tensor

from s6lib.training import precision
from s6lib.training.trainer import Trainer, score


class Fused:
    def __init__(self, job: dict):
        precision.keep_freed_memory()
        device = precision.default_device()
        trial, seeds = make_trial(job["network"], job["batch"], **job.get("settings", {})), list(range(job["replicas"]))
        self.trainer = Trainer([trial], load(job).to(device), seeds, job["precision"])
        self.trainer.net.train()
        self.batches = self._batches(job["batch"])

    def _batches(self, size: int):
        """Images and labels of one batch after another; every epoch's orders, rotations and masks drawn anew."""
        trainer = self.trainer
        for trainer.epoch in itertools.count():
            order, moves = trainer._draw_epoch()
            for start in range(0, len(order) - size + 1, size):
                part = slice(start, start + size)
                yield (
                    trainer.augment(order[part], moves[part], trainer.dtype),
                    trainer.dataset.train_labels[order[part]],
                )

    def step(self) -> Tensor:
        return self.trainer.step(*next(self.batches))[0]

    def accuracy(self) -> float:
        return score(self.trainer.evaluate(), self.trainer.dataset.test_labels)[1].mean().item()
