"""Errors per test image: which are missed, by how many seeds, how surely, and calibration."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from s6lib.evidence.measures import correct
from s6lib.records import Record

# The 15 test images of MNIST whose label most of five raters refused, and the label that at least three of them gave
# instead (None: they did not agree). Northcutt, Athalye, Mueller 2021, arXiv 2103.14749; cleanlab/label-errors.
LABEL_ERRORS: dict[int, int | None] = dict.fromkeys((2130, 2654, 3520, 8527, 9679))
LABEL_ERRORS |= {947: 9, 1621: 6, 1901: 4, 2462: 0, 2597: 3, 3558: 0, 5937: 3, 6651: 6, 6783: 6, 9729: 6}


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> np.ndarray:
    """sum_b (n_b / n) * |accuracy_b - confidence_b| over equal-width bins of the top class's probability, percent.

    `confidence`, the top class's probability, and `right` [R, n] give [R], [n] a scalar. Naeini et al. 2015; Guo et
    al. 2017, arXiv 1706.04599.
    """
    sure = np.asarray(confidence, np.float64).reshape(-1, np.shape(confidence)[-1])  # [R, n]
    place = np.minimum((sure * bins).astype(int), bins - 1) + bins * np.arange(len(sure))[:, None]
    sums = np.bincount(place.ravel(), (right - sure).ravel(), bins * len(sure))
    error = np.abs(sums.reshape(len(sure), bins)).sum(1) / sure.shape[1]
    return 100 * error.reshape(np.shape(confidence)[:-1])


def per_image_errors(record: Record) -> pd.DataFrame:
    """Per image: label, what most erring seeds took it for, their mean confidence in that (percent), how many erred.

    One row per image: image, label, predicted, confidence, missed_by, seeds. Diverged replicas are left out.
    `predicted` is the label, and `confidence` the confidence in it, where nobody erred. Ties between wrong classes go
    to the smaller one.
    """
    sure, guesses = record.confidence[record.non_diverged], record.predicted[record.non_diverged]  # [R, n]
    labels = record.labels
    images = np.arange(len(labels))
    missed = guesses != labels  # [R, n]
    votes = ((guesses[..., None] == np.arange(10)) & missed[..., None]).sum(0)  # [n, 10]
    erred = votes.sum(1)
    predicted = np.where(erred > 0, votes.argmax(1), labels)
    counted = (guesses == predicted) & (missed | (erred == 0))  # the seeds whose confidence is shown
    confidence = 100 * (sure * counted).sum(0) / np.maximum(counted.sum(0), 1)
    columns = {"image": images, "label": labels, "predicted": predicted, "confidence": confidence, "missed_by": erred}
    return pd.DataFrame({**columns, "seeds": len(record.non_diverged)})


class Spread(NamedTuple):
    """Sd over seeds of test accuracy, observed and predicted, points; two-sided p that they are the same."""

    observed: float
    predicted: float
    p: float


def predicted_sd(record: Record) -> float:
    """The sd over seeds if every seed missed image i with its own p_i, independently: 100 sqrt(sum p (1 - p)) / n."""
    right = correct(record)  # [R, n]
    if len(right) < 2:
        return float("nan")
    return float(100 * np.sqrt(right.var(axis=0, ddof=1).sum()) / right.shape[1])


def least_sd(record: Record, measure: str) -> float:
    """`predicted_sd` of test accuracy; 0 of other measures, for which nothing is predicted."""
    return predicted_sd(record) if measure == "test_accuracy" else 0.0


def spread(record: Record) -> Spread:
    """A seed's luck is that of its images (Jordan 2023, arXiv 2304.01910): (R - 1) s^2 / predicted^2 is chi-squared."""
    accuracy, expected = 100 * correct(record).mean(axis=1), predicted_sd(record)  # both from the same answers
    if not expected > 0:
        return Spread(float("nan"), expected, float("nan"))
    free = len(accuracy) - 1
    statistic = accuracy.var(ddof=1) * free / expected**2
    p = 2 * min(scipy_stats.chi2.cdf(statistic, free), scipy_stats.chi2.sf(statistic, free))
    return Spread(float(accuracy.std(ddof=1)), expected, float(p))


def misclassified(record: Record) -> pd.DataFrame:
    """The images that some seed missed: those most seeds missed first, then the most confident, then by number."""
    table = per_image_errors(record)
    order = ["missed_by", "confidence", "image"]
    return table[table.missed_by > 0].sort_values(order, ascending=[False, False, True], ignore_index=True)


def answers_by_label(record: Record) -> np.ndarray:
    """How many images of each label (rows) the replicas that did not diverge take for each digit, int [10, 10]."""
    counts, said = np.zeros((10, 10), int), record.predicted[record.non_diverged]  # said [R, n]
    np.add.at(counts, (np.broadcast_to(record.labels, said.shape), said), 1)
    return counts


def confusions(records: Sequence[Record]) -> np.ndarray:
    """`answers_by_label` per network, the mean over all seeds of all records, float [10, 10].

    The records must be of one data set, else ValueError.
    """
    one_data_set("confusions", records)
    networks = sum(len(record.non_diverged) for record in records)
    return np.sum([answers_by_label(record) for record in records], axis=0) / max(1, networks)


def one_data_set(what: str, records: Sequence[Record]) -> None:
    if len({record.dataset["checksum"] for record in records}) > 1:
        raise ValueError(f"{what}: the records are of different data sets")


def commonly_missed(records: Sequence[Record], count: int) -> list[int]:
    """The `count` images that most replicas of all `records` miss, hardest first; ties by image number.

    The records must be of one data set, else ValueError.
    """
    one_data_set("commonly_missed", records)
    if not records:
        return []
    missed = sum((~correct(record)).sum(0) for record in records)
    order = np.argsort(-missed, kind="stable")[:count]
    return [int(image) for image in order if missed[image]]
