"""Accuracy against size: a row for every point of the study `frontier`, each held against the bar of its claim."""

from collections.abc import Collection, Iterable

import numpy as np

from s6lib.evidence import images, statistics
from s6lib.evidence.measures import correct, last
from s6lib.models import count_views, multiply_adds
from s6lib.records import Record
from s6lib.records.record import RAW
from s6lib.studies import STUDIES

FILE = "frontier.json"
STUDY = "frontier"
# Of each of the studies' small networks the arm whose published run is highest, to stand beside it and the frontier.
SMALL = ("regularisers/gbn", "normalisers/gn_l1", "progression/gap")


def is_small(record: Record) -> bool:
    """Whether the record belongs into a figure of accuracy against size: on MNIST, of the study or of SMALL."""
    named = record.trial.study == STUDY or f"{record.trial.study}/{record.name}" in SMALL
    return named and record.dataset["name"] == "mnist"


def rows(found: Iterable[Record]) -> list[dict]:
    """The study's records by size and budget: last epoch in percent, mean with its 95 % interval over seeds.

    `sd` is over seeds, `predicted_sd` what independent errors per image give. `last_weights` is the mean without the
    weights' moving average. `p` is one-sided, Student's t, against the hypothesis that the true mean is at most `bar`;
    None where no claim sets one, before the plan's first look, and on other data than the claims are about.
    Multiply-adds are per test image, over all its `views`.
    """
    ours = [record for record in found if record.trial.study == STUDY and record.name in STUDIES[STUDY].arms]
    return sorted(map(_row, ours), key=lambda row: (row["epochs"], row["parameters"], row["arm"]))


def bar(arm: str) -> float | None:
    """The accuracy, percent, that a claim says this arm's mean is above."""
    parts = (part for claim in STUDIES[STUDY].claims for part in claim.parts)
    return next((part.bound for part in parts if part.weights == {arm: 1.0} and part.relation == "above"), None)


def in_views(record: Record) -> str:
    """What follows a point's numbers where its test images were looked at more than once: `, 3 views`."""
    views = count_views(record.trial.build())
    return f", {views} views" if views > 1 else ""


def _row(record: Record) -> dict:
    values = last(record, "test_accuracy")
    found, plan, net = statistics.mean_interval(values), STUDIES[STUDY].plan, record.trial.build()
    bound = bar(record.name) if record.dataset["name"] == plan.dataset else None
    planned = bound is not None and found.n >= plan.looks[0]
    low, high = statistics.shown(found)
    p = float(statistics.contrast([values - bound], [1]).above()) if planned else None
    return {
        "arm": record.name,
        "parameters": record.provenance["parameters"],
        "views": count_views(net),
        "multiply_adds": multiply_adds(net),
        "epochs": record.trial.epochs,
        "seeds": found.n,
        "mean": found.mean,
        "sd": found.sd,
        "predicted_sd": images.predicted_sd(record),
        "low": low,
        "high": high,
        "bar": bound,
        "p": p,
        "last_weights": float(last(record, RAW[1]).mean()) if RAW[1] in record.history else None,
        "without_label_errors": without(record, images.LABEL_ERRORS),
        "precision": record.provenance.get("precision", ""),
        "seconds_per_seed": record.seconds_per_seed,
    }


def without(record: Record, errors: Collection[int]) -> float | None:
    """Mean accuracy, percent, on the images that are not in `errors`; None on other data than MNIST."""
    if record.dataset["name"] != "mnist":
        return None
    kept = ~np.isin(np.arange(len(record.labels)), list(errors))
    return float(100 * correct(record)[:, kept].mean())
