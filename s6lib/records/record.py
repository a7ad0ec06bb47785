"""A record in memory."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from s6lib.trial import Trial

HISTORY = ("seed", "epoch", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds")
RAW = ("raw_test_loss", "raw_test_accuracy")  # beside them where the weights were averaged: of the last weights
WEIGHT_NORMS = ("seed", "epoch", "sum_abs", "sum_squares")
FILES = ("history.csv", "weight_norms.csv", "predictions.npz", "weights.safetensors")
PRECISIONS = ("auto", "float32", "bfloat16", "float64")


class RecordError(Exception):
    """A record that cannot be used; the message names the path and what is wrong with it."""


@dataclass
class Record:
    """All replicas of one trial. `logits` [R, n, 10] float16 on the test set; `weights` {name: [R, ...]}.

    Of a record read from disk, `provenance` is that of the part finished last, `parts` holds {"path", "seeds",
    "provenance"} of all of them, `left_out` says which parts were not read and why, and `stale` whether the training
    code has changed since.
    """

    trial: "Trial"
    dataset: dict
    seeds: list[int]
    history: pd.DataFrame = field(repr=False)
    weight_norms: pd.DataFrame = field(repr=False)
    logits: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    weights: dict[str, np.ndarray] = field(repr=False)
    provenance: dict
    diverged: list[dict] = field(default_factory=list)
    path: Path | None = None
    parts: list[dict] = field(default_factory=list, repr=False)
    left_out: list[str] = field(default_factory=list, repr=False)
    stale: bool = False
    predicted: np.ndarray | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.trial.name

    @property
    def predictions(self) -> np.ndarray:
        """Predicted classes [R, n]."""
        return self.logits.argmax(-1) if self.predicted is None else self.predicted

    @property
    def non_diverged(self) -> list[int]:
        """Positions of the replicas that did not diverge."""
        bad = {entry["seed"] for entry in self.diverged}
        return [r for r, seed in enumerate(self.seeds) if seed not in bad]

    def last(self) -> pd.DataFrame:
        """The history's last epoch, one row per seed that reached it."""
        return self.history[self.history.epoch == self.trial.epochs].sort_values("seed")

    @property
    def seconds(self) -> float:
        """Wall time of all trainings that the seeds come from; of those that ran side by side, each its share."""
        sources = [part["provenance"] for part in self.parts] or [self.provenance]
        return sum(source.get("seconds", float("nan")) / source.get("workers", 1) for source in sources)

    @property
    def seconds_per_seed(self) -> float:
        """Wall time of the newest training and its evaluation, divided by the replicas that were trained together, in
        all processes side by side."""
        together = self.provenance.get("replicas_together", len(self.seeds)) * self.provenance.get("workers", 1)
        return self.provenance.get("seconds", float("nan")) / together

    def describe(self) -> str:
        """One line: what was recorded, for how many seeds, where."""
        last = self.last()
        mean = f"{last.test_accuracy.mean():.2f} %" if len(last) else "none"
        seeds = "1 seed" if len(self.seeds) == 1 else f"{len(self.seeds)} seeds"
        text = f"{self.name}: {seeds}, {self.trial.epochs} epochs on {self.dataset['title']}, "
        text += f"last-epoch test accuracy {mean}"
        return text + (f", {len(self.diverged)} diverged" if self.diverged else "")

    def first_batch(self) -> str:
        """Size of all parameters after the first batch, to three digits: in float64 the same on every machine."""
        rows = self.weight_norms[self.weight_norms.epoch == 0]
        lines = [f"seed {row.seed}: sum|w| = {row.sum_abs:.3g}" for row in rows.itertuples()]
        return "\n".join(["after the first batch, all parameters of one replica", *lines])
