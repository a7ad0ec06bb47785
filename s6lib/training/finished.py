"""What notebooks call: finished records, also those of the committed run, are found, and the rest is trained."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from s6lib import data, paths, records
from s6lib.data import DataError, Dataset
from s6lib.records import Record
from s6lib.training.precision import default_device, resolve_precision
from s6lib.training.train import check_seeds, train_together
from s6lib.trial import Trial, TrialError


def find_or_train(trial: Trial, dataset: Dataset, seeds: int | Sequence[int], **options: Any) -> Record:
    """The trial's record, found or trained. See `find_or_train_together` for `options`."""
    return find_or_train_together([trial], dataset, seeds, **options)[0]


def find_or_train_together(
    trials: Sequence[Trial],
    dataset: Dataset,
    seeds: int | Sequence[int],
    precision: str = "auto",
    again: bool = False,
    **options: Any,
) -> list[Record]:
    """One record per trial: your own, else the committed reference run's, else trained by `train_together`.

    The reference run's records are used whatever code trained them and, under "auto", in any precision; a printed line
    says so. With `again`, and in a batch, they are not looked for. With `S6_TRAIN=never` TrialError is raised where
    something would be trained.
    """
    asked = check_seeds(seeds)
    own = [_own(trial, dataset, precision, asked) for trial in trials]
    if again and all(own):
        print(*[_trained_before(record) for record in own if record], sep="\n")
    if not all(own) and not again and not os.environ.get("S6_CLAIMS"):  # a batch makes records, it borrows none
        found = [records.lookup(paths.reference(), trial, dataset.describe(), precision, asked) for trial in trials]
        if (whole := [record for record in found if record]) and len(whole) == len(trials):
            print(*map(_origin, whole), sep="\n")
            return whole
    if not all(own) and os.environ.get("S6_TRAIN") == "never":
        raise TrialError(f"{', '.join(trial.name for trial in trials)}: not finished, and S6_TRAIN=never")
    return train_together(trials, dataset, asked, precision, **options)


def _own(trial: Trial, dataset: Dataset, precision: str, seeds: list[int]) -> Record | None:
    """The record if the current results hold all seeds by today's code: what `train_together` reads."""
    exact = resolve_precision(precision, default_device())
    found = records.lookup(paths.interactive_results(), trial, dataset.describe(), exact, seeds)
    return found if found and not found.stale else None


def _trained_before(record: Record) -> str:
    where = " and ".join(str(paths.relative_to_home(part["path"])) for part in record.parts)
    return f"{record.name}: all its seeds were trained here before; to repeat it, delete {where}"


def _origin(record: Record) -> str:
    where = paths.relative_to_home(record.path) if record.path else "memory"
    code = ", trained by earlier code" if record.stale else ""
    return f"{record.name}: from the reference run, {where}{code}; train_again=True trains it here"


# --- data sets that are not at hand ----------------------------------------------------------------


@dataclass(frozen=True)
class NotAtHand(Dataset):
    """A data set whose files are not available, as the reference run describes it: for showing records."""

    about: dict = field(default_factory=dict)
    reason: str = ""

    def describe(self) -> dict:
        return self.about

    def to(self, device: torch.device | str) -> Dataset:
        raise DataError(self.reason)


def load(name: str) -> Dataset:
    """The data set `name`; `NotAtHand` where its files are not available but the reference run knows it."""
    try:
        return data.load(name)
    except DataError as error:
        if (about := records.describe_dataset(name)) is None:
            raise
        print(f"{error}\nFinished records are shown all the same, with the images kept beside them.")
        sizes = about["train_images"], about["test_images"]
        train, test = (torch.zeros(1, dtype=torch.uint8).expand(size, 28, 28) for size in sizes)
        return NotAtHand(name, train, train[:, 0, 0], test, test[:, 0, 0], 0.0, 1.0, about=about, reason=str(error))
