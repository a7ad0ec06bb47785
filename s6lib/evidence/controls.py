"""A trial beside its control: the difference, and the test images on which the two differ."""

from dataclasses import replace

import numpy as np
import pandas as pd

from s6lib import paths, records
from s6lib.evidence import measures, statistics
from s6lib.evidence.measures import correct
from s6lib.evidence.tables import gap
from s6lib.records import Record
from s6lib.studies import STUDIES
from s6lib.studies.base import MARGIN
from s6lib.trial import make_trial


def control_of(record: Record) -> Record | None:
    """The record of the trial's control on the same data for as many epochs, one's own or the reference run's.

    None, and a line that says why, where there is none.
    """
    study = STUDIES.get(record.trial.study)
    named = study.control(record.name) if study else None
    if named is None:
        print(f"{record.name} is a control itself, or a trial of your own: there is nothing to compare it with")
        return None
    trial = make_trial(*named)
    if make_trial(record.trial.study, record.name).epochs == trial.epochs:  # run for longer or shorter: so the control
        trial = replace(trial, epochs=record.trial.epochs)
    for root in (paths.interactive_results(), paths.reference()):
        if found := records.lookup(root, trial, record.dataset):
            return found
    print(f"there is no record of the control {'/'.join(named)}, {trial.epochs} epochs on {record.dataset['title']}")
    return None


def against(record: Record, control: Record | None) -> pd.DataFrame | None:
    """Last-epoch test accuracy of both and their difference: with Welch's interval, and with one that is for new
    images as well; no intervals below five seeds."""
    if control is None:
        return None
    a, b = measures.test_accuracy(record), measures.test_accuracy(control)
    difference, seeds, both = gap(record, control)
    columns = {
        "trial": record.name,
        "test %": f"{np.mean(a):.2f}",
        "control": control.name,
        "its test %": f"{np.mean(b):.2f}",
        "seeds": f"{len(a)} and {len(b)}",
        "difference, points": difference,
        "95 %, new seeds": seeds,
        "95 %, new seeds and images": both,
    }
    return pd.DataFrame([columns]).set_index("trial")


def in_words(a: np.ndarray, b: np.ndarray) -> str:
    """What the difference of two arms shows, not corrected for other comparisons."""
    found = statistics.difference(a, b)
    if found.n < statistics.ENOUGH_SEEDS:
        return "too few seeds to tell"
    if found.low > 0 or found.high < 0:
        return "higher" if found.mean > 0 else "lower"
    return f"equal within {MARGIN:g} points" if found.within(MARGIN) < 0.05 else "not distinguishable"


def changed(record: Record, control: Record, count: int) -> pd.DataFrame:
    """The test images on which the two differ most in the share of seeds that miss them.

    Up to `count` that the trial gets right more often, then up to `count` that it gets wrong more often: image, gain
    (share of seeds, control's minus the trial's). Raises ValueError for records of different data.
    """
    if record.dataset["checksum"] != control.dataset["checksum"]:
        raise ValueError(f"{record.name} and {control.name} are of different data sets")
    gain = (~correct(control)).mean(0) - (~correct(record)).mean(0)
    order = np.argsort(-gain, kind="stable")
    better = [int(i) for i in order[:count] if gain[i] > 0]
    worse = [int(i) for i in order[::-1][:count] if gain[i] < 0]
    images = better + worse
    return pd.DataFrame({"image": images, "gain": gain[images]})
