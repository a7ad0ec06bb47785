"""What a later round of attacks brought down, each as it happened: `Attack N` is its number in docs/reliability.md."""

import io
import itertools
import json
import os
import resource
import shutil
import socket
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from arena import only_full
from batch_project import TRAIN, Project
from synthetic import make_record

from s6lib import explore, paths, records, training
from s6lib.__main__ import main
from s6lib.batch import attempt, decide, folders, plan, progress, prune, runner, state
from s6lib.batch.request import Request
from s6lib.evidence import sizes, verdicts
from s6lib.records import images, reading
from s6lib.records.files import digest_of, replace_file
from s6lib.records.small import copy
from s6lib.report import address, gallery, markers
from s6lib.report.page import build
from s6lib.studies import STUDIES
from s6lib.training import workers
from s6lib.trial import TrialError

# --- clocks ----------------------------------------------------------------------------------------


@pytest.fixture
def spec(tmp_path):
    """What an attempt is told of a run whose runner holds the lock `token`."""
    (tmp_path / ".lock").write_text('{"token": "token"}\n')
    plain = {"results": str(tmp_path), "name": "s/one", "target": "", "part": None, "token": "token", "retries": 0}
    return {**plain, "software": attempt.code_identity()}


def test_a_clock_set_back_while_a_trial_runs(spec, monkeypatch):
    """Attack 23: what a trial took is never negative, which its run.json would be refused for."""
    hours, said = itertools.count(1e9, -3600), []
    monkeypatch.setattr(attempt, "run_child", lambda *_: {"kind": "ok"})
    monkeypatch.setattr(attempt, "validate_output", lambda *_: {"kind": "ok"})
    monkeypatch.setattr(attempt, "commit", lambda _, __, facts: said.append(facts["seconds"]))
    monkeypatch.setattr(time, "time", lambda: next(hours))
    outcome = attempt.execute(spec)
    assert all(state.RUN_FILE["seconds"](seconds) for seconds in (outcome["seconds"], *said))


def test_a_laptop_that_was_closed(spec):
    """Attack 24: an old time stamp does not make a runner count as dead; 30 s of checks without a sign of life do."""
    lock = Path(spec["results"], ".lock")
    os.utime(lock, (time.time() - 3600,) * 2)
    looks = [attempt.must_stop(spec) for _ in range(round(attempt.STALE / attempt.LOOK) + 2)]
    assert not any(looks[:-1])
    assert looks[-1]
    os.utime(lock)
    assert not attempt.must_stop(spec)


# --- nothing is lost -------------------------------------------------------------------------------


@only_full
@pytest.mark.slow
def test_pruning_after_more_seeds_were_added(tmp_path):
    """Attack 25: seeds that `make decide` added beyond the profile's number are still asked for, and are kept."""
    project = Project(tmp_path / "p", train=(TRAIN, {"epochs": 1, "images": 64}))
    project.run("run", "--seeds", "3")
    project.run("run", "--epochs", "2")
    kept = [part for part in project.parts() if "seeds-0-2." in part]
    output = project.run("prune", "--yes")
    assert project.parts() == kept
    assert "2 folders deleted" in output
    project.close()


def test_runs_of_other_numbers_of_seeds_are_asked_for(tmp_path):
    """Attack 25: seeds that `make decide` added beyond the profile's number are still asked for, and are kept."""
    run = plan.Run("normalisers", "bn_l1", Path("x"), {}, {"seeds": 2, "epochs": 2}, "c")
    part = records.add(make_record(), tmp_path)
    other = {"seeds": 3, "epochs": 2, "precision": "float32"}
    for settings in ({"seeds": 3, "epochs": 2}, {"seeds": 3, "epochs": 1}, other):
        write_run(tmp_path / "normalisers/bn_l1", settings, part.name)
    assert [info["settings"]["epochs"] for info in prune.asked_runs(run, tmp_path).values()] == [2, 2]
    Path(part, "history.csv").write_text("torn")  # the run's other parts are used again: it stays asked for
    assert [info["settings"]["epochs"] for info in prune.asked_runs(run, tmp_path).values()] == [2, 2]


