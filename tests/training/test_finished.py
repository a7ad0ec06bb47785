"""Finished records are shown instead of training again; nothing else is."""

import dataclasses
import importlib
import json
import shutil

import pytest

from s6lib import paths, records, training
from s6lib.data import DataError
from s6lib.training import finished, train
from s6lib.trial import TrialError, make_trial

TRIAL = make_trial("normalisers", "bn_l1", epochs=1, batch_size=8)


@pytest.fixture(scope="module")
def reference(tmp_path_factory, tiny):
    """A run that holds seeds 0 to 2 of TRIAL on the tiny set, trained by earlier code in bfloat16."""
    root = tmp_path_factory.mktemp("reference")
    record = train(TRIAL, tiny, 3, precision="bfloat16", device="cpu", save=False)
    record.provenance["source"] = "earlier"
    records.add(record, root)
    return root


@pytest.fixture(autouse=True)
def _as_reference(reference, monkeypatch):
    monkeypatch.setattr(paths, "reference", lambda: reference)


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setenv("S6_TRAIN", "never")


def test_the_reference_run_is_shown(tiny, no_training, capsys):
    # whatever code and precision; the first seeds where there are more than asked for; a line says where from
    record = training.find_or_train(TRIAL, tiny, 2)
    assert record.seeds == [0, 1]
    assert record.stale
    assert "from the reference run" in capsys.readouterr().out
    assert not list(paths.interactive_results().rglob("record.json"))


@pytest.mark.parametrize(
    "change", [{"seeds": 4}, {"precision": "float32"}, {"again": True}, {"trial": dataclasses.replace(TRIAL, l1=0.0)}]
)
def test_whatever_is_asked_otherwise_trains(tiny, no_training, change):
    asked = {"trial": TRIAL, "dataset": tiny, "seeds": 2, **change}
    with pytest.raises(TrialError, match="not finished"):
        training.find_or_train(**asked)


def test_other_data_train(digits, no_training):
    with pytest.raises(TrialError, match="not finished"):
        training.find_or_train(TRIAL, digits, 2)


def test_a_batch_borrows_nothing(tiny, no_training, monkeypatch, tmp_path):
    monkeypatch.setenv("S6_CLAIMS", str(tmp_path / "claims"))
    with pytest.raises(TrialError, match="not finished"):
        training.find_or_train(TRIAL, tiny, 2)


def test_one_s_own_go_before_the_reference_run_s(tiny, monkeypatch, capsys):
    own = training.find_or_train(TRIAL, tiny, 2, precision="float64", again=True)
    monkeypatch.setenv("S6_TRAIN", "never")
    again = training.find_or_train(TRIAL, tiny, 2, precision="float64")
    assert again.path == own.path
    capsys.readouterr()
    training.find_or_train(TRIAL, tiny, 2, precision="float64", again=True)
    (part,) = own.path.iterdir()  # other parts of the trial, of other settings or data, lie beside it
    assert f"to repeat it, delete {paths.relative_to_home(part)}\n" in capsys.readouterr().out
    assert paths.interactive_results() in again.path.parents


def test_who_interrupts_is_told_that_epochs_are_kept(tiny, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("s6lib.training.train"), "train_missing", stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        training.train(TRIAL, tiny, 2, precision="float64")
    assert "the same call goes on from them" in capsys.readouterr().out
    assert stopped.value._render_traceback_() == ["KeyboardInterrupt"]  # all that Jupyter shows of it


def test_data_that_cannot_be_had(tiny, reference, monkeypatch, capsys, no_training):
    # what the reference run knows of them is enough to show its records, not to train
    def missing(name):
        raise DataError("no files")

    monkeypatch.setattr(finished.data, "load", missing)
    images = training.load(tiny.name)
    assert "images kept beside them" in capsys.readouterr().out
    assert images.describe() == tiny.describe()
    assert training.find_or_train(TRIAL, images, 2).seeds == [0, 1]
    monkeypatch.delenv("S6_TRAIN")
    with pytest.raises(DataError, match="no files"):
        training.find_or_train(TRIAL, images, 4)
    with pytest.raises(DataError, match="no files"):
        training.load("unheard-of")


def test_seeds_of_several_codes_are_read_together(tiny, reference, tmp_path):
    # seeds added later by other code complete the earlier ones, where one code alone does not hold them all
    shutil.copytree(reference, tmp_path / "run")
    more = train(TRIAL, tiny, [3], precision="bfloat16", device="cpu", save=False)
    records.add(more, tmp_path / "run")
    both = records.lookup(tmp_path / "run", TRIAL, tiny.describe(), seeds=[0, 1, 2, 3])
    assert (both.seeds, both.stale) == ([0, 1, 2, 3], True)
    alone = records.lookup(tmp_path / "run", TRIAL, tiny.describe(), seeds=[3])
    assert (alone.seeds, alone.stale) == ([3], False)
    assert records.lookup(tmp_path / "run", TRIAL, tiny.describe(), seeds=[4]) is None


def test_the_committed_run_holds_what_notebooks_ask_for(monkeypatch, no_training):
    # the defaults of a notebook whose arm is there: found under their own names
    monkeypatch.undo()
    about = records.describe_dataset("mnist")
    heads = [json.loads(path.read_text()) for path in (paths.home() / "results" / "reference").rglob("record.json")]
    names = {(head["trial"]["study"], head["trial"]["name"]) for head in heads}
    for study, name in names:
        trial = make_trial(study, name)
        assert records.lookup(paths.home() / "results" / "reference", trial, about, seeds=range(5)), name


def test_in_colab_records_and_checkpoints_go_to_drive(tmp_path, monkeypatch):
    # so that a runtime that is taken away takes nothing with it; S6_LAB goes before it
    monkeypatch.setattr(paths, "DRIVE", tmp_path)
    assert paths.interactive_results() != tmp_path / "s6lib"
    monkeypatch.delenv("S6_LAB")
    assert paths.interactive_results() == tmp_path / "s6lib"
    monkeypatch.setattr(paths, "DRIVE", tmp_path / "not-mounted")
    assert paths.interactive_results() == paths.home() / "results" / "lab"
