"""Numbers per replica, taken from a record: the measures that claims compare.

Accuracies are in percent, losses in nats per image. Replicas that diverged are left out everywhere; `who` says how
many were.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from s6lib.records import Record, counted
from s6lib.records.record import RAW
from s6lib.studies.base import published


def history(record: Record) -> pd.DataFrame:
    """The history of the replicas that did not diverge."""
    return record.history[record.history.seed.isin(_kept_seeds(record))]


def last(record: Record, column: str) -> np.ndarray:
    """`column` of the last epoch of every replica that did not diverge, [R]."""
    table = record.last()
    return table[table.seed.isin(_kept_seeds(record))][column].to_numpy(float)


def by_epoch(record: Record, column: str) -> np.ndarray:
    """`column` of every replica that did not diverge, epoch by epoch, [R, epochs]."""
    return history(record).pivot(index="seed", columns="epoch", values=column).to_numpy(float)


def left_out(record: Record) -> int:
    """How many replicas diverged and are not averaged in."""
    return len(record.seeds) - len(record.non_diverged)


def who(record: Record) -> str:
    """Which seeds a figure or a mean is over: "5 seeds" or "4 of 5 seeds, 1 diverged"."""
    total, kept = len(record.seeds), len(record.non_diverged)
    if kept < total:
        return f"{kept} of {total} seeds, {total - kept} diverged"
    return counted(total, "seed")


def correct(record: Record) -> np.ndarray:
    """Which images every replica that did not diverge gets right, bool [R, n]."""
    return record.predicted[record.non_diverged] == record.labels


def published_for(record: Record, table: str = "best_and_last") -> pd.DataFrame:
    """The rows of a published table for this record's arm; none on other data than MNIST."""
    rows = published(record.trial.study, record.name, table)
    return rows if record.dataset["name"] == "mnist" else rows[:0]


def weight_norms_kept(record: Record) -> pd.DataFrame:
    """The weight norms of the replicas that did not diverge."""
    return record.weight_norms[record.weight_norms.seed.isin(_kept_seeds(record))]


def _kept_seeds(record: Record) -> list[int]:
    return [record.seeds[r] for r in record.non_diverged]


# --- measures that claims name ---------------------------------------------------------------------


def test_accuracy(record: Record) -> np.ndarray:
    return last(record, "test_accuracy")


def running_train_accuracy(record: Record) -> np.ndarray:
    """Training accuracy of the last epoch as it ran: in training mode, on augmented images."""
    return last(record, "train_accuracy")


def test_loss(record: Record) -> np.ndarray:
    return last(record, "test_loss")


def best_test_accuracy(record: Record) -> np.ndarray:
    """Of the best epoch, chosen on the test set: only beside published numbers that were."""
    return by_epoch(record, "test_accuracy").max(1, initial=-np.inf)


def averaging_gain(record: Record) -> np.ndarray:
    """Last test accuracy with the moving average of the weights minus that with the weights themselves; 0 where they
    were not averaged."""
    return test_accuracy(record) - last(record, RAW[1] if RAW[1] in record.history else "test_accuracy")


def steps(record: Record, column: str, first: int, last: int | None = None) -> np.ndarray:
    """Mean size of the steps of `column` between epochs `first` and `last` (from 0, or from the end)."""
    return _mean(np.abs(np.diff(by_epoch(record, column)[:, first:last])))


def late(record: Record, column: str = "test_accuracy", bound: float = 0.0) -> np.ndarray:
    """The mean over the last five epochs minus `bound`: steadier than one epoch where the learning rate is constant."""
    return _mean(by_epoch(record, column)[:, -5:]) - bound


def mean_from(record: Record, first: int, last: int | None = None, bound: float = 0.0) -> np.ndarray:
    """Mean test accuracy of epochs `first` to `last` (from 1; None: the last), minus `bound`."""
    return _mean(by_epoch(record, "test_accuracy")[:, first - 1 : last]) - bound


def epochs_to(record: Record, accuracy: float) -> np.ndarray:
    """The first epoch whose test accuracy reaches `accuracy`; the number of epochs plus one where none does."""
    reached = by_epoch(record, "test_accuracy") >= accuracy
    if not reached.size:  # every replica diverged
        return np.empty(0)
    return np.where(reached.any(1), reached.argmax(1), reached.shape[1]) + 1.0


def loss_rises(record: Record) -> np.ndarray:
    """Sum of all rises of the test loss from one epoch to the next, nats per image."""
    return np.maximum(np.diff(by_epoch(record, "test_loss")), 0).sum(1)


def lowest_from(record: Record, epoch: int) -> np.ndarray:
    """Lowest test accuracy from `epoch` (counted from 1, or from the end when negative) on."""
    late = by_epoch(record, "test_accuracy")[:, epoch - (epoch > 0) :]
    return late.min(1) if late.shape[1] else np.full(len(late), np.nan)


def generalisation_gap(record: Record, epoch: int = -1) -> np.ndarray:
    """Running training accuracy minus test accuracy after `epoch` (from 1; -1 the last), points."""
    gap = by_epoch(record, "train_accuracy") - by_epoch(record, "test_accuracy")
    return gap[:, epoch - (epoch > 0)] if gap.shape[1] >= abs(epoch) else np.full(len(gap), np.nan)


def generalisation_gap_growth(record: Record) -> np.ndarray:
    """How much the gap grows from epoch 5 to the last, points."""
    return generalisation_gap(record) - generalisation_gap(record, 5)


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(1) if values.shape[1] else np.full(len(values), np.nan)


POINTS, NATS, EPOCHS = "points", "nats per image", "epochs"
# name -> the number per replica, and its unit
MEASURES: dict[str, tuple[Callable[[Record], np.ndarray], str]] = {
    "test_accuracy": (test_accuracy, POINTS),
    "running_train_accuracy": (running_train_accuracy, POINTS),
    "test_loss": (test_loss, NATS),
    "best_test_accuracy": (best_test_accuracy, POINTS),
    "averaging_gain": (averaging_gain, POINTS),
    "late_test_accuracy": (late, POINTS),
    "late_train_accuracy": (partial(late, column="train_accuracy"), POINTS),
    "late_over_98_3": (partial(late, bound=98.3), POINTS),
    "late_over_99_4": (partial(late, bound=99.4), POINTS),
    "hover_from_12": (partial(mean_from, first=12, bound=99.4), POINTS),
    "first_epochs": (partial(mean_from, first=1, last=3), POINTS),
    "epochs_to_99_4": (partial(epochs_to, accuracy=99.4), EPOCHS),
    "late_steps": (partial(steps, column="test_accuracy", first=-10), POINTS),
    "late_loss_steps": (partial(steps, column="test_loss", first=-10), NATS),
    "early_steps": (partial(steps, column="test_accuracy", first=1, last=8), POINTS),
    "loss_rises": (loss_rises, NATS),
    "lowest_from_6": (partial(lowest_from, epoch=6), POINTS),
    "lowest_from_9": (partial(lowest_from, epoch=9), POINTS),
    "lowest_of_last_3": (partial(lowest_from, epoch=-3), POINTS),
    "generalisation_gap": (generalisation_gap, POINTS),
    "generalisation_gap_at_5": (partial(generalisation_gap, epoch=5), POINTS),
    "generalisation_gap_growth": (generalisation_gap_growth, POINTS),
}