def test_pruning_after_a_notebook_gained_a_parameter(tmp_path):
    """Attack 25: seeds that `make decide` added beyond the profile's number are still asked for, and are kept."""
    folder = tmp_path / "normalisers/bn_l1"
    few, many = records.add(make_record(), tmp_path).name, records.add(seeds_0_to(5), tmp_path).name
    write_run(folder, {"seeds": 5, "epochs": 2}, many)
    run = plan.Run("normalisers", "bn_l1", Path("x"), {}, {"seeds": 3, "epochs": 2, "live": False}, "c")
    request = SimpleNamespace(folder=tmp_path, study="", trial="", plan=lambda: [run])
    assert prune.unasked_folders(request) == []  # nothing has run since
    write_run(folder, run.settings, few)
    (old,) = prune.unasked_folders(request)
    assert old.name.startswith("run.")  # and not the part


def seeds_0_to(last):
    return make_record({"test_accuracy": np.full((last, 2), 99.2)})


def write_run(folder, settings, part):
    run = folder / f"run.{state.run_key(settings)}"
    run.mkdir()
    info = {"settings": settings, "code": "c", "data": None, "seconds": 1, "parts": [f"normalisers/bn_l1/{part}"]}
    (run / "run.json").write_text(json.dumps(info))


def test_pruning_spares_what_another_trial_uses(tmp_path):
    """Attack 43: a part that the run of another trial stands on, selected or not, is not deleted."""
    part = records.add(make_record(), tmp_path).name
    asked = [plan.Run("s", name, Path("x"), {}, {"seeds": 3, "epochs": n}, "c") for name, n in (("one", 2), ("two", 5))]
    for folder, settings in (
        ("one", {"seeds": 3, "epochs": 1}),
        ("one", asked[0].settings),
        ("two", asked[1].settings),
    ):
        (tmp_path / "s" / folder).mkdir(parents=True, exist_ok=True)
        write_run(tmp_path / "s" / folder, settings, part if settings != asked[0].settings else f"seeds-0-2.{8 * '0'}")
    request = SimpleNamespace(folder=tmp_path, study="", trial="one", plan=lambda: asked[:1])
    (old,) = prune.unasked_folders(request)
    assert old.name.startswith("run.")


def test_studies_run_one_after_another(tmp_path):
    """Attack 44: what the run of one study asked for does not make the run of another forget its own."""
    reading.write_asked(tmp_path, ["a/one/seeds-0-1.key"])
    reading.write_asked(tmp_path, ["b/two/seeds-0-1.other", "b/two/seeds-2.other"])
    written = (tmp_path / "asked.json").stat().st_mtime_ns
    assert json.loads((tmp_path / "asked.json").read_text()) == {"a/one": ["key"], "b/two": ["other"]}
    reading.write_asked(tmp_path, ["b/two/seeds-0-1.other"])
    assert (tmp_path / "asked.json").stat().st_mtime_ns == written


def test_a_summary_older_than_what_it_shows(tmp_path, monkeypatch):
    """Attack 42: the same command, which then has nothing to train, makes the summary and the page all the same."""
    request = Request(studies_file=paths.home() / "studies.toml", study="regularisers", results=tmp_path, run="r")
    run = request.folder / "regularisers/bn/run.1"
    run.mkdir(parents=True)
    monkeypatch.setattr(runner, "state_of", lambda *_: state.State("done", info={"parts": []}, folder=run))
    said: list[str] = []
    monkeypatch.setattr(attempt, "execute", lambda spec: said.append(spec["name"]) or {"kind": "done"})
    monkeypatch.setattr(
        runner.subprocess,
        "run",
        lambda command, **_: said.append(command[3]) or SimpleNamespace(returncode=0, stdout="", stderr=""),
    )
    batch = runner.Batch(request, request.plan(), 1, progress.Display())
    batch.summarise()
    assert said == ["summary", "report"]  # there was none
    for name in ("summary.ipynb", "report.html"):
        (request.folder / name).write_text("")
    batch.summarise()
    assert said == ["summary", "report"]
    os.utime(run, (time.time() + 5,) * 2)
    batch.summarise()
    assert said == ["summary", "report"] * 2


