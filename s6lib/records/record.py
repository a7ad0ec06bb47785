"""A record in memory."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import special

if TYPE_CHECKING:
    from s6lib.trial import Trial

HISTORY = ("seed", "epoch", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds")
RAW = ("raw_test_loss", "raw_test_accuracy")  # beside them where the weights were averaged: of the last weights
WEIGHT_NORMS = ("seed", "epoch", "sum_abs", "sum_squares")
FILES = ("history.csv", "weight_norms.csv", "predictions.npz", "weights.safetensors")
NO_WEIGHTS = "this record is kept in its small form, without weights: train it to see this figure"
PRECISIONS = ("auto", "float32", "bfloat16", "float64")
LARGEST = 65504.0  # of float16, in which logits are kept
MOST_SEEDS = 100_000  # of a trial; a slip of the finger is not to fill the memory


def counted(number: int, what: str) -> str:
    """In words: "1 seed", "5 seeds"."""
    return f"{number} {what}{'s' * (number != 1)}"


class RecordError(Exception):
    """A record that cannot be used; the message names the path and what is wrong with it."""


@dataclass
class Record:
    """All replicas of one trial. `logits` [R, n, 10] float16 on the test set; `weights` {name: [W, ...]}.

    `predicted` uint8 [R, n] are the predicted classes, from the logits before rounding to float16. In the small form
    `logits` is None, and `probabilities` float32 [2, R, n], of the predicted class and of the label, replace it.
    `weights` are those of `weight_seeds`, by default all seeds.

    Of a record read from disk, `provenance` is that of the part finished last, `parts` holds {"path", "seeds",
    "provenance"} of all of them, `left_out` says which parts were not read and why, and `stale` whether the training
    code has changed since.
    """

    trial: "Trial"
    dataset: dict
    seeds: list[int]
    history: pd.DataFrame = field(repr=False)
    weight_norms: pd.DataFrame = field(repr=False)
    logits: np.ndarray | None = field(repr=False)
    labels: np.ndarray = field(repr=False)
    weights: dict[str, np.ndarray] = field(repr=False)
    provenance: dict
    diverged: list[dict] = field(default_factory=list)
    path: Path | None = None
    parts: list[dict] = field(default_factory=list, repr=False)
    left_out: list[str] = field(default_factory=list, repr=False)
    stale: bool = False
    predicted: np.ndarray = field(default=None, repr=False)  # type: ignore[arg-type]
    probabilities: np.ndarray | None = field(default=None, repr=False)
    weight_seeds: list[int] | None = field(default=None, repr=False)

    def __post_init__(self):
        if self.predicted is None:
            self.predicted = self._logits.argmax(-1).astype(np.uint8)

    @property
    def name(self) -> str:
        return self.trial.name

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the predicted class, float32 [R, n]; of a small record to within 0.016 and 7 % of its odds."""
        return self._probability_of(self.predicted) if self.probabilities is None else self.probabilities[0]

    @property
    def label_probability(self) -> np.ndarray:
        """Probability of the label, float32 [R, n], as exact as `confidence`."""
        labels = np.broadcast_to(self.labels, (len(self.seeds), len(self.labels)))
        return self._probability_of(labels) if self.probabilities is None else self.probabilities[1]

    @property
    def _logits(self) -> np.ndarray:
        if self.logits is None:
            raise RecordError(f"{self.name}: kept in its small form, without logits")
        return self.logits

    def _probability_of(self, classes: np.ndarray) -> np.ndarray:
        logits = np.clip(self._logits.astype(np.float32), -LARGEST, LARGEST)  # larger ones are kept as infinite
        probability = special.softmax(logits, -1)
        return np.take_along_axis(probability, classes[..., None].astype(int), -1)[..., 0]

    @property
    def with_weights(self) -> list[int]:
        """The seeds that `weights` are of, in their order; none where no weights were kept."""
        return [] if not self.weights else self.seeds if self.weight_seeds is None else self.weight_seeds

    def only(self, seeds: list[int]) -> "Record":
        """The record of these of its seeds."""
        if seeds == self.seeds:
            return self
        rows = [self.seeds.index(seed) for seed in seeds]
        return replace(
            self,
            seeds=seeds,
            history=self.history[self.history.seed.isin(seeds)],
            weight_norms=self.weight_norms[self.weight_norms.seed.isin(seeds)],
            logits=None if self.logits is None else self.logits[rows],
            predicted=self.predicted[rows],
            probabilities=None if self.probabilities is None else self.probabilities[:, rows],
            diverged=[entry for entry in self.diverged if entry["seed"] in seeds],
            **self.weights_of(seeds),
        )

    def weights_of(self, seeds: Collection[int]) -> dict:
        """The fields `weights` and `weight_seeds` of a record of these seeds, as far as their weights were kept."""
        rows = [row for row, seed in enumerate(self.with_weights) if seed in seeds]
        weights = {name: value[rows] for name, value in self.weights.items()} if rows else {}
        return {"weights": weights, "weight_seeds": [self.with_weights[row] for row in rows]}

    @property
    def weighed(self) -> list[int]:
        """Positions in `weights` of the replicas that did not diverge; none where no weights were kept."""
        bad = {entry["seed"] for entry in self.diverged}
        return [k for k, seed in enumerate(self.with_weights) if seed not in bad]

    @property
    def non_diverged(self) -> list[int]:
        """Positions of the replicas that did not diverge."""
        bad = {entry["seed"] for entry in self.diverged}
        return [r for r, seed in enumerate(self.seeds) if seed not in bad]

    @property
    def seeds_from_0(self) -> int:
        """How many seeds 0, 1, ... there are without a gap."""
        have = set(self.seeds)
        return next(number for number in range(len(have) + 1) if number not in have)

    def last(self) -> pd.DataFrame:
        """The history's last epoch, one row per seed that reached it."""
        return self.history[self.history.epoch == self.trial.epochs].sort_values("seed")

    @property
    def sources(self) -> list[dict]:
        """The provenance of every training that the seeds come from."""
        return [part["provenance"] for part in self.parts] or [self.provenance]

    @property
    def seconds(self) -> float:
        """Wall time of all trainings that the seeds come from, divided among those that ran side by side."""
        return sum(source.get("seconds", float("nan")) / source.get("workers", 1) for source in self.sources)

    @property
    def seconds_per_seed(self) -> float:
        """Wall time of a training and its evaluations, divided by the replicas that were trained together, in all
        processes side by side; the median over the trainings that the seeds come from."""
        each = [source.get("replicas_together", len(self.seeds)) * source.get("workers", 1) for source in self.sources]
        seconds = [source.get("seconds", float("nan")) for source in self.sources]
        return float(np.median(np.divide(seconds, each)))

    def describe(self) -> str:
        """One line: what was recorded, for how many seeds, where."""
        last = self.last()
        mean = f"{last.test_accuracy.mean():.2f} %" if len(last) else "none"
        seeds, epochs = counted(len(self.seeds), "seed"), counted(self.trial.epochs, "epoch")
        text = f"{self.name}: {seeds}, {epochs} on {self.dataset['title']}, last-epoch test accuracy {mean}"
        return text + (f", {len(self.diverged)} diverged" if self.diverged else "")

    def first_batch(self) -> str:
        """Size of all parameters after the first batch, to three digits: in float64 the same on every machine."""
        rows = self.weight_norms[self.weight_norms.epoch == 0]
        lines = [f"seed {row.seed}: sum|w| = {row.sum_abs:.3g}" for row in rows.itertuples()]
        return "\n".join(["after the first batch, all parameters of one replica", *lines])
