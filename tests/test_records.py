import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from s6lib import records
from s6lib.records import Record, RecordError
from s6lib.trial import make_trial

TRIAL = make_trial("regularisers", "gbn", normaliser="ghost", epochs=2)
DATASET = {"name": "digits", "title": "digits", "checksum": "abc", "train_images": 9, "test_images": 5}


def record_of(*seeds: int, salt: float = 0.0, **changes) -> Record:
    """A made-up record: every number says which seed it is of, plus `salt`."""
    rows = [(seed, epoch, 0.03, 0.1 + salt, 90.0, 0.2, 95.0 + seed, 1.5) for seed in seeds for epoch in (1, 2)]
    norms = [(seed, epoch, 100.0 + seed + salt, 10.0) for seed in seeds for epoch in (0, 1, 2)]
    logits = np.stack([np.full((5, 10), seed + salt) + np.eye(5, 10) for seed in seeds]).astype(np.float16)
    values = {
        "trial": TRIAL,
        "dataset": DATASET,
        "seeds": list(seeds),
        "history": pd.DataFrame(rows, columns=records.HISTORY),
        "weight_norms": pd.DataFrame(norms, columns=records.WEIGHT_NORMS),
        "logits": logits,
        "labels": np.arange(5),
        "weights": {"w": np.array([[seed + salt, 1.0] for seed in seeds], dtype=np.float32)},
        "provenance": {"git_commit": "f00", "seconds": 3.0},
    }
    return Record(**{**values, **changes})


def assert_equal(a: Record, b: Record) -> None:
    assert (a.trial, a.dataset, a.seeds, a.provenance, a.diverged) == (
        *(b.trial, b.dataset, b.seeds, b.provenance, b.diverged),
    )
    pd.testing.assert_frame_equal(a.history, b.history)
    pd.testing.assert_frame_equal(a.weight_norms, b.weight_norms)
    for mine, theirs in ((a.logits, b.logits), (a.labels, b.labels)):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
    assert a.weights.keys() == b.weights.keys()
    for name in a.weights:
        np.testing.assert_array_equal(a.weights[name], b.weights[name])


@pytest.fixture
def saved(tmp_path) -> Path:
    return records.save(record_of(0, 3), tmp_path / "gbn")


# --- saving and loading ---


def test_looking_at_a_record_shows_what_it_is_of_and_no_arrays():
    # A notebook that ends a cell with a record is not to get pages of weights.
    text = repr(record_of(3, 5))
    assert "name='gbn'" in text
    assert "seeds=[3, 5]" in text
    assert "array(" not in text
    assert len(text) < 1000


def test_round_trip(saved):
    # What comes back is what went in, types included.
    assert_equal(records.load(saved), record_of(0, 3))
    assert records.load(saved).path == saved


def test_round_trip_of_a_divergence(tmp_path):
    # NaN and infinity survive, and so does the note about who diverged.
    odd = record_of(0, 3, diverged=[{"seed": 3, "epoch": 2, "step": 7}])
    odd.history = odd.history[odd.history.seed == 0].reset_index(drop=True)
    odd.weight_norms.loc[odd.weight_norms.seed == 3, "sum_abs"] = [np.nan, np.inf, np.nan]
    odd.logits[1] = np.nan
    assert_equal(records.load(records.save(odd, tmp_path / "gbn")), odd)
    assert records.load(tmp_path / "gbn").non_diverged == [0]


def test_round_trip_without_any_history(tmp_path):
    # All replicas diverged in their first epoch: no row of history, but a record all the same.
    empty = record_of(1, diverged=[{"seed": 1, "epoch": 1, "step": 1}])
    empty.history = empty.history[:0]
    loaded = records.load(records.save(empty, tmp_path / "gbn"))
    assert list(loaded.history.columns) == list(records.HISTORY)
    assert len(loaded.history) == 0
    assert "last-epoch test accuracy none, 1 diverged" in loaded.describe()


def test_files_of_a_record(saved):
    # The documented files and nothing else, logits in half precision.
    assert {path.name for path in saved.iterdir()} == {"record.json", *records.FILES}
    assert (saved / "history.csv").read_text().splitlines()[0] == ",".join(records.HISTORY)
    with np.load(saved / "predictions.npz") as arrays:
        assert {name: arrays[name].shape for name in arrays} == {"logits": (2, 5, 10), "labels": (5,), "seeds": (2,)}
        assert arrays["logits"].dtype == np.float16