def test_a_lock_that_somebody_looks_at(tmp_path):
    """Attack 45: an attempt gets its lock, and `make prune` the run's, although a look holds it for a moment."""
    lock = tmp_path / ".lock"
    lock.touch()
    for taken in (lambda: folders.locked(lock), lambda: folders.run_lock(tmp_path, False, print, wait=False)):
        with lock.open("r+") as other:
            assert folders.take(other, shared=False)
            threading.Timer(0.1, other.close).start()
            with taken():
                assert folders.in_use(lock)


@pytest.mark.parametrize("writer", ["markers", "address"])
def test_a_disk_that_is_full_when_documents_are_rewritten(tmp_path, monkeypatch, writer):
    """Attack 26: a README or notebook that cannot be written anew stays as it was, and the message names it."""
    page = tmp_path / "README.md"
    page.write_text("<!--= x -->old<!--/-->" + "mine " * 2000)
    monkeypatch.setattr(address, "files", lambda: [page])
    monkeypatch.setattr(address, "current", lambda: "mine")
    before = page.read_text()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # no file may grow longer: a disk that fills up
    try:
        with pytest.raises(OSError, match=r"README\.md"):
            markers.rewrite(page, lambda _: "new") if writer == "markers" else address.publish("https://a.example/b")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert page.read_text() == before
    assert list(tmp_path.iterdir()) == [page]


def test_a_gallery_that_was_interrupted(tmp_path, monkeypatch):
    """Attack 27: half a copy, or one without its picture, is made anew."""
    entry = SimpleNamespace(copy=tmp_path / "a.ipynb", notebook=tmp_path / "source.ipynb")
    whole = json.dumps({"cells": [], "metadata": {"s6lib": {"shows": "x"}}})
    entry.notebook.write_text(whole)
    monkeypatch.setattr(gallery, "_checksum", lambda *_: "x")
    said = []
    for text, picture in ((whole, False), (whole[:20], True), (whole, True)):
        entry.copy.write_text(text)
        entry.copy.with_suffix(".png").unlink(missing_ok=True)
        if picture:
            entry.copy.with_suffix(".png").touch()
        said.append(gallery._outdated(None, entry))
    assert said == ["missing", "damaged", ""]


def test_killed_while_adding_a_part_in_a_notebook(tmp_path):
    """Attack 28: what a killed process left of a part goes when the next part comes, without any batch."""
    part = records.add(make_record(), tmp_path)
    dead = part.with_name(f".partial-{socket.gethostname()}-999999999-aa")
    dead.mkdir()
    records.add(make_record(name="ln_l1"), tmp_path)
    assert not dead.exists()


# --- no seed counts twice, and none vanishes in silence --------------------------------------------


def test_a_trial_s_folder_was_copied(tmp_path):
    """Attack 29: a backup beside a trial's folder counts no seed again, and says so."""
    records.add(make_record(), tmp_path)
    trial = tmp_path / "normalisers/bn_l1"
    shutil.copytree(trial, trial.with_name("bn_l1.backup"))
    (found,), left_out = records.find(tmp_path)
    assert found.seeds == [0, 1, 2]
    assert len(left_out) == 1
    assert "3 of 3 seeds left out, they come twice" in left_out[0]


def test_folders_that_cannot_be_looked_into(tmp_path, monkeypatch):
    """Attack 30: a part without its head, a linked study and a folder that may not be read are named."""
    bare = records.add(make_record(), tmp_path / "run")
    (bare / "record.json").unlink()
    records.add(make_record(name="ln_l1"), tmp_path / "elsewhere")
    (tmp_path / "run/linked").symlink_to(tmp_path / "elsewhere/normalisers")
    closed, scandir = tmp_path / "run/closed", os.scandir
    closed.mkdir()

    def refusing(folder):
        if Path(folder) == closed:
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    found, left_out = records.find(tmp_path / "run")
    assert found == []
    assert [line.split(": ")[0] for line in sorted(left_out)] == sorted(
        map(str, (closed, tmp_path / "run/linked", bare / "record.json"))
    )


