"""The benchmarks run as a user starts them, without arguments but for size; speeds are never tested."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(script: str, *words: str) -> None:
    subprocess.run([sys.executable, f"benchmarks/{script}", *words], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.slow
def test_bench_runs(tmp_path):
    # on MNIST where its files are, else on the digits; ratios are those of the speeds beside them
    run("bench.py", "--tiny", "--out", str(tmp_path))
    (file,) = tmp_path.glob("tiny-*.json")
    rows = json.loads(file.read_text())["rows"]
    wanted = {"network", "mode", "device", "replicas", "replica_images_per_second", "ratio_to_dataloader_loop"}
    assert all(wanted <= set(row) for row in rows)
    loop, *fused = [row["replica_images_per_second"] for row in rows]
    assert [row["ratio_to_dataloader_loop"] for row in rows] == pytest.approx([1, *(speed / loop for speed in fused)])


@pytest.mark.slow
def test_ablations_run(tmp_path):
    # every variant that needs no compiler still finds the parts that it replaces, and all are measured
    run("ablations.py", "--tiny", "--out", str(tmp_path))
    found = json.loads((tmp_path / "ablations_regularisers.json").read_text())
    assert len(found["medians"]) == 11
    assert found["provenance"]["source"]
    assert all(len(values) == 1 for values in found["all"].values())


@pytest.mark.slow
@pytest.mark.parametrize("script", ["equivalence.py", "fused_sweep.py", "page.py"])
def test_the_others_start(script):
    run(script, "--help")
