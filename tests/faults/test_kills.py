"""kill -9 of every process of a batch at random moments: the batch, or its repetition, ends complete and equal."""

import signal
import subprocess
import time

import pytest
from arena import FULL, ROUNDS, Dask, check_complete, kill, only_full
from batch_project import until

pytestmark = pytest.mark.slow
SPAN = 9.0  # seconds from the first process to the last epoch, roughly


def finish(project, runner: subprocess.Popen) -> str:
    """Waits for the runner; a second one does what is left, if anything."""
    output, _ = runner.communicate(timeout=200)
    if runner.returncode:
        output += project.run("run", "--jobs", "2")
    return output


@pytest.mark.parametrize("round_", range(ROUNDS))
@pytest.mark.parametrize("victim", ["ipykernel_launcher", "s6lib.batch.child"] if FULL else ["ipykernel_launcher"])
def test_kernel_or_child(project, uninterrupted, dice, victim, round_):
    """The runner itself tries once more."""
    runner = project.start("run", "--jobs", "2")
    assert until(lambda: project.processes(victim))
    time.sleep(dice.uniform(0, SPAN))
    killed = kill(project.processes(victim))
    output = finish(project, runner)
    check_complete(project, uninterrupted)
    print("killed" if killed else "was too late to kill", victim)
    assert not killed or "2 ran" in output


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_runner(project, uninterrupted, dice, round_):
    """Children and kernels die with the runner; the next runner sweeps up and goes on."""
    runner = project.start("run", "--jobs", "2")
    time.sleep(dice.uniform(0.2, SPAN + 2))
    runner.kill()
    runner.communicate()
    assert until(lambda: not project.processes("s6lib") and not project.processes("ipykernel"), 5), "orphans"
    project.run("run", "--jobs", "2")
    check_complete(project, uninterrupted)


@pytest.mark.parametrize("round_", range(ROUNDS + 2 if FULL else ROUNDS))  # some come too late to kill
def test_dask_worker(project, uninterrupted, dice, round_):
    """Of two workers one is killed; its trial runs again, by its restarted self or by the other."""
    dask = Dask(project)
    dask.worker()
    dask.worker()
    try:
        runner = project.start("run", "--scheduler", dask.address)
        assert until(lambda: project.processes("s6lib.batch.child"))
        time.sleep(dice.uniform(0, SPAN))
        children = project.processes("s6lib.batch.child")
        killed = kill([parent(pid) for pid in children])
        finish(project, runner)
    finally:
        dask.close()
    check_complete(project, uninterrupted)
    print("killed" if killed else "was too late to kill", "a worker")


def parent(pid: str) -> str:
    """The worker that started a child."""
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rsplit(")", 1)[1].split()[1]


SIGNALS = [(signal.SIGTERM, 143), (signal.SIGINT, 130)]


@pytest.mark.parametrize(("number", "code"), SIGNALS if FULL else SIGNALS[:1])
def test_interrupted_runner_ends_its_children(project, uninterrupted, number, code):
    """Exit code 130 or 143 within seconds, no process left, a word on how to go on; and going on works."""
    runner = project.start("run", "--jobs", "2")
    assert until(lambda: list(project.results.rglob("heartbeat.json")), 60)
    start = time.monotonic()
    runner.send_signal(number)
    output, _ = runner.communicate(timeout=30)
    assert runner.returncode == code, output
    assert time.monotonic() - start < 10
    assert "interrupted by" in output
    assert "The same command continues" in output
    assert project.processes("") == []
    assert "interrupted; goes on from its last epoch" in project.run("status")
    project.run("run", "--jobs", "2")
    check_complete(project, uninterrupted)


def test_two_runners_take_turns(project, uninterrupted):
    """The second waits behind the lock with a message, then finds everything done."""
    first = project.start("run", "--jobs", "2")
    assert until(lambda: project.processes("s6lib.batch.child"))
    second = project.run("run", "--jobs", "2")
    first.communicate(timeout=5)
    assert first.returncode == 0
    assert "is in use by process" in second
    assert "2 skipped" in second
    check_complete(project, uninterrupted)


@only_full
def test_array_tasks_share_a_folder(project, uninterrupted):
    """`run --index i`, side by side, as a SLURM array does."""
    tasks = [project.start("run", "--index", str(i)) for i in range(2)]
    outputs = [task.communicate(timeout=200)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], outputs
    check_complete(project, uninterrupted)
