"""Records made by hand, so that what a figure or a verdict should say is known."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from s6lib.records import HISTORY, WEIGHT_NORMS, Record
from s6lib.studies import STUDIES
from s6lib.trial import make_trial

USUAL = {"learning_rate": 0.01, "train_loss": 0.05, "train_accuracy": 98.9, "test_loss": 0.03, "test_accuracy": 99.2}


def make_record(
    columns: dict[str, Sequence[Sequence[float]]] | None = None,
    name: str = "bn_l1",
    study: str = "normalisers",
    dataset: str = "mnist",
    logits: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    weights: dict[str, np.ndarray] | None = None,
    **settings,
) -> Record:
    """A record whose history holds `columns` {name: [R, epochs]}; logits are [R, n, 10], all right when not given."""
    columns = columns or {"test_accuracy": np.full((3 if logits is None else len(logits), 2), 99.2)}
    seeds, epochs = np.shape(next(iter(columns.values())))
    values = {**{k: np.full((seeds, epochs), v) for k, v in USUAL.items()}, "seconds": np.ones((seeds, epochs))}
    values |= {key: np.asarray(value, float) for key, value in columns.items()}
    place = [(r, e) for r in range(seeds) for e in range(epochs)]
    rows = [{"seed": r, "epoch": e + 1, **{k: v[r, e] for k, v in values.items()}} for r, e in place]
    norms = [
        {"seed": r, "epoch": e, "sum_abs": 600.0 + r + e, "sum_squares": 90.0} for r in range(seeds) for e in (0, 1)
    ]
    labels = np.arange(20) % 10 if labels is None else labels
    logits = np.tile(9.0 * np.eye(10)[labels], (seeds, 1, 1)) if logits is None else logits
    return Record(
        trial=make_trial(
            study, name, **{"like": None if name in STUDIES[study].arms else "", "epochs": epochs, **settings}
        ),
        dataset={"name": dataset, "title": dataset.upper(), "checksum": dataset, "train_images": 60, "test_images": 20},
        seeds=list(range(seeds)),
        history=pd.DataFrame(rows)[list(HISTORY)],
        weight_norms=pd.DataFrame(norms)[list(WEIGHT_NORMS)],
        logits=np.asarray(logits, np.float16),
        labels=labels,
        weights=weights or {},
        provenance={"parameters": 9802, "seconds": 12.0},
    )
