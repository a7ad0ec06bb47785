"""Records: what the replicas of a trial left behind, as parts that are written once and never changed.

    results/<run>/<study>/<trial>/seeds-0-4.3f2a9c1d/    a part: what one fused training left, some seeds of one trial
        record.json          trial, data set, seeds, provenance, SHA-256 of the files below and of itself
        history.csv          seed, epoch, learning_rate, train_loss, train_accuracy, test_loss, test_accuracy, seconds
        weight_norms.csv     seed, epoch, sum_abs, sum_squares over all parameters; epoch 0 is after the first batch
        predictions.npz      float16 logits [replica, image, class], labels, seeds; for the small form see `answers`
        weights.safetensors  {name: [replica, ...]}: entry r is the state dict of the plain network of replica r

A part's name says its seeds and a short key of trial, data and precision. A record is all parts of one key, read
together. Accuracies are in percent, losses in nats per image, seconds are wall time of all replicas together. Nothing
here is ever unpickled, and reading needs no torch but for making a `Trial`.
"""

from s6lib.records.files import plain_text as plain_text
from s6lib.records.files import replace_file as replace_file
from s6lib.records.files import sha256 as sha256
from s6lib.records.head import check as check
from s6lib.records.head import read_head as read_head
from s6lib.records.parts import add as add
from s6lib.records.parts import load as load
from s6lib.records.parts import part_folders as part_folders
from s6lib.records.reading import describe_dataset as describe_dataset
from s6lib.records.reading import find as find
from s6lib.records.reading import is_stale as is_stale
from s6lib.records.reading import lookup as lookup
from s6lib.records.reading import read as read
from s6lib.records.reading import where as where
from s6lib.records.record import FILES as FILES
from s6lib.records.record import HISTORY as HISTORY
from s6lib.records.record import MOST_SEEDS as MOST_SEEDS
from s6lib.records.record import NO_WEIGHTS as NO_WEIGHTS
from s6lib.records.record import PRECISIONS as PRECISIONS
from s6lib.records.record import RAW as RAW
from s6lib.records.record import WEIGHT_NORMS as WEIGHT_NORMS
from s6lib.records.record import Record as Record
from s6lib.records.record import RecordError as RecordError
from s6lib.records.record import counted as counted