# --- nothing false ---------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [{"dataset": "digits"}, {"batch_size": 512}])
def test_many_seeds_of_another_trial_by_the_same_name(other):
    """Attack 31: 30 seeds on digits, or of other settings, do not displace an arm's record; `decide` trains none."""
    study = STUDIES["normalisers"]
    arms = list(dict.fromkeys(arm for claim in study.claims for arm in claim.arms))
    epochs = study.protocol["epochs"]
    many = [make_record({"test_accuracy": np.full((30, epochs), 99.2)}, name, **other) for name in arms]
    few = make_record({"test_accuracy": np.full((3, epochs), 99.2)}, arms[0])
    assert verdicts.select([few, *many], study.name)[arms[0]] is few
    assert verdicts.select([*many, few], study.name)[arms[0]] is few
    assert decide.next_step([study], verdicts.verdicts(many), many) is None


def test_points_on_other_data_have_no_bar(tmp_path):
    """Attack 32: digits are not held against a bar for MNIST, and no frontier.json outlives its records."""
    values = {"test_accuracy": [[90.0, 95.0], [90.0, 96.0]]}
    (row,) = sizes.rows([make_record(values, "p10k", study="frontier", dataset="digits")])
    assert (row["bar"], row["p"]) == (None, None)
    (tmp_path / sizes.FILE).write_text("[]")
    build.write(tmp_path)
    assert not (tmp_path / sizes.FILE).exists()


def test_cleaning_leaves_no_verdicts(tmp_path):
    """Attack 33: `make clean` takes the verdicts along with the records they were of."""
    assert {verdicts.FILE, sizes.FILE, images.NAME} <= set(prune.MADE)
    folder = tmp_path / "quick"
    folder.mkdir()
    (folder / verdicts.FILE).write_text("[]")
    prune.clean(Request(results=tmp_path))
    assert not folder.exists()


# --- numbers, names and noise ----------------------------------------------------------------------


@pytest.mark.parametrize("hours", ["0", "-1", "nan"])
def test_hours_that_are_none(tmp_path, hours, capsys):
    """Attack 34: HOURS=0 or nan is refused, and not taken for "without end"; nothing is written."""
    assert main(["decide", "--results", str(tmp_path), "--hours", hours]) == 2
    assert "is out of range; valid: above 0" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "value"), [("retries", "-1"), ("time-limit", "nan"), ("cell-timeout", "0")])
def test_limits_that_are_none(tmp_path, name, value, capsys):
    """Attack 34: likewise of tries and time limits, which would run nothing, or stop nothing."""
    assert main(["run", "--results", str(tmp_path), f"--{name}={value}"]) == 2
    assert f"{name.upper()}={value} is out of range; valid: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["decide", "report"])
def test_pages_and_verdicts_never_go_among_the_sources(one, monkeypatch, command, capsys):
    """Like attack 19: also where `decide` and `report` write before anything runs."""
    monkeypatch.chdir(one.path)
    before = sorted(one.path.rglob("*"))
    assert main([command, "--results", ".", "--run", "notebooks"]) == 2
    assert "is among the sources" in capsys.readouterr().err
    assert sorted(one.path.rglob("*")) == before


@pytest.mark.parametrize("seeds", [10**9, [2**63]])
def test_seeds_beyond_all_bounds(tiny, seeds):
    """Attack 35: refused at once: a billion would fill the memory, and 2**63 not fit into the record trained for it."""
    with pytest.raises(TrialError, match="is out of range; valid: 1 to 100,000, or a list"):
        training.train(make_record().trial, tiny, seeds)


def test_a_billion_seeds_of_a_batch(one):
    """Attack 35: refused at once: a billion would fill the memory, and 2**63 not fit into the record trained for it."""
    with pytest.raises(plan.PlanError, match="seeds=1000000000 is out of range; valid: 100,000 at most"):
        plan.make_plan(one.path / "studies.toml", "quick", overrides={"seeds": 10**9})


