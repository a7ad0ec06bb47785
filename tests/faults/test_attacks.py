"""What an earlier design did not survive, each as it happened: `Attack N` is its number in docs/reliability.md."""

import errno
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest
from arena import FULL, ROUNDS, Dask, kill, only_full
from batch_project import TRAIN, TRIVIAL, Project, until
from table import PAGE, page, shown_by

from s6lib import data, records, training
from s6lib.batch import attempt, folders, progress, runner
from s6lib.batch.plan import PlanError
from s6lib.training.trainer import Trainer
from s6lib.trial import make_trial

ROOT = Path(__file__).parents[2]
TRIAL = make_trial("regularisers", "bn", epochs=4, rotation=0.0)


@pytest.fixture
def few():
    return data.limit(data.load("digits"), 32, 10)


@pytest.fixture
def trained(monkeypatch):
    """The (seed, epoch) pairs that are trained, in order."""
    seen, run_epoch = [], Trainer.run_epoch

    def counted(self):
        run_epoch(self)
        seen.extend((seed, self.epoch) for seed in self.seeds)

    monkeypatch.setattr(Trainer, "run_epoch", counted)
    return seen


# --- nothing is lost -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_file_added_to_the_data_folder(one):
    """Attack 1: the notebook runs once more, then all is done; it does not run for ever."""
    raw = one.path / "data/MNIST/raw"
    raw.mkdir(parents=True)
    (raw / "train-ubyte").write_text("images")
    one.environment["S6_DATA_DIR"] = str(one.path / "data")
    assert "1 ran" in one.run("run", "--dataset", "mnist")
    (raw / "more-ubyte").write_text("added")
    output = one.run("run", "--dataset", "mnist")
    assert "the data files changed" in output
    assert "1 ran" in output
    assert "1 skipped" in one.run("run", "--dataset", "mnist")
    assert len(one.parts()) == 1


def test_seeds_and_epochs_up_and_down(few, trained):
    """Attacks 2 and 4: SEEDS 6, 2, 4, 6 and EPOCHS 2, 1, 2 train every seed once per setting and delete nothing."""
    made = [
        training.train(make_trial("regularisers", "bn", epochs=epochs), few, seeds)
        for seeds, epochs in ((6, 2), (2, 2), (4, 2), (6, 2), (2, 1), (2, 2))
    ]
    assert trained == [(s, e) for e in (1, 2) for s in range(6)] + [(0, 1), (1, 1)]
    assert [len(record.seeds) for record in made] == [6, 2, 4, 6, 2, 2]
    assert made[3].history.equals(made[0].history)


@only_full
def test_seeds_and_epochs_up_and_down_in_a_batch(tmp_path):
    """Attacks 2 and 4: the same with real batches; every part that was ever there stays as it was."""
    project = Project(tmp_path / "p", train=(TRAIN, {"images": 64}))
    seen: dict[str, bytes] = {}
    for words in ("--seeds 6", "--seeds 2", "--seeds 4", "--seeds 6", "--epochs 1", "--epochs 2", "--epochs 1"):
        project.run("run", *words.split())
        now = {part: (project.results / part / "record.json").read_bytes() for part in project.parts()}
        assert seen.items() <= now.items()
        seen = now
    assert sorted(Path(part).name.split(".")[0] for part in seen) == ["seeds-0-1", "seeds-0-5"]
    project.close()


@pytest.mark.slow
def test_notes_of_the_user(one, tmp_path):
    """Attacks 3 and 12: a user's files among the results, a `.replaced` that is a link: runs touch neither."""
    notes, outside = one.results / "s/one/notes.txt", tmp_path / "outside"
    notes.parent.mkdir(parents=True)
    outside.mkdir()
    (outside / "mine").write_text("mine")
    notes.write_text("mine")
    (one.results / ".replaced").symlink_to(outside)
    one.run("run")
    assert "1 ran" in one.run("run", "--seeds", "3")
    assert notes.read_text() == (outside / "mine").read_text() == "mine"


def test_another_data_set_in_a_notebook(few, trained):
    """Attack 6: a brief try with other data is another part; the first record stays, byte for byte."""
    first = training.train(TRIAL, few, 2)
    before = {file: file.read_bytes() for file in first.path.rglob("*") if file.is_file()}
    training.train(TRIAL, data.limit(few, 16, 10), 2)
    assert {file: file.read_bytes() for file in before} == before
    del trained[:]
    assert training.train(TRIAL, few, 2).history.equals(first.history)
    assert trained == []


