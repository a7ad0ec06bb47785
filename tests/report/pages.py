"""Runs made by hand, for pages: records of real arms on the bundled digits, with known accuracies and misses."""

from pathlib import Path

import numpy as np
from synthetic import make_record

from s6lib import data
from s6lib.records import Record
from s6lib.report.page import build
from s6lib.studies import STUDIES

NAMES = [(study.name, arm) for study in STUDIES.values() for arm in study.arms]
PLACE = Path("run")  # a folder that is not there: pages of records in memory


def one(place: int = 0, seeds: int = 5, epochs: int = 4, **changed) -> Record:
    """The arm at `place` of all studies: every seed misses the first three test images and some others of its own."""
    study, name = NAMES[place]
    digits, source = data.load("digits"), np.random.default_rng(place)
    labels = digits.test_labels.numpy()
    missed = source.random((seeds, len(labels))) < np.linspace(0.2, 0, len(labels))
    missed[:, :3] = True
    logits = 9.0 * np.eye(10)[np.where(missed, (labels + 1) % 10, labels)]
    ramp = np.linspace(95, 99 + place % 7 / 10, epochs)
    accuracy = ramp + source.normal(0, 0.05, (seeds, epochs))
    columns = {"test_accuracy": accuracy, "test_loss": 1.2 - accuracy / 100, "train_accuracy": accuracy - 0.3}
    record = make_record(columns, name, study, logits=logits, labels=labels, **changed)
    record.dataset = digits.describe()
    return record


def many(trials: int, **options) -> list[Record]:
    return [one(place, **options) for place in range(trials)]


def page(found: list[Record], left_out: tuple[str, ...] = (), folder: Path = PLACE) -> str:
    return build.render(build.contents(found, left_out, folder))
