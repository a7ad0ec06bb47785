"""A small repository in a temporary folder, with fixture notebooks, for tests that run real batches."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from s6lib.records import part_folders

FIXTURES = Path(__file__).parent / "fixtures"
TRIVIAL, TRAIN, SWEEP, ARM = "trivial.ipynb", "train.ipynb", "sweep.ipynb", "arm.ipynb"


class Project:
    """`run("run", "--jobs", "2")` is `python -m s6lib run --jobs 2` in this repository."""

    def __init__(self, path: Path, **trials: tuple[str, dict]):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        shutil.copytree(FIXTURES, path / "notebooks")
        self.write(**trials)
        self.started: list[subprocess.Popen] = []
        self.temporary = Path(tempfile.mkdtemp(prefix="s6t", dir="/tmp"))  # short: sockets go below it
        self.environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(self.temporary),
            "S6_QUIET": "",
            "S6_PAGE": "no",
        }
        self.environment["CUDA_VISIBLE_DEVICES"] = ""

    def write(self, **trials: tuple[str, dict]) -> None:
        lines = ['[profiles.quick]\ndataset = "digits"\nseeds = 2\nepochs = 2', "[studies.s]"]
        for name, (notebook, parameters) in trials.items():
            parameters = {"name": name, **parameters} if notebook == TRIVIAL else parameters
            table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in parameters.items())
            lines.append(f'{name} = {{ notebook = "{notebook}", parameters = {{ {table} }} }}')
        (self.path / "studies.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def start(self, *words: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen:
        command = [*prefix, sys.executable, "-m", "s6lib", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.started.append(subprocess.Popen(command, cwd=self.path, env=self.environment, **pipes))
        return self.started[-1]

    def run(self, *words: str, code: int | None = 0, timeout: float = 300) -> str:
        process = self.start(*words)
        try:
            output, _ = process.communicate(timeout=timeout)
        finally:
            process.kill()
        assert code is None or process.returncode == code, f"exit code {process.returncode}, expected {code}:\n{output}"
        return output

    @property
    def results(self) -> Path:
        return self.path / "results" / "quick"

    def finished(self) -> list[str]:
        """The trials that a run was committed for."""
        return sorted(
            {str(file.parents[1].relative_to(self.results)) for file in self.results.glob("*/*/run.*/run.json")}
        )

    def parts(self) -> list[str]:
        return [str(folder.relative_to(self.results)) for folder in part_folders(self.results)]

    def last_run(self, trial: str) -> Path:
        """The folder of the run that was committed last."""
        return max((self.results / "s" / trial).glob("run.*"), key=lambda folder: folder.stat().st_mtime_ns)

    def history(self, trial: str) -> pd.DataFrame:
        """Of all parts that the trial's last run used, as one table without wall times."""
        parts = json.loads((self.last_run(trial) / "run.json").read_text())["parts"]
        tables = [pd.read_csv(self.results / part / "history.csv").drop(columns="seconds") for part in parts]
        return pd.concat(tables).sort_values(["seed", "epoch"], ignore_index=True)

    def leftovers(self) -> list[str]:
        """Whatever a finished batch should not leave: hidden files, sockets, processes."""
        hidden = [path for path in self.results.rglob(".*") if path.name != ".failed"]
        mine = [path for path in self.temporary.iterdir() if path.suffix != ".log" and "scratch" not in path.name]
        return [str(path) for path in [*hidden, *mine]] + self.processes("")

    def processes(self, what: str) -> list[str]:
        """Ids of running processes of this project (other than its runner) whose command holds `what`."""
        return [
            str(pid) for pid, command in commands().items() if str(self.temporary) in command[1] and what in command[0]
        ]

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
            process.stdout.close()
        shutil.rmtree(self.temporary, ignore_errors=True)


def commands() -> dict[int, tuple[str, str]]:
    """{process id: (command line, environment)} of every process we may look at."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            texts = [
                (folder / name).read_bytes().replace(b"\0", b" ").decode(errors="replace")
                for name in ("cmdline", "environ")
            ]
        except OSError:
            continue
        if texts[0]:
            found[int(folder.name)] = (texts[0], texts[1])
    return found


def until(condition, seconds: float = 30, step: float = 0.05):
    """Waits for `condition()` to be true and returns it; None if it never is."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(step)
    return None
