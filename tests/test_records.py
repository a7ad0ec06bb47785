import dataclasses
import json
import os
import re
import resource
import shutil
import socket
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import make_record

from s6lib import records
from s6lib.evidence.images import per_image_errors
from s6lib.provenance import source_fingerprint
from s6lib.records import Record, RecordError, parts
from s6lib.records.convert import convert
from s6lib.records.files import digest_of
from s6lib.trial import make_trial

TRIAL = make_trial("regularisers", "gbn", normaliser="ghost", epochs=2)
DATASET = {"name": "digits", "title": "digits", "checksum": "abc", "train_images": 9, "test_images": 5}


def record_of(*seeds: int, salt: float = 0.0, **changes) -> Record:
    """A made-up record: every number says which seed it is of, plus `salt`."""
    rows = [(seed, epoch, 0.03, 0.1 + salt, 90.0, 0.2, min(95.0 + seed, 99), 1.5) for seed in seeds for epoch in (1, 2)]
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
    return records.add(record_of(0, 3), tmp_path)


def resign(part: Path, name: str = "", **changes) -> None:
    """Changes the head of a part and makes all checksums fit, as a careful hand would."""
    head = json.loads((part / "record.json").read_text())
    head.pop("sha256")
    head |= changes
    for file in [name] if name else []:
        head["files"][file] = records.sha256(part / file)
    (part / "record.json").write_text(json.dumps({**head, "sha256": digest_of(head)}))


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
    assert_equal(records.load(records.add(odd, tmp_path)), odd)
    assert records.find(tmp_path)[0][0].non_diverged == [0]


def test_round_trip_without_any_history(tmp_path):
    # All replicas diverged in their first epoch: no row of history, but a record all the same.
    empty = record_of(1, diverged=[{"seed": 1, "epoch": 1, "step": 1}])
    empty.history = empty.history[:0]
    loaded = records.load(records.add(empty, tmp_path))
    assert list(loaded.history.columns) == list(records.HISTORY)
    assert len(loaded.history) == 0
    assert "last-epoch test accuracy none, 1 diverged" in loaded.describe()


def test_files_of_a_record(saved):
    # The documented files and nothing else, logits in half precision.
    assert {path.name for path in saved.iterdir()} == {"record.json", *records.FILES}
    assert (saved / "history.csv").read_text().splitlines()[0] == ",".join(records.HISTORY)
    with np.load(saved / "predictions.npz") as arrays:
        shapes = {"logits": (2, 5, 10), "predicted": (2, 5), "labels": (5,), "seeds": (2,)}
        assert {name: arrays[name].shape for name in arrays} == shapes
        assert arrays["logits"].dtype == np.float16


def test_nothing_is_unpickled(saved):
    # An object array in the place of the logits is refused, though its checksums are right.
    np.savez(saved / "predictions.npz", logits=np.array([{}], dtype=object), labels=np.arange(5), allow_pickle=True)
    resign(saved, "predictions.npz")
    with pytest.raises(RecordError, match="not a usable record"):
        records.load(saved)


def _full_disk(*_, **__):
    raise OSError(28, "No space left on device")


WRITERS = {
    "history.csv": (pd.DataFrame, "to_csv"),
    "predictions.npz": (np, "savez_compressed"),
    "weights.safetensors": (Path, "write_bytes"),
    "record.json": (Path, "write_text"),
    "flush": (os, "fsync"),
    "rename": (Path, "rename"),
}


@pytest.mark.parametrize("file", WRITERS)
def test_full_disk_leaves_nothing_new(saved, monkeypatch, file):
    # Wherever writing stops, what was there stays and nothing is added, not even a hidden folder.
    before = sorted(saved.parent.rglob("*"))
    monkeypatch.setattr(*WRITERS[file], _full_disk)
    with pytest.raises(RecordError, match=f"^{re.escape(str(saved.parent))}: could not be written .*No space left"):
        records.add(record_of(7), saved.parents[2])
    assert sorted(saved.parent.rglob("*")) == before


