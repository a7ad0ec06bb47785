"""Real kernels, processes, workers, disks and networks; `S6_FAULTS=full` repeats each fault more often."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from batch_project import TRAIN, Project, until

FULL = os.environ.get("S6_FAULTS") == "full"
ROUNDS = 10 if FULL else 1
only_full = pytest.mark.skipif(not FULL, reason="only with S6_FAULTS=full")
TRIALS = {"a": (TRAIN, {"epochs": 4, "images": 128}), "b": (TRAIN, {"epochs": 4, "images": 160, "seeds": 1})}


def check_complete(project: Project, histories: dict) -> None:
    """Every trial finished with the undisturbed history, no seed twice, and nothing left over."""
    assert project.finished() == sorted(f"s/{name}" for name in histories)
    keys = [tuple(Path(part).name.rsplit(".", 1)) for part in project.parts()]
    assert len(set(keys)) == len(keys), f"a part twice: {project.parts()}"
    for name, history in histories.items():
        assert project.history(name).equals(history), f"history of {name} differs"
    assert until(lambda: not project.processes("s6lib.batch.child") and not project.processes("ipykernel")), "orphans"
    left = project.leftovers()
    assert not left, "left over: " + ", ".join(left)


def kill(pids: list[str]) -> bool:
    for pid in pids[:1]:
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            return False
    return bool(pids)


class Mount:
    """A tmpfs of a given size at `path`; the test is skipped where mounting is not permitted."""

    def __init__(self, path: Path, size: str):
        self.path = path
        path.mkdir(parents=True)
        shell("mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path))

    def option(self, name: str) -> None:
        shell("mount", "-o", f"remount,{name}", str(self.path))

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], check=False)


def shell(*words: str) -> str:
    """Runs a system command; skips the test with its message if it is missing or not permitted."""
    if not shutil.which(words[0]):
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{' '.join(words[:4])}: {done.stderr.strip() or done.returncode}")
    return done.stdout


class Dask:
    """A scheduler and workers in processes of their own on the loopback interface."""

    def __init__(self, project: Project, host: str = "127.0.0.1", options: Sequence[str] = (), **settings: str):
        self.project, self.processes, self.host = project, [], host
        self.environment = {**project.environment, "DASK_DISTRIBUTED__WORKER__DAEMON": "true", **settings}
        self.file = project.path / "scheduler.json"
        words = ["--host", host, "--port", "0", "--no-dashboard", "--scheduler-file", str(self.file)]
        self.start("scheduler", *words, *options)
        assert until(self.file.exists), "the scheduler did not start"
        self.address = json.loads(self.file.read_text())["address"]

    def start(self, kind: str, *words: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen:
        command = [*prefix, sys.executable, "-m", "distributed.cli.dask_" + kind, *words]
        log = (self.project.temporary / f"{kind}-{len(self.processes)}.log").open("w")
        process = subprocess.Popen(command, env=self.environment, cwd=self.project.path, stdout=log, stderr=log)
        log.close()
        self.processes.append(process)
        return process

    def worker(
        self, host: str = "127.0.0.1", prefix: tuple[str, ...] = (), options: Sequence[str] = ()
    ) -> subprocess.Popen:
        words = [self.address, "--host", host, "--nthreads", "1", "--no-dashboard", "--nworkers", "1"]
        scratch = str(self.project.temporary / "scratch")
        return self.start("worker", *words, "--local-directory", scratch, *options, prefix=prefix)

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
