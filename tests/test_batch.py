"""The batch: what is refused before anything runs, what counts as done, and one real batch with every kind of end."""

import dataclasses
import json
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import papermill
import pytest
import shared_cells
from batch_project import SWEEP, TRAIN, TRIVIAL, Project

from s6lib import data, records, training
from s6lib.__main__ import main, make_request, parser
from s6lib.batch import attempt, folders, plan, pool, progress, runner
from s6lib.batch import request as request_module
from s6lib.batch import state as state_module
from s6lib.batch.chunks import can_be_split, chunks, part_of, train_part
from s6lib.batch.cluster import Cluster, expected, start
from s6lib.batch.plan import PlanError, declarations, fits, make_plan, read_notebook
from s6lib.batch.state import state_of
from s6lib.studies import trained_by
from s6lib.trial import make_trial

ROOT = Path(__file__).parent.parent


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path / "p", one=(TRIVIAL, {}), two=(TRIVIAL, {"seeds": 4}))
    yield made
    made.close()


# --- plan ----------------------------------------------------------------------------------------


def test_later_layers_win(project):
    """Notebook < profile < trial < call; `settings` holds the notebook's own values too."""
    one, two = make_plan(project.path / "studies.toml", "quick", overrides={"epochs": 5})
    assert (one.parameters["seeds"], two.parameters["seeds"], two.parameters["epochs"]) == (2, 4, 5)
    assert two.settings["precision"] == "auto"