@pytest.mark.parametrize("name", ["../../out", "..", "", "a/b", ".hidden"])
def test_a_record_whose_study_is_a_path(tmp_path, name):
    """Attack 36: refused by name; its copy in the small form leaves the target folder alone, and all around it."""
    part = records.add(make_record(), tmp_path / "run")
    head = json.loads((part / "record.json").read_text())
    head.pop("sha256")
    head["trial"]["study"] = name
    (part / "record.json").write_text(json.dumps({**head, "sha256": digest_of(head)}))
    before = sorted(tmp_path.rglob("*"))
    (line,) = copy(tmp_path / "run", tmp_path / "deep/copy")
    assert "trial is missing or not what it should be" in line
    assert sorted(tmp_path.rglob("*")) == before


def test_start_up_hooks_that_print(tmp_path):
    """Attack 37: lines on a worker's standard output that are not its own do not end the talk with it."""
    told = [b"Loading module cuda/12\n", b"5\n", b'{"epoch": 1}\n']
    worker = workers.Worker({"seeds": [0]})
    worker._talk(SimpleNamespace(stdin=io.BytesIO(), stdout=told), b"")
    assert worker.told["epoch"] == 1


def test_home_in_the_folder_of_notebooks(monkeypatch):
    """Like attack 20: `~` is filled in where the environment names the folder, too."""
    monkeypatch.setenv("S6_LAB", "~/lab")
    assert paths.interactive_results() == Path.home() / "lab"


@pytest.mark.parametrize("name", ["digits-soft", "digits-5", "digits-held-out", "digits-mine-1-2-3"])
def test_images_of_data_by_an_odd_name(name):
    """Attack 38: data sets of one's own, or with soft labels, have no images at hand, and no summary stops for it."""
    with pytest.raises(images.data.DataError, match="checksum differs"):
        images.images_of(make_record(dataset=name))


# --- disks -----------------------------------------------------------------------------------------


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    """Attack 39: a page or verdicts.json that finds no room: the message has its path, and nothing is left."""

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*verdicts\.json"):
        verdicts.write([], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_command_on_a_full_disk(tmp_path, monkeypatch, capsys):
    """Attack 39: a page or verdicts.json that finds no room: the message has its path, and nothing is left."""
    records.add(make_record(), tmp_path / "run")

    def full(file, _):
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr(verdicts, "replace_file", full)
    assert main(["report", "--results", str(tmp_path), "--run", "run"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "run" / verdicts.FILE) in line


@pytest.mark.slow
def test_a_run_folder_that_takes_no_more(one):
    """Attack 39: also what a batch notes at its end: the table is printed, exit code 1."""
    (one.results / "asked.json").mkdir(parents=True)
    output = one.run("run", code=1)
    assert "summary FAILED" in output
    assert str(one.results / "asked.json") in output
    assert "Traceback" not in output
    assert one.finished() == ["s/one"]


def test_two_at_once_never_leave_half_a_page(tmp_path, monkeypatch):
    """Attack 40: of two processes that write one file, each has a file of its own until it is whole."""
    page = tmp_path / "report.html"
    replace_file(page, b"whole")
    pid, fsync = os.getpid(), os.fsync

    def other_writes_meanwhile(handle):
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "getpid", lambda: pid + 1)
        replace_file(page, b"the other's")
        monkeypatch.setattr(os, "getpid", lambda: pid)

    monkeypatch.setattr(os, "fsync", other_writes_meanwhile)
    replace_file(page, b"mine")
    assert page.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.parametrize("lost", [[0], [0, 1, 2]])
def test_exploring_seeds_that_diverged(lost):
    """Attack 41: the figure shows what there is, without them."""
    record = make_record()
    record.diverged = [{"seed": seed, "epoch": 1, "step": 1} for seed in lost]
    figure = explore.draw_curves([record, make_record(name="bn")], "test_accuracy", 1, 2)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["bn"]
    explore.draw_curves([record], "test_accuracy", 1, 2)
    plt.close("all")


def test_a_page_in_a_folder_of_other_letters(tmp_path, monkeypatch):
    """Like attack 11: the page is made, and said to be, also on a terminal that lacks its folder's letters."""
    records.add(make_record(), tmp_path / "Ünï")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["report", "--results", str(tmp_path), "--run", "Ünï"]) == 0
    stream.seek(0)
    assert r"\xdcn\xef/report.html" in stream.read()