def interrupt_after(monkeypatch, epochs: int) -> None:
    """Stops the next training, as Ctrl-C does, when it has trained so many epochs."""
    run_epoch = Trainer.run_epoch

    def stopping(self):
        if self.epoch == epochs:
            monkeypatch.setattr(Trainer, "run_epoch", run_epoch)
            raise KeyboardInterrupt
        run_epoch(self)

    monkeypatch.setattr(Trainer, "run_epoch", stopping)


def test_a_cell_stopped_and_run_again(few, trained, monkeypatch):
    """Attack 6: stopped after epoch 3 of 4 it goes on at 4; the history is that of an undisturbed training."""
    whole = training.train(TRIAL, few, 2, save=False)
    del trained[:]
    interrupt_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        training.train(TRIAL, few, 2)
    again = training.train(TRIAL, few, 2)
    assert trained == [(s, e) for e in (1, 2, 3, 4) for s in (0, 1)]
    assert again.history.drop(columns="seconds").equals(whole.history.drop(columns="seconds"))
    assert not list(Path(os.environ["S6_LAB"]).rglob(".*"))


DAMAGE = {
    "a bit": lambda b: b[:-100] + bytes([b[-100] ^ 1]) + b[-99:],
    "its epoch": lambda b: b.replace(b'"epoch": 3', b'"epoch": 2', 1),
    "a key": lambda b: b.replace(b"net/", b"nut/", 1),
    "torn": lambda b: b[:1000],
    "empty": lambda b: b"",
}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_checkpoint(few, trained, monkeypatch, capsys, case, count):
    """Attack 7: named and set aside; training goes on from the one before, or anew, to the undisturbed history."""
    whole = training.train(TRIAL, few, 2, save=False)
    interrupt_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        training.train(TRIAL, few, 2)
    files = sorted(Path(os.environ["S6_LAB"]).rglob("*.checkpoint"))
    assert len(files) == 2
    damaged = [file for file in files[-count:] if DAMAGE[case](file.read_bytes()) != file.read_bytes()]
    for file in damaged:
        file.write_bytes(DAMAGE[case](file.read_bytes()))
    del trained[:]
    again = training.train(TRIAL, few, 2)
    assert again.history.drop(columns="seconds").equals(whole.history.drop(columns="seconds"))
    assert trained[0] == (0, 4 - len(damaged) if len(damaged) < 2 else 1)
    said = capsys.readouterr().out
    assert all(f"{file}: damaged" in said for file in damaged)


# --- locks -----------------------------------------------------------------------------------------

HOLDER = """
import sys, time; from pathlib import Path; from s6lib.batch import folders
with folders.locked(Path(sys.argv[1])): print("held", flush=True); time.sleep(60)
"""


@pytest.fixture
def held(tmp_path):
    """An attempt's folder that another process works in."""
    folder = tmp_path / "run/.work/s/one/attempt-1"
    folder.mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder / "lock")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline() == "held\n"
    yield folder, process
    process.kill()
    process.wait()
    process.stdout.close()


def nfs(handle, operation: int) -> None:
    """NFS refuses an exclusive lock on a descriptor that is open for reading only."""
    mode = fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE
    if operation & fcntl.LOCK_EX and mode == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    FLOCK(handle, operation)


FLOCK = fcntl.flock


def test_locks_on_nfs(held, monkeypatch):
    """Attack 8: a live attempt is seen, and not cleared away; once its process is dead, it is."""
    folder, process = held
    monkeypatch.setattr(fcntl, "flock", nfs)
    folders.remove_stale_attempts(folder.parents[3])
    assert folders.in_use(folder / "lock")
    assert folder.exists()
    process.kill()
    process.wait()
    folders.remove_stale_attempts(folder.parents[3])
    assert not folder.exists()