def test_nothing_is_unpickled(saved):
    # An object array in the place of the logits is refused, though its checksums are right.
    np.savez(saved / "predictions.npz", logits=np.array([{}], dtype=object), labels=np.arange(5), allow_pickle=True)
    head = json.loads((saved / "record.json").read_text())
    head.pop("sha256")
    head["files"]["predictions.npz"] = records.sha256(saved / "predictions.npz")
    (saved / "record.json").write_text(json.dumps({**head, "sha256": records._digest(head)}))
    with pytest.raises(RecordError, match="allow_pickle=False"):
        records.load(saved)


def _full_disk(*_, **__):
    raise OSError(28, "No space left on device")


WRITERS = {
    "history.csv": (pd.DataFrame, "to_csv"),
    "predictions.npz": (np, "savez_compressed"),
    "weights.safetensors": (Path, "write_bytes"),
    "record.json": (Path, "write_text"),
}


@pytest.mark.parametrize("file", WRITERS)
def test_full_disk_leaves_nothing(tmp_path, monkeypatch, file):
    # Wherever writing stops, there is no directory, not even a hidden one.
    monkeypatch.setattr(*WRITERS[file], _full_disk)
    message = f"{tmp_path / 'run' / 'gbn'}: could not be written ([Errno 28] No space left on device); "
    with pytest.raises(RecordError, match=f"^{re.escape(message)}"):
        records.save(record_of(0), tmp_path / "run" / "gbn")
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("file", WRITERS)
def test_full_disk_leaves_the_old_record(saved, monkeypatch, file):
    with monkeypatch.context() as patch:
        patch.setattr(*WRITERS[file], _full_disk)
        with pytest.raises(RecordError, match="could not be written"):
            records.save(record_of(0, 3, salt=1), saved)
    assert_equal(records.load(saved), record_of(0, 3))
    assert [path.name for path in saved.parent.iterdir()] == ["gbn"]


def test_failed_rename_leaves_the_old_record(saved, monkeypatch):
    # The new directory cannot be moved into place: the old one is put back.
    rename = Path.rename

    def refuse_partial(self, target):
        if self.name.endswith(".partial"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse_partial)
        with pytest.raises(RecordError, match="could not be written"):
            records.save(record_of(0, 3, salt=1), saved)
    assert_equal(records.load(saved), record_of(0, 3))
    assert [path.name for path in saved.parent.iterdir()] == ["gbn"]


def test_interruption_leaves_nothing(tmp_path, monkeypatch):
    # Ctrl-C while writing.
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupt)
    with pytest.raises(KeyboardInterrupt):
        records.save(record_of(0), tmp_path / "gbn")
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="could not be written"):
        records.save(record_of(0), tmp_path / "file" / "gbn")


def test_saving_again_replaces_the_whole_directory(saved):
    # The new record is there alone: no file of the old one, no directory beside it.
    (saved / "notebook.ipynb").write_text("old")
    records.save(record_of(5, salt=1), saved)
    assert_equal(records.load(saved), record_of(5, salt=1))
    assert not (saved / "notebook.ipynb").exists()
    assert [path.name for path in saved.parent.iterdir()] == ["gbn"]


# --- damaged records ---