@pytest.mark.parametrize(
    "notebook", [*sorted(ROOT.glob("notebooks/**/*.ipynb")), ROOT / "tests/fixtures" / TRIVIAL], ids=lambda p: p.stem
)
def test_reads_parameters_as_papermill_does(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = [plan.source(cell) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    ours = {name: kind for name, (kind, _) in declarations(tagged[0]).items()} if tagged else {}
    theirs = papermill.inspect_notebook(notebook)
    assert ours == {name: about["inferred_type_name"] for name, about in theirs.items()}


REFUSED = {
    "unknown parameter": (["-p", "seed=3"], "unknown parameter 'seed': did you mean 'seeds'? valid: dataset, seeds"),
    "wrong type": (["-p", 'seeds="3"'], "seeds='3' is a str; expected int"),
    "bool is no int": (["-p", "seeds=true"], "seeds=True is a bool; expected int"),
    "not a number": (["-p", "precision=NaN"], "precision=nan is not plain JSON"),
    "no seeds": (["--seeds", "0"], "seeds=0 is out of range; valid: 1 or more"),
    "seeds in words": (["--seeds", "many"], "SEEDS='many' is not a whole number"),
    "no epochs": (["--epochs", "0"], "epochs=0 is out of range"),
    "no jobs": (["--jobs", "0"], "JOBS=0 is out of range"),
    "no workers": (["--workers", "0"], "WORKERS=0 is out of range; valid: 1 or more"),
    "workers in words": (["--workers", "all"], "WORKERS='all' is not a whole number"),
    "dataset": (["--dataset", "mnits"], "unknown dataset 'mnits': did you mean 'mnist'? valid: digits, mnist"),
    "profile": (["--profile", "fast"], "unknown profile 'fast': valid: quick"),
    "study": (["--study", "t"], "unknown study 't': valid: s"),
    "trial": (["--trial", "three"], "unknown trial 'three': "),
    "stale": (["--stale", "no"], "unknown STALE='no'; valid: keep, rerun"),
    "remote": (["--results", "s3://bucket/x"], "results must be a folder"),
    "scheduler": (["--scheduler", "udp"], "unknown SCHEDULER='udp'; valid: tcp://"),
    "no scheduler there": (["--scheduler", "tcp://nohost:1"], "SCHEDULER=tcp://nohost:1: nothing answers there"),
    "scheduler without port": (["--scheduler", "tcp://nohost"], "SCHEDULER=tcp://nohost: nothing answers there"),
    "precision": (["--precision", "bf16"], "unknown precision 'bf16': "),
    "letters swapped": (["--trial", "oen"], "unknown trial 'oen': did you mean 'one'?"),
    "other study's trial": (["--trial", "t/one"], "unknown trial 't/one': did you mean 's/one'? valid: s/one, s/two"),
    "among the notebooks": (["--results", ".", "--run", "notebooks"], "is among the sources"),
    "below the notebooks": (["--results", "notebooks"], "is among the sources"),
    "in the repository": (["--results", "."], "is among the sources"),
    "above the repository": (["--results", "..", "--run", "p"], "is among the sources"),
    "among the tests": (["--results", "tests/x"], "is among the sources"),
    "nobody's home": (["--results", "~nobody-of-that-name/x"], "no such user's home"),
    "undecodable": (["--results", "x\udcff"], "cannot be decoded"),
    "no data": (["--dataset", "kmnist"], "DATASET=kmnist: no files in"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_written(project, monkeypatch, capsys, case):
    """Attacks 19 and 20: exit code 2 within 2 s of processor time, one line that says what is valid, and no file."""
    monkeypatch.chdir(project.path)
    monkeypatch.setattr(request_module, "MIRROR", ("127.0.0.1", 1))
    monkeypatch.setenv("S6_DATA_DIR", str(project.path / "no data"))
    words, message = REFUSED[case]
    before, start = sorted(project.path.rglob("*")), time.process_time()
    assert main(["run", *words]) == 2
    assert time.process_time() - start < 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert [path for path in sorted(project.path.rglob("*")) if path.name != "results"] == before


SLIPS = {
    "regularisers = 5": "studies.regularisers = 5; expected a table",
    'regularisers = { bn = "x.ipynb" }': 'studies.regularisers.bn = "x.ipynb"; expected a table',
    "regularisers = { bn = { notebook = 5 } }": "expected notebook = ..., parameters = {...}; found notebook",
    'regularisers = { bn = { notebook = "x", quick = 3 } }': "studies.regularisers.bn.quick = 3; expected a table",
    'regularisers = { bn = { notebook = "x", parameters = [] } }': "studies.regularisers.bn.parameters = []; expected",
}


@pytest.mark.parametrize("line", SLIPS)
def test_a_slip_in_studies_toml_is_named(tmp_path, line):
    file = tmp_path / "studies.toml"
    file.write_text(f"[profiles.quick]\nseeds = 1\n[studies]\n{line}\n")
    with pytest.raises(PlanError, match=re.escape(SLIPS[line])):
        make_plan(file, "quick")


def test_profiles_that_are_no_tables_and_other_letters(tmp_path):
    file = tmp_path / "studies.toml"
    file.write_text('profiles = "quick"\nstudies = {}\n')
    with pytest.raises(PlanError, match='profiles = "quick"; expected a table'):
        make_plan(file, "quick")
    file.write_bytes("# é".encode("latin-1"))
    with pytest.raises(PlanError, match=re.escape(str(file))):
        make_plan(file, "quick")


def test_an_empty_sweep_is_refused(project):
    with pytest.raises(PlanError, match=r"lambdas=\[\] is empty; valid: a list of one or more"):
        plan.check_ranges("s/one", {"lambdas": [], "seeds": 1})


def test_an_empty_option_is_its_default():
    words = ["run", "--retries", "", "--worker-wait", "", "--time-limit", "", "--jobs", ""]
    request = make_request(parser().parse_args(words))
    assert (request.retries, request.worker_wait, request.time_limit, request.jobs) == (1, 60.0, None, None)


def test_a_trial_s_own_parameters_do_not_reach_the_others(tmp_path, monkeypatch):
    # The summary asks how far the others are, whose notebooks may not have the parameter; SEEDS is for all of them.
    overrides = {"ghost_splits": 4, "seeds": 3}
    request = request_module.Request(ROOT / "studies.toml", "full", "regularisers", "gbn", overrides, tmp_path)
    seen = {}
    monkeypatch.setattr(runner, "state_of", lambda run, _: seen.update({run.trial: run.settings}))
    runner.Batch(request, request.plan(), 1, progress.Display())._states()
    assert set(seen) == {run.trial for run in make_plan(ROOT / "studies.toml", "full", "regularisers")}
    assert {settings["seeds"] for settings in seen.values()} == {3}
    assert [name for name, settings in seen.items() if settings.get("ghost_splits") == 4] == ["gbn"]


def test_a_missing_tutorial_is_named_before_anything_runs(project, monkeypatch, capsys):
    monkeypatch.chdir(project.path)
    file = project.path / "studies.toml"
    file.write_text(file.read_text() + '[tutorials]\nfirst = "frist.ipynb"\n')
    assert main(["run"]) == 2
    assert "frist.ipynb: cannot be read" in capsys.readouterr().err
    assert not project.results.exists()


RIGHT = [(1, "float"), (None, "int | None"), ([1], "list[int]"), ([1], "tuple[int, ...]"), ([1], "int | list[int]")]
WRONG = [(1.5, "int"), (True, "int"), (None, "float"), ("1", "int | list[int]"), (1, "str")]


def test_types():
    assert all(fits(value, annotation) for value, annotation in RIGHT)
    assert not any(fits(value, annotation) for value, annotation in WRONG)


def test_every_listed_notebook_is_there():
    """studies.toml and notebooks/ agree, with both profiles."""
    for profile in ("quick", "full"):
        assert make_plan(ROOT / "studies.toml", profile)


# --- what is done --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A project whose trials have run; copied, not changed, by the tests."""
    trials = {"one": (TRIVIAL, {}), "many": (SWEEP, {}), "diverged": (TRIVIAL, {"behaviour": "diverge"})}
    made = Project(tmp_path_factory.mktemp("finished") / "p", **trials)
    made.output = made.run("run", "--jobs", "2")
    yield made
    made.close()


@pytest.fixture
def done(finished, tmp_path):
    """A private copy of the finished run: (the run of trial `one`, results folder)."""
    shutil.copytree(finished.results, tmp_path / "quick")
    return make_plan(finished.path / "studies.toml", "quick", trials="one")[0], tmp_path / "quick"


@pytest.mark.slow
def test_layout(finished):
    """A part per trial and seeds, a folder per run, a link to the notebook; summary and log beside; nothing else."""
    assert finished.finished() == ["s/diverged", "s/many", "s/one"]
    assert [part.split(".")[0] for part in finished.parts()] == [
        f"s/{name}/seeds-0-1" for name in ("diverged", "high", "low", "one")
    ]
    assert {path.name for path in finished.results.iterdir()} == {"s", "summary.ipynb", "asked.json", "batch.log"}
    names = {path.name.split(".")[0] for path in (finished.results / "s/one").iterdir()}
    assert names == {"seeds-0-1", "run", "notebook"}
    assert (finished.results / "s/one/notebook.ipynb").resolve().parent == finished.last_run("one")
    info = json.loads((finished.last_run("one") / "run.json").read_text())
    assert (info["attempt"], info["parts"]) == (1, [part for part in finished.parts() if "/one/" in part])
    assert finished.leftovers() == []


@pytest.mark.slow
def test_output_of_a_batch(finished):
    lines = finished.output.splitlines()
    assert lines[0].startswith("profile quick: data set digits, 3 trials, JOBS=2")
    assert re.search(r"\[3/3\] s/\w+  ran in \d+ s", finished.output)
    assert "s/diverged  diverged" in finished.output
    assert "seed 1 at epoch 2, step 5" in finished.output
    assert re.search(r"s/one +ran +\d+ +90.50", finished.output)
    assert (finished.results / "batch.log").read_text().endswith(f"{lines[-1]}\n")
    assert lines[-1] == "3 in all: 2 ran, 0 skipped, 0 stale, 1 diverged, 0 failed"


@pytest.mark.slow
def test_second_run_skips_everything(finished):
    made = (finished.results / "summary.ipynb").stat().st_mtime_ns
    output = finished.run("run", "--trial", "one,s/many")
    assert (finished.results / "summary.ipynb").stat().st_mtime_ns == made
    assert output.splitlines()[-1] == "2 in all: 0 ran, 2 skipped, 0 stale, 0 diverged, 0 failed"


@pytest.mark.slow
def test_state_done_and_missing(done):
    run, results = done
    assert state_of(run, results).kind == "done"
    assert state_of(run, results / "elsewhere").kind == "missing"


@pytest.mark.slow
def test_other_parameters_are_another_run(done):
    run, results = done
    other = dataclasses.replace(run, settings={**run.settings, "epochs": 3})
    state = state_of(other, results)
    assert (state.kind, state.reason) == ("missing", "is there with other parameters: epochs 2 -> 3")


@pytest.mark.slow
def test_changed_data_files_run_again(done, monkeypatch):
    run, results = done
    edit(run_file(results), data="old")
    monkeypatch.setattr(state_module, "data_fingerprint", lambda name: "new")
    assert state_of(run, results).reason == "the data files changed"


@pytest.mark.slow
def test_changed_code_is_only_stale(done, monkeypatch):
    """What is there is kept and the reason shown."""
    run, results = done
    monkeypatch.setattr(records, "is_stale", lambda head: True)
    state = state_of(dataclasses.replace(run, code="other"), results)
    assert state.kind == "stale"
    assert state.reason == "the notebook's code changed and the library's training code changed"


def run_file(results: Path, name: str = "run.json") -> Path:
    """A file of the only run, or the only part, of trial `one`."""
    folder = "run.*" if name == "run.json" else "seeds-*"
    return next((results / "s/one").glob(f"{folder}/{name}"))


def edit(file: Path, **values) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


DAMAGE = {
    "torn predictions": ("predictions.npz", lambda b: b[:100]),
    "edited history": ("history.csv", lambda b: b.replace(b"90.0", b"99.9")),
    "edited record": ("record.json", lambda b: b.replace(b"digits", b"DIGITS")),
    "empty run.json": ("run.json", lambda b: b""),
    "foreign run.json": ("run.json", lambda b: b'{"hello": 1}'),
    "run.json is a list": ("run.json", lambda b: b"[]"),
    "missing run.json": ("run.json", None),
    "escape codes": ("run.json", lambda b: b"\x1b]0;title\x07" + b),
    "missing weights": ("weights.safetensors", None),
    "seconds of text": ("run.json", lambda b: b.replace(b'"seconds": ', b'"seconds": "x", "was": ')),
    "parts of another folder": ("run.json", lambda b: b.replace(b"s/one/", b"../../")),
    "parts without a key": ("run.json", lambda b: re.sub(rb's/one/[^"]*', b"seeds-0-1", b)),
    "parts of numbers": ("run.json", lambda b: b.replace(b'"parts": [', b'"parts": [1, ')),
    "diverged of text": ("record.json", lambda b: b.replace(b'"diverged": []', b'"diverged": "all"')),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(done, case):
    """Attack 13: a state and the file's name, never a traceback; what is printed is plain text."""
    run, results = done
    name, change = DAMAGE[case]
    file = run_file(results, name)
    content = file.read_bytes()
    file.unlink() if change is None else file.write_bytes(change(content))
    state = state_of(run, results)
    assert state.kind == "damaged"
    assert state.reason.isprintable()
    assert str(file) in state.reason


@pytest.mark.slow
def test_notebook_prose_and_parameters_are_not_code(finished, tmp_path):
    """Mending the text of a notebook makes nothing stale; changing a code cell does."""
    book = json.loads((finished.path / "notebooks" / TRIVIAL).read_text())
    hashes = []
    for i, text in ((None, ""), (0, "other prose"), (-1, "x = 1")):
        if i is not None:
            book["cells"][i]["source"] = text
        file = tmp_path / f"{len(hashes)}.ipynb"
        file.write_text(json.dumps(book))
        hashes.append(read_notebook(file)[1])
    assert hashes[0] == hashes[1] != hashes[2]


# --- one batch with every kind of end ------------------------------------------------------------


@pytest.mark.slow
def test_failures_have_reasons_and_do_not_stop_the_batch(tmp_path):
    trials = {
        word: (TRIVIAL, {"behaviour": word.replace("_", " ")})
        for word in ("error", "exit", "kill", "no_record", "torn")
    }
    project = Project(tmp_path / "p", **trials, once=(TRIVIAL, {"behaviour": "kill once"}), fine=(TRIVIAL, {}))
    output = project.run("run", "--jobs", "2", code=1)
    assert output.splitlines()[-1] == "7 in all: 2 ran, 0 skipped, 0 stale, 0 diverged, 5 failed"
    assert project.finished() == ["s/fine", "s/once"]
    for reason in (
        "s/error  FAILED after .* ValueError: far too red",
        "s/exit  FAILED after .* ended without saving a record; cells that never ran: 1",
        "s/kill  FAILED after .* the kernel died",
        "s/no_record  FAILED after .* ended without saving a record",
        "s/torn  FAILED after .*/predictions.npz: changed or truncated",
    ):
        assert re.search(reason, output), output
    assert "\x1b" not in output
    assert "| ValueError: far too red" in output
    assert f"notebook: {project.results}/.failed/s/error/notebook.ipynb" in output
    assert json.loads((project.last_run("once") / "run.json").read_text())["attempt"] == 2
    status = project.run("status")
    assert "s/error      failed       ValueError: far too red" in status
    project.write(error=(TRIVIAL, {}))
    project.run("run")
    assert not (project.results / ".failed/s/error").exists()
    project.close()


@pytest.mark.slow
def test_time_limits(tmp_path):
    project = Project(tmp_path / "p", slow=(TRIVIAL, {"behaviour": "sleep"}))
    assert "the notebook ran longer than 3 s" in project.run("run", "--time-limit", "3", code=1)
    assert "a cell ran longer than 2 s" in project.run("run", "--cell-timeout", "2", code=1)
    project.close()


@pytest.mark.slow
def test_seeds_are_added_and_stale_runs_kept(tmp_path):
    """SEEDS=2 then SEEDS=3: one more part; a notebook changed later is stale, run again it trains nothing."""
    project = Project(tmp_path / "p", train=(TRAIN, {"epochs": 1, "images": 128}))
    project.run("run", "--seeds", "2")
    two = project.history("train")
    output = project.run("run", "--seeds", "3")
    assert "is there with other parameters: seeds 2 -> 3" in output
    three = project.history("train")
    assert sorted(set(three.seed)) == [0, 1, 2]
    assert three[three.seed < 2].reset_index(drop=True).equals(two)
    notebook = project.path / "notebooks" / TRAIN
    notebook.write_text(notebook.read_text().replace("100)", "100)  # as before"))
    assert "1 stale" in project.run("run", "--seeds", "3").splitlines()[-1]
    assert "1 ran" in project.run("run", "--seeds", "3", "--stale", "rerun").splitlines()[-1]
    assert [part.split("/")[-1].split(".")[0] for part in project.parts()] == ["seeds-0-1", "seeds-2"]
    assert project.leftovers() == []
    project.close()


@pytest.mark.slow
def test_workers_of_a_notebook(tmp_path):
    """A kernel's training dealt over two processes: a part each, claimed by the run, and nothing is left over."""
    project = Project(tmp_path / "p", train=(TRAIN, {"epochs": 1, "images": 128, "workers": 2}))
    project.run("run")
    assert [part.split("/")[-1].split(".")[0] for part in project.parts()] == ["seeds-0", "seeds-1"]
    assert sorted(set(project.history("train").seed)) == [0, 1]
    assert project.leftovers() == []
    project.close()


@pytest.mark.slow
def test_prune_lists_then_deletes_what_no_trial_asks_for(tmp_path):
    """Another SEEDS, then back: the part only the other one used is listed with its size; the user's files stay."""
    project = Project(tmp_path / "p", train=(TRAIN, {"epochs": 1, "images": 128}))
    project.run("run", "--seeds", "3")
    project.run("run", "--epochs", "2")
    notes = project.results / "regularisers/bn/notes.txt"
    notes.write_text("mine")
    project.write(train=(TRAIN, {"epochs": 2, "images": 128}))
    before = project.parts()
    listed = project.run("prune")
    assert re.search(r"MB  regularisers/bn/seeds-0-2\.", listed)
    assert "2 folders not asked for; YES=1 deletes them" in listed
    assert project.parts() == before
    project.run("prune", "--yes")
    assert [part.split("/")[-1].split(".")[0] for part in project.parts()] == ["seeds-0-1"]
    assert notes.read_text() == "mine"
    assert "1 skipped" in project.run("run")
    project.run("clean")
    assert [path.name for path in project.results.rglob("*") if path.is_file()] == ["notes.txt"]
    project.close()


# --- small parts ---------------------------------------------------------------------------------


def test_escapes_and_control_characters_go():
    assert records.plain_text("\x1b[31mred\x1b[0m\x07 \x1b]0;title\x07a\rb\u202e\n") == "red ab\n"


def test_gpus_are_shared_out_one_per_slot(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert pool.gpus() == ["2", "5"]
    threads = pool.LocalPool(4)
    assert [threads.slots.get() for _ in range(4)] == ["2", "5", "2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pool.gpus() == []


def test_parts_of_a_gpu_are_not_counted_as_gpus(monkeypatch):
    listed = (
        "GPU 0: NVIDIA H100 (UUID: GPU-1)\n  MIG 1g.10gb Device 0: (UUID: MIG-1)\nGPU 1: NVIDIA H100 (UUID: GPU-2)\n"
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(pool.shutil, "which", lambda name: name)
    monkeypatch.setattr(pool.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=listed))
    assert pool.gpus() == ["0", "1"]


def test_a_cluster_whose_workers_have_gone_still_has_a_width():
    gone = SimpleNamespace(client=SimpleNamespace(nthreads=dict))
    assert Cluster.width(gone) == 1


def some_runs(count: int, seeds: int = 5) -> list[plan.Run]:
    return [plan.Run("s", f"t{i}", Path("x"), {}, {"seeds": seeds, "dataset": "digits"}, "") for i in range(count)]


@pytest.mark.parametrize(
    ("cores", "trials", "asked", "jobs", "workers"),
    [
        (2, 8, {}, 2, 1),
        (2, 1, {}, 1, 2),
        (8, 8, {}, 4, 2),
        (64, 1, {}, 1, 64),
        (64, 32, {}, 12, 5),  # a core per seed
        (8, 8, {"jobs": 2}, 2, 4),
        (8, 1, {"jobs": 4}, 1, 8),
        (8, 8, {"workers": 4}, 2, 4),
        (8, 8, {"workers": 16}, 1, 16),  # as asked for
    ],
)
def test_trials_and_their_workers_share_the_cores(monkeypatch, cores, trials, asked, jobs, workers):
    # Never more busy threads than cores, unless that is asked for, and no core idle by default; the headline says it.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for module in (request_module, runner, pool):
        monkeypatch.setattr(module, "cores", lambda: cores)
    request, runs = request_module.Request(**asked), some_runs(trials)
    assert request_module.trials_at_a_time(request, runs) == jobs
    assert request_module.workers_each(request, jobs) == workers
    assert f"JOBS={jobs} of up to {workers} worker" in request_module.headline(request, runs)
    spec = runner.Batch(request, runs, jobs, progress.Display())._common(Path("x"))
    assert (spec["threads"], spec["workers"]) == (max(1, cores // jobs), workers)


def test_a_child_is_told_its_share(tmp_path, monkeypatch):
    # What the user has set stays; a worker of Dask, elsewhere, has as many workers as threads.
    spec = {"results": str(tmp_path), "name": "s/t", "data_dir": "", "threads": 4, "workers": 3}
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    new = attempt.environment(spec, tmp_path, tmp_path, None)
    assert (new["OMP_NUM_THREADS"], new["S6_WORKERS"]) == ("4", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    new = attempt.environment({**spec, "workers": 0}, tmp_path, tmp_path, None)
    assert (new["OMP_NUM_THREADS"], new["S6_WORKERS"]) == ("2", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")  # OpenMP: outer and inner loops
    new = attempt.environment({**spec, "workers": 0}, tmp_path, tmp_path, None)
    assert (new["OMP_NUM_THREADS"], new["S6_WORKERS"]) == ("4,2", "4")


def test_a_summary_that_succeeds_is_no_longer_failed(tmp_path, monkeypatch):
    spec = {"results": str(tmp_path), "name": "summary", "target": str(tmp_path / "summary.ipynb"), "part": None}
    failed = tmp_path / ".failed/summary"
    failed.mkdir(parents=True)
    (failed / "log.txt").write_text("before")

    def run_child(_, folder, __):
        (folder / "notebook.ipynb").write_text("{}")
        return {"kind": "ok"}

    monkeypatch.setattr(attempt, "run_child", run_child)
    assert attempt.attempt(spec, 1, None)["kind"] == "done"
    assert Path(spec["target"]).exists()
    assert not failed.exists()


def test_a_study_named_twice_runs_once():
    once = make_plan(ROOT / "studies.toml", "quick", "regularisers")
    assert [run.name for run in make_plan(ROOT / "studies.toml", "quick", "regularisers,regularisers")] == [
        run.name for run in once
    ]


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_a_part_is_what_the_notebook_would_train(profile, monkeypatch):
    """For every trial notebook, with settings of its own too: the trial that its cells make is the task's."""
    asked: list = []
    monkeypatch.setattr(training, "train", lambda *words, **options: asked.append((words, options)))
    monkeypatch.setattr(data, "load", lambda name: f"images of {name}")
    for run in make_plan(ROOT / "studies.toml", profile, overrides={"epochs": 3, "seeds": 40}):
        assert can_be_split(run) == (run.notebook.parent.name in shared_cells.FOLDERS), run.name
        if can_be_split(run):
            names = {"make_trial": make_trial, **run.settings}
            exec(plan.source(shared_cells.cells(run.notebook)["trial"]), names)
            assert train_part(json.loads(json.dumps(part_of(run, [4, 5])))) == ("ok", "")
            words = names["trial"], f"images of {run.settings['dataset']}", [4, 5]
            assert asked.pop() == (words, {"precision": run.settings["precision"]})


def test_seeds_are_split_evenly_and_only_to_keep_workers_busy(tmp_path):
    # 1,000 seeds on 16 workers: 63 tasks; two trials of five on four: three and two; more trials than workers: none.
    notebook = ROOT / "notebooks/regularisers/bn.ipynb"
    runs = [plan.Run("regularisers", name, notebook, {}, {"seeds": 1000}, "") for name in ("bn", "gbn")]
    groups = chunks(runs[:1], 16)["regularisers/bn"]
    assert [seed for group in groups for seed in group] == list(range(1000))
    assert {len(group) for group in groups} == {16, 8}
    few = [dataclasses.replace(run, settings={"seeds": 5}) for run in runs]
    assert list(chunks(few, 4).values()) == [[[0, 1, 2], [3, 4]], [[0, 1, 2], [3, 4]]]
    assert chunks(few, 2) == {}
    assert chunks([dataclasses.replace(runs[0], trial="own")], 16) == {}
    assert chunks([dataclasses.replace(runs[0], notebook=ROOT / "tests/fixtures" / TRAIN)], 16) == {}


def test_a_part_that_cannot_be_trained_says_why(capsys):
    part = {"study": "regularisers", "trial": "bn", "settings": {"dataset": "none", "epochs": 1}, "seeds": [0]}
    kind, reason = train_part(part)
    assert kind == "code"
    assert reason.startswith("DataError: unknown dataset 'none'")
    assert "Traceback" in capsys.readouterr().err


def beat_of(silent: float) -> dict:
    """2 of 8 epochs of 20 s, the last of which ended `silent` seconds ago."""
    beaten = {"started": time.time() - 45, "beaten": time.time() - silent}
    return {"trial": "rms", "epoch": 2, "epochs": 8, "seconds": 20.0, "more": False, **beaten}


def test_time_left():
    """4 waiting trials of 100 s and 6 epochs of 20 s (3 s to end), two at a time."""
    assert progress.total_left([beat_of(0)], 4, 100.0, 2) == pytest.approx((123 + 400) / 2, abs=0.1)
    assert progress.total_left([], 4, None, 2) is None


def test_an_epoch_under_way_counts_once():
    assert progress.left(beat_of(15), None) == pytest.approx(123 - 15, abs=0.1)
    assert progress.left(beat_of(1000), None) == pytest.approx(123 - 20, abs=0.1)


def test_an_epoch_that_does_not_end_is_said():
    assert progress.describe("more/rms", beat_of(40)) == "more/rms  epoch 2/8 [##........] 45 s"
    assert progress.describe("more/rms", beat_of(600)).endswith("45 s, no epoch ended for 10 min")


def test_a_notebook_with_more_arms_to_train_gives_a_lower_bound():
    # its heartbeat is of the training under way alone
    assert progress.more_arms("progression/gn_groups", "groups_4")
    assert not progress.more_arms("normalisers/l1_lambda", ", ".join(trained_by("normalisers/l1_lambda")))
    assert not any(progress.more_arms(name, "") for name in ("more/rms", "mine/own", "odd"))
    beat = beat_of(0) | {"trial": "groups_4", "more": True}
    assert progress.describe("progression/gn_groups", beat).startswith("progression/gn_groups (groups_4)  epoch 2/8 ")
    assert progress.remaining(60, [beat, beat_of(0)]) == "at least 60 s left"
    assert progress.remaining(60, [beat_of(0)]) == "about 60 s left"
    assert progress.remaining(None, [beat]) == ""


def test_sockets_get_a_short_path(tmp_path):
    folder = tmp_path / ("long" * 40) / "attempt-x"
    assert len(str(folders.socket_folder(folder))) < 60
    assert folders.socket_folder(folder) == folders.socket_folder(folder)


def test_all_of_our_own_workers_are_waited_for():
    # Else how a trial is split would depend on which of them was there first.
    assert [expected(scheduler) for scheduler in ("local:3", "tcp://host:1", "slurm")] == [3, 1, 1]


def test_slurm_jobs_use_tls_and_the_given_network(tmp_path):
    """The job script of the example file, with an interface that this machine has; no SLURM needed to write it."""
    pytest.importorskip("dask_jobqueue")
    from dask_jobqueue.slurm import SLURMJob

    text = (ROOT / "cluster/slurm.toml").read_text()
    options = {key: value for key, value in plan.tomllib.loads(text).items() if key != "jobs"}
    script = SLURMJob("tls://10.0.0.1:8786", name="s6", **{**options, "interface": "lo"}).job_script()
    assert "#SBATCH -p normal" in script
    assert "--lifetime 465m" in script
    (tmp_path / "bad.toml").write_text("jobs = 2\n")
    with pytest.raises(PlanError, match="must name jobs and interface"):
        start(f"slurm:{tmp_path / 'bad.toml'}", tmp_path, [])