def test_interruption_leaves_nothing(tmp_path, monkeypatch):
    # Ctrl-C while writing.
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", interrupt)
    with pytest.raises(KeyboardInterrupt):
        records.add(record_of(0), tmp_path)
    assert list((tmp_path / "regularisers/gbn").iterdir()) == []


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="could not be written"):
        records.add(record_of(0), tmp_path / "file")


def test_a_killed_writer_is_cleared_up_after(saved):
    # Its folder names the process; a living one's is left alone, and so is whatever has another name.
    dead = saved.with_name(f".partial-{socket.gethostname()}-999999999-aa")
    alive = saved.with_name(f".partial-{socket.gethostname()}-{os.getpid()}-aa")
    mine = saved.with_name(".notes")
    for folder in (dead, alive, mine):
        folder.mkdir()
    parts.remove_dead_partials(saved.parents[2])
    assert not dead.exists()
    assert alive.exists()
    assert mine.exists()


# --- parts only grow ---


def test_the_name_says_seeds_and_key(tmp_path):
    # Other settings, data or precision have another key; the seeds are given as ranges.
    names = {records.add(record, tmp_path).name for record in OTHERS.values()}
    assert len({name.split(".")[1] for name in names}) == len(OTHERS)
    assert parts.part_name([0, 1, 2, 3, 4, 7, 9, 10], "3f2a9c1d") == "seeds-0-4_7_9-10.3f2a9c1d"
    assert all(map(parts.is_part_name, names))
    assert not parts.is_part_name("seeds-notes")


OTHERS = {
    "first": record_of(0, 1),
    "epochs": record_of(
        *(0, 1),
        trial=dataclasses.replace(TRIAL, epochs=1),
        history=record_of(0, 1).history.query("epoch == 1"),
        weight_norms=record_of(0, 1).weight_norms.query("epoch < 2"),
    ),
    "data": record_of(0, 1, dataset={**DATASET, "checksum": "def"}),
    "precision": record_of(0, 1, provenance={"precision": "float64"}),
}


def test_nothing_is_ever_replaced(tmp_path):
    # Other seeds, settings, data, precision and code beside what was there: every byte of it stays.
    first = records.add(record_of(0, 1), tmp_path)
    before = {file: file.read_bytes() for file in first.iterdir()}
    for record in [*OTHERS.values(), record_of(2), record_of(0, 1, salt=1, provenance={"source": "newer"})]:
        records.add(record, tmp_path)
    assert {file: file.read_bytes() for file in first.iterdir()} == before
    assert (first.parent / f"{first.name}.2").is_dir()  # the same seeds and key by other code


def test_the_first_to_add_a_seed_wins_and_the_loser_is_told(tmp_path, capsys):
    # The same seeds by the same code, fused otherwise: no second part, and no silence.
    first = records.add(record_of(0, 1), tmp_path)
    assert records.add(record_of(0, 1, salt=1), tmp_path) == first
    assert records.add(record_of(1, salt=1), tmp_path) == first
    assert "had been added by" in capsys.readouterr().out
    assert len(list(first.parent.iterdir())) == 1


def test_a_damaged_part_does_not_stand_in_the_way(saved):
    (saved / "history.csv").write_text("torn")
    assert records.add(record_of(0, 3), saved.parents[2]).name == f"{saved.name}.2"


def test_notes_of_the_user_stay(saved):
    (saved.parent / "notes.txt").write_text("mine")
    records.add(record_of(5), saved.parents[2])
    assert (saved.parent / "notes.txt").read_text() == "mine"
    assert records.find(saved.parents[2])[1] == []


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
            records.load(records.add(wrong, tmp_path))


def test_check_reads_without_loading(saved):
    # The head alone, for a batch's status.
    head = records.check(saved)
    assert (head["seeds"], head["trial"]["name"]) == ([0, 3], "gbn")