def no_locks(*_) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_no_locks_at_all(held, tmp_path, monkeypatch):
    """Attack 18: says what to do and goes on with leases, which tell the living from the dead."""
    folder, process = held
    monkeypatch.setattr(fcntl, "flock", no_locks)
    said: list[str] = []
    with folders.run_lock(tmp_path / "results", False, said.append):
        assert "No locks available" in said[0]
        assert "lock service" in said[0]
    assert not (tmp_path / "results").exists()
    said.clear()
    with pytest.raises(PlanError, match="in use"):
        folders.acquire(folder / "lock", False, said.append, wait=False)
    assert len(said) == 1  # and says it once, however long it waits
    assert folders.in_use(folder / "lock")
    process.kill()
    process.wait()
    assert not folders.in_use(folder / "lock")


def test_a_lease_of_another_machine(tmp_path, monkeypatch):
    """Attack 8: a process elsewhere is known by its signs of life only, whatever its number is here."""
    monkeypatch.setattr(fcntl, "flock", no_locks)
    lock = tmp_path / "lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": 1, "boot": "x"}) + "\n")
    assert folders.in_use(lock)
    os.utime(lock, (time.time() - 2 * folders.STALE,) * 2)
    assert not folders.in_use(lock)


def test_links_to_folders_outside(tmp_path):
    """Attack 22: nothing that is reached through a symbolic link is deleted."""
    outside, results = tmp_path / "outside", tmp_path / "run"
    for name in ("attempt-1", "checkpoints", "x/attempt-2", "one/checkpoints"):
        (outside / name).mkdir(parents=True)
    (results / ".work").mkdir(parents=True)
    for name in ("s", "t"):
        (results / ".work" / name).symlink_to(outside)
    before = sorted(outside.rglob("*"))
    os.utime(outside / "attempt-1", (1, 1))
    os.utime(outside / "x/attempt-2", (1, 1))
    folders.remove_stale_attempts(results)
    folders.remove(results / ".work/s/checkpoints", results)
    folders.remove(results / ".work/s", results)
    assert sorted(outside.rglob("*")) == before


# --- terminals -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_nohup(one):
    """Attack 5: SIGHUP that the caller ignores stays ignored; the batch ends by itself."""
    runner = one.start("run", prefix=("nohup",))
    assert until(lambda: one.processes("s6lib.batch.child"))
    runner.send_signal(signal.SIGHUP)
    output, _ = runner.communicate(timeout=60)
    assert runner.returncode == 0, output
    assert one.finished() == ["s/one"]


@pytest.mark.slow
def test_a_reader_that_leaves(one):
    """Attack 11: piped into head: the batch goes on, its log is in the run folder, exit code 0."""
    command = f'"{sys.executable}" -m s6lib run | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], cwd=one.path, env=one.environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert one.finished() == ["s/one"]
    assert "1 in all: 1 ran" in (one.results / "batch.log").read_text()


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_terminal_of_few_letters_or_a_full_disk(tmp_path, encoding):
    """Attack 11: a path in other letters is printed as far as it goes; a full disk ends nothing."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    progress.Display(stream, tmp_path / "batch.log").line("Ünï 試験")
    stream.seek(0)
    assert stream.read().strip() == ("Ünï 試験" if encoding == "utf-8" else r"\xdcn\xef \u8a66\u9a13")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        display = progress.Display(full, tmp_path / "batch.log")
        display.line("more")
        display.line("and more")
    assert (tmp_path / "batch.log").read_text().endswith("more\nand more\n")


@pytest.mark.slow
def test_cleaning_while_someone_works(one):
    """Attack 17: `make clean` refuses, naming the process, and removes nothing."""
    one.write(one=(TRIVIAL, {"behaviour": "sleep"}))
    runner = one.start("run")
    assert until(lambda: one.processes("s6lib.batch.child"))
    for command in ("clean", "prune"):
        assert f"is in use by process {runner.pid}" in one.run(command, code=2)
    assert one.processes("s6lib.batch.child")
    runner.terminate()
    runner.communicate(timeout=30)
    one.run("clean")
    assert not one.results.exists()


@pytest.mark.slow
def test_half_an_installation(tmp_path):
    """Attack 10: a .venv that was interrupted before it had pip is finished by the next make."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "requirements.lock").write_text("")
    (tmp_path / "pyproject.toml").write_text("not to be installed in this test")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=tmp_path, check=True)
    words = ["make", f"PYTHON={sys.executable}", ".venv/.ready"]
    output = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True).stderr
    assert "No module named pip" not in output
    subprocess.run([tmp_path / ".venv/bin/python", "-m", "pip", "--version"], check=True, capture_output=True)


