"""Whether times grow with the number of parts and no faster: `python tests/faults/scale.py [parts] [trials]`.

Adds that many trivial parts to one trial, or one part each to that many trials, and times reading, `status` and `plan`.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_records import TRIAL, record_of

from s6lib import records
from s6lib.batch.plan import make_plan
from s6lib.batch.state import run_key


def main(parts: int = 2000, trials: int = 200) -> None:
    for count in (parts // 4, parts):
        show(f"{count} parts of one trial", measure(1, count))
    show(f"{trials} trials of one part", measure(trials, 1))


def show(what: str, found: dict[str, float]) -> None:
    times = [f"{name} in {seconds:.1f} s" for name, seconds in found.items()]
    print(f"{what}: {', '.join(times)}")


def measure(trials: int, parts: int) -> dict[str, float]:
    """Seconds of finding all records, and of `status` and `plan` in processes of their own."""
    root = Path(tempfile.mkdtemp(dir=os.environ.get("TMPDIR", "/tmp")))
    (root / "notebooks").mkdir()
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": 'dataset: str = "digits"'}
    (root / "notebooks/x.ipynb").write_text(json.dumps({"cells": [cell]}))
    names = [f"t{i}" for i in range(trials)]
    lines = ["[profiles.quick]", "[studies.regularisers]", *[f'{name} = {{ notebook = "x.ipynb" }}' for name in names]]
    (root / "studies.toml").write_text("\n".join(lines) + "\n")
    for run in make_plan(root / "studies.toml", "quick"):
        trial = dataclasses.replace(TRIAL, name=run.trial)
        made = [records.add(record_of(seed, trial=trial), root / "results/quick") for seed in range(parts)]
        folder = made[0].parent / f"run.{run_key(run.settings)}"
        folder.mkdir()
        info = {"settings": run.settings, "code": run.code, "data": None, "seconds": 1.0}
        claims = [str(part.relative_to(root / "results/quick")) for part in made]
        (folder / "run.json").write_text(json.dumps({**info, "parts": claims}))
    start = time.monotonic()
    found, left_out = records.find(root / "results/quick")
    times = {"read": time.monotonic() - start}
    assert sum(len(record.seeds) for record in found) == trials * parts
    assert left_out == []
    for word in ("status", "plan"):
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", "s6lib", word], cwd=root, check=True, stdout=subprocess.DEVNULL)
        times[word] = time.monotonic() - start
    shutil.rmtree(root)
    return times


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