ODD = {
    "null provenance": {"provenance": None},
    "text for numbers": {"provenance": {"seconds": "long"}},
    "negative seconds": {"provenance": {"seconds": -1}},
    "no seeds": {"seeds": []},
    "seeds twice": {"seeds": [0, 0]},
    "seed of a float": {"seeds": [0.0, 3]},
    "unknown setting": {"trial": {**TRIAL.settings(), "magic": 1}},
    "setting out of range": {"trial": {**TRIAL.settings(), "epochs": 0}},
    "more epochs than rows": {"trial": {**TRIAL.settings(), "epochs": 3}},
    "normaliser of a list": {"trial": {**TRIAL.settings(), "normaliser": ["ghost"]}},
    "data set of a list": {"dataset": []},
    "fewer images": {"dataset": {**DATASET, "test_images": 4}},
    "title of control characters": {"dataset": {**DATASET, "title": "\x1b[31mred"}},
    "diverged of text": {"diverged": ["0"]},
    "diverged seed that is none": {"diverged": [{"seed": 9, "epoch": 1, "step": 1}]},
}


@pytest.mark.parametrize("case", ODD)
def test_odd_but_signed_heads_are_left_out_by_name(saved, case):
    # Attack 14: refused by name whatever the checksum says, without control characters; reading goes on.
    good = records.add(record_of(0, trial=dataclasses.replace(TRIAL, name="good")), saved.parents[2])
    resign(saved, **ODD[case])
    found, left_out = records.find(saved.parents[2])
    assert [record.path for record in found] == [good.parent]
    assert len(left_out) == 1
    assert left_out[0].startswith(str(saved))
    assert left_out[0].isprintable()


TABLES = {
    "duplicate rows": lambda rows: rows + rows[-1:],
    "text": lambda rows: [*rows[:-1], rows[-1].replace("98.0", "high")],
    "out of range": lambda rows: [*rows[:-1], rows[-1].replace("98.0", "101.0")],
    "a column less": lambda rows: [row.rsplit(",", 1)[0] for row in rows],
    "a foreign seed": lambda rows: [*rows[:-1], rows[-1].replace("3,", "4,", 1)],
    "a missing epoch": lambda rows: rows[:-1],
    "endless": lambda rows: [*rows, "x" * 100_000],
}


@pytest.mark.parametrize("case", TABLES)
def test_odd_but_signed_histories_are_refused(saved, case):
    rows = (saved / "history.csv").read_text().splitlines()
    (saved / "history.csv").write_text("\n".join(TABLES[case](rows)) + "\n")
    resign(saved, "history.csv")
    with pytest.raises(RecordError, match=f"^{re.escape(str(saved))}: not a usable record"):
        records.load(saved)


ARRAYS = {
    "float labels": {"labels": np.arange(5.0)},
    "labels over nine": {"labels": np.arange(5) + 9},
    "fewer images": {"logits": np.zeros((2, 4, 10), np.float16), "labels": np.arange(4)},
    "integer logits": {"logits": np.zeros((2, 5, 10), np.int16)},
    "one array more": {"more": np.zeros(1)},
}


@pytest.mark.parametrize("case", ARRAYS)
def test_odd_but_signed_predictions_are_refused(saved, case):
    whole = {"logits": np.zeros((2, 5, 10), np.float16), "labels": np.arange(5), "seeds": np.array([0, 3])}
    np.savez(saved / "predictions.npz", **whole | ARRAYS[case])
    resign(saved, "predictions.npz")
    with pytest.raises(RecordError, match=f"^{re.escape(str(saved))}: not a usable record"):
        records.load(saved)