@pytest.mark.parametrize("name", records.FILES)
def test_any_edited_byte_is_noticed(saved, name):
    # First, middle and last byte; the message names the file.
    content = (saved / name).read_bytes()
    for position in (0, len(content) // 2, len(content) - 1):
        edited = bytearray(content)
        edited[position] ^= 1
        (saved / name).write_bytes(edited)
        with pytest.raises(RecordError, match=f"^{re.escape(str(saved / name))}: changed or truncated"):
            records.load(saved)
    (saved / name).write_bytes(content)
    records.load(saved)


def test_every_edited_character_of_the_head_is_noticed(saved):
    # Any character of record.json that carries meaning: the file is refused by name, never misread.
    file = saved / "record.json"
    content = file.read_bytes()
    for position in range(0, len(content), 7):
        edited = bytearray(content)
        edited[position] ^= 1
        file.write_bytes(edited)
        if bytes(edited).split() != content.split():  # white space between values carries none
            with pytest.raises(RecordError, match=f"^{re.escape(str(file))}: "):
                records.load(saved)


@pytest.mark.parametrize("name", ["record.json", *records.FILES])
def test_missing_file(saved, name):
    (saved / name).unlink()
    with pytest.raises(RecordError, match=f"^{re.escape(str(saved / name))}: (missing|cannot be read)"):
        records.load(saved)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"3", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_foreign_head(saved, content):
    (saved / "record.json").write_bytes(content)
    with pytest.raises(RecordError, match=f"^{re.escape(str(saved / 'record.json'))}: not a record"):
        records.read_head(saved)


def test_shapes_must_agree(tmp_path):
    # Logits of fewer replicas than seeds, and a history of seeds that are not there.
    for wrong in (record_of(0, 1, logits=record_of(0).logits), record_of(0, history=record_of(7).history)):
        with pytest.raises(RecordError, match="not a usable record"):
            records.load(records.save(wrong, tmp_path / "gbn"))


def test_check_reads_without_loading(saved):
    # The head alone, for a batch's status.
    head = records.check(saved)
    assert (head["seeds"], head["trial"]["name"]) == ([0, 3], "gbn")


# --- many records ---


def test_find(tmp_path):
    # In order of their paths; a damaged one is left out with a line, work in progress without.
    for path in ("b/gbn", "a/gbn", "a/bn", "c/gbn", "a/.gbn.1.partial"):
        records.save(record_of(0), tmp_path / path)
    (tmp_path / "c" / "gbn" / "history.csv").unlink()
    found, left_out = records.find(tmp_path)
    assert [record.path.relative_to(tmp_path).as_posix() for record in found] == ["a/bn", "a/gbn", "b/gbn"]
    assert len(left_out) == 1
    assert left_out[0].startswith(f"{tmp_path / 'c' / 'gbn' / 'history.csv'}: ")


def test_find_below_a_hidden_folder(tmp_path):
    # Only what lies below the root counts as hidden.
    records.save(record_of(0), tmp_path / ".run" / "gbn")
    assert len(records.find(tmp_path / ".run")[0]) == 1


def test_find_nothing(tmp_path):
    assert records.find(tmp_path / "nowhere") == ([], [])


def test_merge():
    # The seeds of both, in order; every table and array keeps its seed's numbers.
    merged = records.merge(record_of(0, 4), record_of(7, 2))
    expected = record_of(0, 2, 4, 7)
    expected.provenance = merged.provenance
    assert_equal(merged, expected)
    assert merged.provenance["merged_with"] == {"seeds": [0, 4], "provenance": record_of(0).provenance}
    assert merged.seconds == record_of(0).seconds * 2 == 6.0  # both trainings'


def test_merge_prefers_the_new():
    # Where both have a seed, the new numbers stand, and the old note of its divergence goes.
    old = record_of(0, 2, salt=0.5, diverged=[{"seed": 2, "epoch": 1, "step": 1}])
    merged = records.merge(old, record_of(2, 3))
    assert merged.diverged == []
    assert merged.weights["w"][:, 0].tolist() == [0.5, 2.0, 3.0]
    assert merged.history.train_loss.tolist() == pytest.approx([0.6, 0.6, 0.1, 0.1, 0.1, 0.1])
    assert len(merged.weight_norms) == 9


def test_merge_with_all_seeds_replaced():
    merged = records.merge(record_of(0, salt=1), record_of(0))
    merged.provenance.pop("merged_with")
    assert_equal(merged, record_of(0))


def test_merged_records_can_be_saved(tmp_path):
    merged = records.merge(record_of(0, 4), record_of(2))
    assert_equal(records.load(records.save(merged, tmp_path / "gbn")), merged)


@pytest.mark.parametrize(
    "other", [{"trial": dataclasses.replace(TRIAL, l1=1e-5)}, {"dataset": {**DATASET, "checksum": "def"}}]
)
def test_merge_refuses_another_trial_or_data_set(saved, other):
    with pytest.raises(RecordError, match=f"^{re.escape(str(saved))}: of another trial or data set"):
        records.merge(records.load(saved), record_of(1, **other))


def test_select():
    # Some of the seeds, in the order asked for.
    chosen = records.select(record_of(0, 4, 2), [2, 0])
    assert chosen.seeds == [2, 0]
    assert chosen.weights["w"][:, 0].tolist() == [2.0, 0.0]
    assert chosen.logits[:, 0, 1].tolist() == [2.0, 0.0]
    assert set(chosen.history.seed) == set(chosen.weight_norms.seed) == {0, 2}


def test_properties():
    # Predictions are the largest logits, the last epoch is the trial's, one line says it all.
    record = record_of(0, 3)
    assert record.name == "gbn"
    assert record.predictions.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert record.last().test_accuracy.tolist() == [95.0, 98.0]
    assert record.describe() == "gbn: 2 seeds, 2 epochs on digits, last-epoch test accuracy 96.50 %"
