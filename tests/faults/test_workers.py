"""A training dealt over worker processes, while they, or the process that dealt, are killed at random moments."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch
from arena import FULL, kill
from batch_project import commands, until

from s6lib import records

pytestmark = pytest.mark.slow
ROUNDS = 20 if FULL else 1
WAIT = 300  # seconds, on a machine that is busy otherwise
# A plain script, without `if __name__ == "__main__"`, and with images that no worker could load by name.
SCRIPT = """
from s6lib import data, training
from s6lib.trial import make_trial
few = data.limit(data.hold_out(data.load("digits"), 300), 400, 100)
record = training.train(make_trial("regularisers", "bn", epochs=6), few, 4, workers=2)
print(record.describe())
"""


class Script:
    """The script, run in a results folder of its own, and its workers."""

    def __init__(self, folder):
        folder.mkdir(exist_ok=True)
        self.lab, self.file = folder / "lab", folder / "script.py"
        self.file.write_text(SCRIPT)
        self.started: list[subprocess.Popen] = []

    def start(self) -> subprocess.Popen:
        around = {**os.environ, "S6_LAB": str(self.lab), "OMP_NUM_THREADS": "1", "S6_QUIET": ""}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": around}
        # where the tests themselves run behind a shell's &, SIGINT is ignored, and children would inherit that
        options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
        self.started.append(subprocess.Popen([sys.executable, str(self.file)], **options))
        return self.started[-1]

    def run(self) -> str:
        output, errors = self.start().communicate(timeout=WAIT)
        assert self.started[-1].returncode == 0, errors
        return output

    def workers(self) -> list[str]:
        mine = commands().items()
        return [str(pid) for pid, (line, around) in mine if "s6lib.training.worker" in line and str(self.lab) in around]

    def history(self) -> pd.DataFrame:
        """Of every seed that is there, each once; that nothing else was left is checked too."""
        found, left_out = records.find(self.lab)
        assert [record.seeds for record in found] == [[0, 1, 2, 3]]
        assert left_out == []
        assert [path for path in self.lab.rglob(".*")] == []  # noqa: C416 shown where it fails
        return found[0].history.drop(columns="seconds")

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The history, and the seconds from the first worker to the end."""
    script = Script(tmp_path_factory.mktemp("undisturbed"))
    try:
        process = script.start()
        assert until(script.workers, WAIT)
        start = time.monotonic()
        process.communicate(timeout=WAIT)
        return script.history(), time.monotonic() - start
    finally:
        script.close()


@pytest.fixture
def script(tmp_path):
    made = Script(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_a_worker_is_killed(script, undisturbed, dice, round_):
    """Its seeds are dealt out again and go on from its last epoch; the script does not notice."""
    history, span = undisturbed
    process = script.start()
    assert until(script.workers, WAIT)
    time.sleep(dice.uniform(0, span))
    killed = kill(dice.sample(found, 1) if (found := script.workers()) else [])
    output, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 0, errors
    assert "bn: 4 seeds, 6 epochs" in output
    assert script.history().equals(history)
    print("killed" if killed else "was too late to kill", "a worker")


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_the_process_that_dealt_is_killed(script, undisturbed, dice, round_):
    """Its workers die with it; the same script goes on in the same groups."""
    history, span = undisturbed
    process = script.start()
    assert until(script.workers, WAIT)
    time.sleep(dice.uniform(0, span))
    process.kill()
    assert until(lambda: not script.workers(), 5), "orphans"
    script.run()
    assert script.history().equals(history)


def test_ctrl_c(script, undisturbed):
    """All workers end at once, a KeyboardInterrupt is what the caller sees, and the same script goes on."""
    history, _ = undisturbed
    process = script.start()
    assert until(lambda: list(script.lab.rglob("*.checkpoint")), WAIT)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert errors.splitlines()[-1].startswith("KeyboardInterrupt")
    assert not script.workers()
    assert time.monotonic() - start < 5
    kept = [seconds for file in script.lab.rglob("*.checkpoint") for seconds in seconds_of(file)]
    script.run()
    assert script.history().equals(history)
    assert set(kept) <= set(records.find(script.lab)[0][0].history.seconds)  # these epochs were not trained again


def seconds_of(checkpoint: Path) -> list[float]:
    """Wall times of the epochs that a checkpoint holds."""
    tensors = safetensors.torch.load(checkpoint.read_bytes().partition(b"\n")[2])
    return [row["seconds"] for row in json.loads(tensors["json"].numpy().tobytes())["values"]["history"]]