@pytest.mark.slow
def test_a_bomb_is_refused_before_it_is_unpacked(saved):
    # Attack 21: refused by its sizes, within a second, in a process that may use 200 MB more than it has.
    with zipfile.ZipFile(saved / "predictions.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("labels.npy", "seeds.npy"):
            archive.writestr(name, b"")
        with archive.open("logits.npy", "w", force_zip64=True) as file:
            for _ in range(2000):
                file.write(bytes(1_000_000))
    resign(saved, "predictions.npz")
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(RecordError, match=r"predictions\.npz holds"):
        records.load(saved)
    assert time.monotonic() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


# --- reading a trial ---


def add_all(root: Path, *many: Record) -> list[Path]:
    """One part after the other; the clock they are told apart by has microseconds."""
    return [records.add(record, root) for record in many]


def test_parts_of_one_key_are_one_record(tmp_path):
    # The seeds of both, in order; every table and array keeps its seed's numbers.
    add_all(tmp_path, record_of(0, 4), record_of(7, 2))
    (found,), left_out = records.find(tmp_path)
    expected = record_of(0, 2, 4, 7)
    assert_equal(found, expected)
    assert left_out == []
    assert found.path == tmp_path / "regularisers/gbn"
    assert found.seconds == 6.0  # both trainings'
    assert [part["seeds"] for part in found.parts] == [[0, 4], [7, 2]]


def test_a_seed_that_comes_twice_counts_once_from_the_part_finished_first(tmp_path):
    # Overlapping seeds, as two runners leave them: said, and stable when more parts come.
    for more in ((2, 3), (3, 9)):
        add_all(tmp_path, *([record_of(0, 2, salt=0.5)] if more == (2, 3) else []), record_of(*more))
        (found,), left_out = records.find(tmp_path)
        assert found.weights["w"][found.seeds.index(2), 0] == 2.5
    assert found.seeds == [0, 2, 3, 9]
    assert found.weights["w"][:, 0].tolist() == [0.5, 2.5, 3.0, 9.0]
    assert len(left_out) == 2
    assert all("1 of 2 seeds left out, they come twice" in line for line in left_out)


def test_other_settings_are_other_records(tmp_path):
    add_all(tmp_path, *OTHERS.values())
    found, left_out = records.find(tmp_path)
    assert len(found) == len(OTHERS)
    assert left_out == []


def test_equal_settings_are_one_record_however_they_are_written(tmp_path):
    # l1 = 0 as typed in a notebook, and 0.0 as in the study's file
    whole = [record_of(seed, trial=dataclasses.replace(TRIAL, l1=zero)) for seed, zero in enumerate((0, 0.0))]
    add_all(tmp_path, *whole)
    found, left_out = records.find(tmp_path)
    assert [record.seeds for record in found] == [[0, 1]]
    assert left_out == []


def test_logits_too_large_for_float16():
    logits = np.full((1, 20, 10), -np.inf)
    logits[0, :, 3] = np.inf
    record = make_record(logits=logits)
    assert record.confidence.tolist() == [[1.0] * 20]
    assert np.isfinite(per_image_errors(record).confidence).all()


def test_what_the_last_run_asked_for_is_what_a_summary_reads(tmp_path):
    # A brief try beside the full run is left out with a line; trials that no run asked for stay.
    brief, full = add_all(tmp_path, OTHERS["epochs"], OTHERS["first"])
    add_all(tmp_path, record_of(0, trial=dataclasses.replace(TRIAL, name="mine")))
    (tmp_path / "asked.json").write_text(json.dumps({"regularisers/gbn": [full.name.split(".")[1]]}))
    found, left_out = records.find(tmp_path)
    assert [(record.name, record.trial.epochs) for record in found] == [("gbn", 2), ("mine", 2)]
    assert left_out == [f"{brief.parent}: 1 part of other settings than the last run asked for left out"]
    (tmp_path / "asked.json").write_text('["odd"]')
    assert len(records.find(tmp_path)[0]) == 3


def test_todays_code_is_read_and_older_code_is_left_out(tmp_path):
    # Without parts by today's code the newest are read, and the record says that it is stale.
    old = [record_of(0, 1, provenance={"source": name}) for name in ("older", "old")]
    add_all(tmp_path, *old)
    (found,), left_out = records.find(tmp_path)
    assert (found.stale, found.provenance["source"], len(left_out)) == (True, "old", 1)
    assert records.read(TRIAL, DATASET, None, root=tmp_path) is None
    add_all(tmp_path, record_of(1, provenance={"source": source_fingerprint("ghost", "regularisers")}))
    (found,), left_out = records.find(tmp_path)
    assert (found.stale, found.seeds) == (False, [1])
    assert left_out == [f"{found.path}: 2 parts by other training code (stale) left out"]


def test_two_precisions_are_never_one_record(tmp_path):
    # to show, the one with more seeds
    source = {"source": source_fingerprint("ghost", "regularisers")}
    kinds = {"float32": (0, 1, 2), "bfloat16": (3, 4)}
    add_all(tmp_path, *[record_of(*seeds, provenance=source | {"precision": kind}) for kind, seeds in kinds.items()])
    found = records.lookup(tmp_path, TRIAL, DATASET)
    assert (found.seeds, found.provenance["precision"]) == ([0, 1, 2], "float32")
    assert records.lookup(tmp_path, TRIAL, DATASET, seeds=[2, 3]) is None


def test_reading_the_seeds_asked_for(tmp_path):
    # In the order asked for; parts of which no seed is asked for are not even opened.
    source = {"source": source_fingerprint("ghost", "regularisers"), "precision": "float32"}
    *_, damaged = add_all(tmp_path, *[record_of(*s, provenance=source) for s in ((0, 4), (2,), (8,))])
    (damaged / "history.csv").unlink()
    chosen = records.read(TRIAL, DATASET, "float32", [2, 0, 5], tmp_path)
    assert chosen.seeds == [2, 0]
    assert chosen.weights["w"][:, 0].tolist() == [2.0, 0.0]
    assert set(chosen.history.seed) == set(chosen.weight_norms.seed) == {0, 2}
    assert records.read(TRIAL, DATASET, "float64", [2, 0], tmp_path) is None
    assert "history.csv: cannot be read" in records.read(TRIAL, DATASET, "float32", None, tmp_path).left_out[0]


def test_parts_that_do_not_go_together(tmp_path):
    # Whole by itself, but of other test images: left out by name.
    _, other = add_all(tmp_path, record_of(0), record_of(1, labels=np.arange(5)[::-1].copy()))
    (found,), left_out = records.find(tmp_path)
    assert found.seeds == [0]
    assert left_out == [f"{other}: its labels or weights do not go with those of {found.parts[0]['path']}"]


def test_find(tmp_path):
    # In order of their paths; a damaged one and a link are left out with a line, work in progress without.
    for name in ("gbn", "bn", "lost"):
        records.add(record_of(0, trial=dataclasses.replace(TRIAL, name=name)), tmp_path / "run")
    trials = tmp_path / "run/regularisers"
    next(trials.glob("lost/*/history.csv")).unlink()
    shutil.copytree(trials / "bn", trials / ".hidden")
    (trials / "link").symlink_to(trials / "bn")
    found, left_out = records.find(tmp_path / "run")
    assert [record.path.relative_to(trials).as_posix() for record in found] == ["bn", "gbn"]
    assert len(left_out) == 2
    assert "link: a link, not followed" in left_out[0]
    assert "history.csv: cannot be read" in left_out[1]


def test_find_nothing(tmp_path):
    assert records.find(tmp_path / "nowhere") == ([], [])


def test_converted_records_keep_their_numbers(tmp_path):
    # One folder per trial, seeds of two trainings, in a sweep's folder: two parts, each with its own provenance.
    merged = {"seconds": 1.0, "merged_with": {"seeds": [0, 2], "provenance": {"seconds": 2.0}}}
    part = records.add(record_of(0, 1, 2, provenance=merged), tmp_path / "aside")
    old = tmp_path / "run/sweep/l1/gbn"
    old.parent.mkdir(parents=True)
    part.rename(old)
    assert f"s6lib.records.convert {tmp_path / 'run'}`" in records.find(tmp_path / "run")[1][0]
    convert(tmp_path / "run")
    (found,), left_out = records.find(tmp_path / "run")
    assert_equal(found, record_of(0, 1, 2, provenance={"seconds": 1.0}))
    assert left_out == []
    assert found.seconds == 3.0
    assert not (tmp_path / "run/sweep").exists()


def test_properties():
    # Predictions are the largest logits, the last epoch is the trial's, one line says it all.
    record = record_of(0, 3)
    assert record.name == "gbn"
    assert record.predicted.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert record.last().test_accuracy.tolist() == [95.0, 98.0]
    assert record.describe() == "gbn: 2 seeds, 2 epochs on digits, last-epoch test accuracy 96.50 %"


def test_where_a_record_is(tmp_path):
    # With what was left out, for the last cell of a notebook.
    add_all(tmp_path, record_of(0), record_of(0, 1))
    (found,), _ = records.find(tmp_path)
    first, twice = records.where(found).splitlines()
    assert first == f"{found.path}: 2 parts"
    assert "come twice" in twice
    assert records.where(record_of(0)) == "gbn: not saved"
