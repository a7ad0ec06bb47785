"""The committed reference run: whole, and what the README quotes of it."""

import json
from pathlib import Path

from s6lib import records, stats

ROOT = Path(__file__).parent.parent
FOUND, LEFT_OUT = records.find(ROOT / "results" / "reference")


def test_reference_records_are_whole():
    assert FOUND
    assert LEFT_OUT == []


def test_reference_records_are_at_the_published_budget():
    from s6lib.trial import PROTOCOLS

    for record in FOUND:
        assert record.trial.epochs == PROTOCOLS[record.trial.protocol]["epochs"]
        assert record.dataset["name"] == "mnist"


def test_readme_quotes_the_reference():
    # mean, interval and range of ghost norm's last epoch, to two decimals
    (gbn,) = [record for record in FOUND if record.name == "gbn"]
    values = stats.last(gbn, "test_accuracy")
    mean = stats.mean_interval(values)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{mean.mean:.2f} % (sd {mean.sd:.2f}, 95 % interval {mean.low:.2f} to {mean.high:.2f})" in readme
    assert f"seeds from {values.min():.2f} to {values.max():.2f} %" in readme


def test_readme_quotes_the_speedrun():
    # the mean, its interval and the seconds, of at least twenty seeds none of which diverged
    ladder = json.loads((ROOT / "results" / "bench" / "speedrun.json").read_text(encoding="utf-8"))
    rungs = {rung["trial"]["name"]: rung for rung in ladder}
    rung = rungs["speedrun"]
    mean = stats.mean_interval(rung["test_accuracy"])
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(rung["seeds"]) == mean.n >= 20
    assert not rung["diverged"]
    assert mean.mean >= 99.4
    assert f"{mean.mean:.3f} % (sd {mean.sd:.3f}, 95 % interval {mean.low:.3f} to {mean.high:.3f})" in readme
    assert f"in {rung['seconds_per_seed']:.1f} seconds per seed" in readme
    assert f"{rungs['two_epochs']['mean']:.3f} %" in readme


def test_logits_give_the_recorded_accuracy():
    # float16 logits lose nothing that matters: accuracy recomputed from them is the history's
    for record in FOUND:
        recomputed = 100 * stats.correct(record).mean(1)
        assert abs(recomputed - stats.last(record, "test_accuracy")).max() <= 0.02


def test_readme_quotes_the_benchmark():
    # the table is that of results/bench/cpu.json, at batch 128
    rows = json.loads((ROOT / "results" / "bench" / "cpu.json").read_text(encoding="utf-8"))["rows"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    quoted = [(mode, 8) for mode in ("fused bfloat16", "fused float32, process per core", "fused float32")]
    for row in (row for row in rows if row["batch_size"] == 128):
        if (row["mode"], row["replicas"]) in [*quoted, ("fused float32", 1), ("fused bfloat16, process per core", 8)]:
            text = f"{row['replica_images_per_second']:,.0f} ({row['ratio_to_dataloader_loop']:.1f}x)"
            line = next(line for line in readme.splitlines() if line.startswith(f"| `{row['network']}` ("))
            assert text in line


def test_readme_quotes_the_equivalence():
    # the means, their spread and p of the test that made bfloat16 the default
    found = json.loads((ROOT / "results" / "bench" / "equivalence_bfloat16.json").read_text(encoding="utf-8"))[
        "verdict"
    ]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert min(found[name]["seeds"] for name in ("float32", "bfloat16")) >= 8
    assert found["p_equivalence"] < 0.05
    for name in ("float32", "bfloat16"):
        assert f"{name} {found[name]['mean']:.3f} % (sd {found[name]['sd']:.3f})" in readme
    assert f"p = {found['p_equivalence']:.3f}" in readme
