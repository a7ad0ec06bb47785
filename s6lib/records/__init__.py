"""Records: what the replicas of a trial left behind, as parts that are written once and never changed.

    results/<run>/<study>/<trial>/seeds-0-4.3f2a9c1d/    a part: what one fused training left, some seeds of one trial
        record.json          trial, data set, seeds, provenance, SHA-256 of the files below and of itself
        history.csv          seed, epoch, learning_rate, train_loss, train_accuracy, test_loss, test_accuracy, seconds
        weight_norms.csv     seed, epoch, sum_abs, sum_squares over all parameters; epoch 0 is after the first batch
        predictions.npz      float16 logits [replica, image, class], labels, seeds
        weights.safetensors  {name: [replica, ...]}: entry r is the state dict of the plain network of replica r

A part's name says its seeds and a short key of trial, data and precision. A record is all parts of one key, read
together. Accuracies are in percent, losses in nats per image, seconds are wall time of all replicas together. Nothing
here is ever unpickled, and none of it needs torch but making a `Trial`.
"""

from s6lib.records.parts import add, check, key_of, load, part_folders, plain_text, read_head, sha256
from s6lib.records.reading import find, is_stale, read, where
from s6lib.records.record import FILES, HISTORY, PRECISIONS, WEIGHT_NORMS, Record, RecordError

__all__ = [
    "FILES",
    "HISTORY",
    "PRECISIONS",
    "WEIGHT_NORMS",
    "Record",
    "RecordError",
    "add",
    "check",
    "find",
    "is_stale",
    "key_of",
    "load",
    "part_folders",
    "plain_text",
    "read",
    "read_head",
    "sha256",
    "where",
]