# --- clusters --------------------------------------------------------------------------------------


def test_a_worker_with_other_software():
    """Attack 9: refused before it trains, with both versions."""
    spec = {"name": "s/one", "software": {**attempt.code_identity(), "torch": "1.0", "training code": "abc"}}
    outcome = attempt.execute(spec)
    assert outcome["kind"] == "software"
    assert f'"{attempt.code_identity()["torch"]}" -> "1.0"' in outcome["reason"]
    assert f'"{attempt.code_identity()["training code"]}" -> "abc"' in outcome["reason"]
    assert "nothing was trained there" in outcome["reason"]


class Forger:
    """An executor whose workers answer something else than they should."""

    def __init__(self, answer):
        self.answer = answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, spec: dict) -> Future:
        future: Future = Future()
        future.set_result(self.answer)
        return future

    def width(self) -> int:
        return 1

    def trouble(self) -> None:
        return None


ANSWERS = [
    ({"kind": "done", "reason": "", "seconds": 1.0}, "said to be done, but is missing on disk"),
    (None, "malformed answer of a worker: None"),
    ({"kind": "done", "seconds": "long", "reason": ""}, "malformed answer"),
    ({"kind": "\x1b[31mred", "reason": 3}, "malformed answer"),
]


@pytest.mark.parametrize(("answer", "message"), ANSWERS)
def test_forged_answers(one, monkeypatch, capsys, answer, message):
    """Attack 15: a run counts when its parts are on disk, whatever a worker says; exit code 1."""
    (one.path / "notebooks/summary.ipynb").unlink()
    monkeypatch.setattr(runner, "make_executor", lambda *_: Forger(answer))
    request = runner.Request(studies_file=one.path / "studies.toml", results=one.path / "results")
    assert runner.run(request) == 1
    assert message in capsys.readouterr().out


@pytest.mark.slow
def test_the_scheduler_is_killed(one):
    """Attack 16: the runner says what was lost and how to go on, exit code 1; no child is left after 30 seconds."""
    one.write(one=(TRIVIAL, {"behaviour": "sleep"}))
    dask = Dask(one)
    try:
        dask.worker()
        runner = one.start("run", "--scheduler", dask.address, "--worker-wait", "5")
        assert until(lambda: one.processes("ipykernel"), 60)
        kill([str(dask.processes[0].pid)])
        start = time.monotonic()
        output, _ = runner.communicate(timeout=60)
        assert runner.returncode == 1, output
        assert "unfinished: s/one" in output
        assert "The same command continues" in output
        assert "Traceback" not in output, output
        assert until(lambda: not one.processes("s6lib.batch.child") and not one.processes("ipykernel"), 30)
        assert time.monotonic() - start < 45
    finally:
        dask.close()


# --- many ------------------------------------------------------------------------------------------

WRITER = """
import sys; sys.path.insert(0, "tests")
from s6lib import data, training; from s6lib.trial import make_trial
few = data.limit(data.load("digits"), 32, 10)
for seeds in (4, 8, 12): training.train(make_trial("regularisers", "bn", epochs=2), few, seeds)
"""


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(2 * ROUNDS if FULL else 1))
def test_two_add_parts_at_once_and_are_killed(tmp_path, few, dice, round_, monkeypatch):
    """Two processes add the same seeds side by side, one is killed: nothing lost, doubled or different."""
    monkeypatch.setenv("S6_LAB", str(tmp_path))
    whole = training.train(make_trial("regularisers", "bn", epochs=2), few, 12, save=False)
    command = [sys.executable, "-c", WRITER]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) for _ in range(2)]
    time.sleep(dice.uniform(2, 6))
    both[0].kill()
    assert [process.wait(120) for process in both][1] == 0
    record = training.train(make_trial("regularisers", "bn", epochs=2), few, 12)
    assert record.seeds == list(range(12))
    assert [line for line in records.find(tmp_path)[1] if "twice" not in line] == []
    columns = ["seed", "epoch", "test_accuracy"]
    assert record.history[columns].equals(whole.history[columns])


def test_the_page_names_every_attack_and_its_test():
    """docs/reliability.md is what `python tests/faults/table.py` writes."""
    assert PAGE.read_text(encoding="utf-8") == page()
    assert all(shown_by().values())
