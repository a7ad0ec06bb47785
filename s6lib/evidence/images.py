"""Errors per test image: which are missed, by how many seeds, how surely, and calibration."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import special

from s6lib.evidence.measures import correct
from s6lib.records import Record


def expected_calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> np.ndarray:
    """sum_b (n_b / n) * |accuracy_b - confidence_b| over equal-width bins of the top class's probability, percent.

    `logits` [R, n, 10] gives [R], [n, 10] a scalar. Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599.
    """
    wide = np.asarray(logits, np.float64)
    stacked = wide.reshape(-1, *wide.shape[-2:])  # [R, n, 10]
    confidence = special.softmax(stacked, -1).max(-1)
    right = stacked.argmax(-1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1) + bins * np.arange(len(stacked))[:, None]
    sums = np.bincount(place.ravel(), (right - confidence).ravel(), bins * len(stacked))
    error = np.abs(sums.reshape(len(stacked), bins)).sum(1) / stacked.shape[1]
    return 100 * error.reshape(wide.shape[:-2])


def per_image_errors(record: Record) -> pd.DataFrame:
    """Per image: label, what most erring seeds took it for, their mean confidence in that (percent), how many erred.

    One row per image: image, label, predicted, confidence, missed_by, seeds. Diverged replicas are left out.
    `predicted` is the label, and `confidence` the confidence in it, where nobody erred. Ties between wrong classes go
    to the smaller one.
    """
    probability = special.softmax(record.logits[record.non_diverged].astype(np.float32), -1)  # [R, n, 10]
    labels, guesses = record.labels, probability.argmax(-1)
    images = np.arange(len(labels))
    missed = guesses != labels  # [R, n]
    votes = ((guesses[..., None] == np.arange(10)) & missed[..., None]).sum(0)  # [n, 10]
    erred = votes.sum(1)
    predicted = np.where(erred > 0, votes.argmax(1), labels)
    counted = (guesses == predicted) & (missed | (erred == 0))  # the seeds whose confidence is shown
    confidence = 100 * (probability[:, images, predicted] * counted).sum(0) / np.maximum(counted.sum(0), 1)
    columns = {"image": images, "label": labels, "predicted": predicted, "confidence": confidence, "missed_by": erred}
    return pd.DataFrame({**columns, "seeds": len(record.non_diverged)})


def misclassified(record: Record) -> pd.DataFrame:
    """The images that some seed missed: those most seeds missed first, then the most confident, then by number."""
    table = per_image_errors(record)
    order = ["missed_by", "confidence", "image"]
    return table[table.missed_by > 0].sort_values(order, ascending=[False, False, True], ignore_index=True)


def commonly_missed(records: Sequence[Record], count: int) -> list[int]:
    """The `count` images that most replicas of all `records` miss, hardest first; ties by image number.

    The records must be of one data set, else ValueError.
    """
    if len({record.dataset["checksum"] for record in records}) > 1:
        raise ValueError("commonly_missed: the records are of different data sets")
    if not records:
        return []
    missed = sum((~correct(record)).sum(0) for record in records)
    order = np.argsort(-missed, kind="stable")[:count]
    return [int(image) for image in order if missed[image]]
