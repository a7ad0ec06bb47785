"""Histories while they grow, for who watches a training."""

from collections.abc import Callable, Sequence
from itertools import chain

import pandas as pd

from s6lib.training.trainer import Trainer

COLUMNS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
Live = Callable[[pd.DataFrame], object]


def so_far(trainer: Trainer) -> list[list]:
    """A row per replica and whole epoch: trial, seed, epoch and COLUMNS."""
    names = [trial.name for trial in trainer.trials for _ in trainer.seeds]
    who = list(zip(names, trainer.replica_seeds, strict=True))
    return [[*who[row["replica"]], row["epoch"], *(row[name] for name in COLUMNS)] for row in trainer.history]


def last_accuracies(rows: Sequence[list]) -> list[float]:
    """Test accuracies of the last epoch told."""
    return [row[-1] for row in rows if row[2] == rows[-1][2]]


class Watch:
    """Calls `live` with the histories of all groups of seeds, one table, whenever one of them has an epoch more."""

    def __init__(self, live: Live | None):
        self.live = live
        self.rows: dict[tuple[str, int], list[list]] = {}

    def __call__(self, trainer: Trainer) -> None:
        """After a step of a training in this process."""
        if self.live and len(trainer.history) > len(self.rows.get((trainer.trial.name, trainer.seeds[0]), [])):
            self.note(so_far(trainer))

    def note(self, rows: list[list]) -> None:
        """What a training has told: a table that grows, known by its first trial and seed."""
        if self.live and rows and len(rows) > len(self.rows.get((rows[0][0], rows[0][1]), [])):
            self.rows[rows[0][0], rows[0][1]] = rows
            self.live(pd.DataFrame(chain(*self.rows.values()), columns=["trial", "seed", "epoch", *COLUMNS]))
