"""The benchmarks run in their tiny form; speeds are never tested."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_bench_runs(tmp_path):
    # both loops, the table and the JSON with the fields that readers rely on
    command = [sys.executable, "benchmarks/bench.py", "--tiny", "--dataset", "digits", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = tmp_path.glob("tiny-*.json")
    rows = json.loads(file.read_text())["rows"]
    wanted = {"network", "mode", "device", "replicas", "replica_images_per_second", "ratio_to_dataloader_loop"}
    assert len(rows) == 3
    assert all(wanted <= set(row) for row in rows)


@pytest.mark.slow
def test_ablations_run(tmp_path):
    # every variant that needs no compiler still finds the parts that it replaces
    command = [sys.executable, "benchmarks/ablations.py", "--tiny", "--dataset", "digits", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    medians = json.loads((tmp_path / "ablations_regularisers.json").read_text())["medians"]
    assert len(medians) == 11
    assert min(medians.values()) > 0
