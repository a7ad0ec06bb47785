"""What a part keeps of the answers to the test images: all logits, or in the small form only what figures need.

    predicted          uint8 [R, n]  (predicted class - label) mod 10: 0 where right, so it compresses to almost nothing
    confidence         uint8 [R, n]  the predicted class's probability p: 0 for nan, else 128 + 8 log(p / (1 - p))
    label_probability  uint8 [R, n]  the label's, less the code before it, mod 256: again 0 where right

Steps of 1/8 in the log odds are finer where it matters: p moves by at most 0.016 at 1/2 and by 1e-4 at 0.999, less than
two trainings of one seed on two machines differ. The ends stand for odds of e^15.9, beyond which no figure tells.
"""

from pathlib import Path

import numpy as np
from scipy import special

from s6lib.records.files import unpack
from s6lib.records.record import Record

STEPS, CENTRE = 8, 128  # per unit of log odds; the code of p = 1/2


def encode(probability: np.ndarray) -> np.ndarray:
    """Codes uint8 of probabilities, 0 for nan."""
    odds = special.logit(np.asarray(probability, np.float64))
    codes = np.clip(np.round(CENTRE + STEPS * odds), 1, 255)
    return np.where(np.isnan(odds), 0, codes).astype(np.uint8)


def decode(codes: np.ndarray) -> np.ndarray:
    """Probabilities float32 of codes."""
    table = special.expit((np.arange(256) - CENTRE) / STEPS).astype(np.float32)
    table[0] = np.nan
    return table[codes]


def arrays_of(record: Record) -> dict[str, np.ndarray]:
    """The arrays of predictions.npz."""
    same = {"labels": record.labels.astype(np.uint8), "seeds": np.array(record.seeds)}
    difference = ((record.predicted.astype(int) - record.labels) % 10).astype(np.uint8)
    if record.logits is not None:
        return {"logits": record.logits, **same, "predicted": difference}
    confidence = encode(record.confidence)
    label = encode(record.label_probability) - confidence
    return {"predicted": difference, "confidence": confidence, "label_probability": label, **same}


def read(file: Path, head: dict) -> dict[str, np.ndarray | None]:
    """Fields of a Record: logits, predicted, probabilities, labels. Nothing larger than its head says is unpacked."""
    replicas, images = len(head["seeds"]), head["dataset"]["test_images"]
    every = {"labels.npy": 8 * images, "seeds.npy": 8 * replicas}
    codes, logits = replicas * images, {"logits.npy": 2 * replicas * images * 10}
    small = dict.fromkeys(("predicted.npy", "confidence.npy", "label_probability.npy"), codes)
    forms = [every | logits, every | logits | {"predicted.npy": codes}, every | small]
    return _fields(unpack(file, *forms), replicas, images)


def _fields(arrays: dict[str, np.ndarray], replicas: int, images: int) -> dict[str, np.ndarray | None]:
    """The arrays as fields of a Record, every one of the type, shape and range it should have."""
    logits, labels = arrays.get("logits"), arrays["labels"]
    if logits is not None and (logits.shape != (replicas, images, 10) or logits.dtype.kind != "f"):
        raise ValueError(f"logits are {logits.dtype} {logits.shape}, expected floats {(replicas, images, 10)}")
    if labels.shape != (images,) or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 9:
        raise ValueError(f"labels are {labels.dtype} {labels.shape}, expected {images} digits")
    for name in ("predicted", "confidence", "label_probability"):
        codes = arrays.get(name, np.zeros((replicas, images), np.uint8))
        if codes.shape != (replicas, images) or codes.dtype != np.uint8 or (name == "predicted" and codes.max() > 9):
            raise ValueError(f"{name} is {codes.dtype} {codes.shape}, expected uint8 {(replicas, images)} in range")
    labels = labels.astype(np.int64)
    predicted = ((arrays["predicted"] + labels) % 10).astype(np.uint8) if "predicted" in arrays else None
    probabilities = None
    if logits is None:
        confidence = arrays["confidence"]
        probabilities = np.stack([decode(confidence), decode(confidence + arrays["label_probability"])])
    return {"logits": logits, "labels": labels, "predicted": predicted, "probabilities": probabilities}
