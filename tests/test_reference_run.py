"""The committed reference run: whole, and what the README quotes of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from s6lib import claims, plots, records, stats, summary

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FOUND, LEFT_OUT = records.find(ROOT / "results" / "reference")
ARMS = {  # folder -> the arms that were run
    "regularisers": {"bn", "bn_l1", "bn_l2", "bn_l1_l2", "gbn", "gbn_l1_l2", "bn_batch64", "gbn_batch128"},
    "normalisers": {"bn_l1", "ln_l1", "gn_l1"},
    "l1_lambda": {"lambda_0", "lambda_1e-05", "lambda_0.0001", "lambda_0.001"},
    "progression": {"bn_dropout", "gap"},
}


def arms(study: str) -> dict[str, records.Record]:
    return {record.name: record for record in FOUND if record.path.parent.name == study}


def measured(name: str):
    return json.loads((ROOT / "results" / "bench" / f"{name}.json").read_text(encoding="utf-8"))


def test_reference_records_are_whole():
    assert len(FOUND) == sum(map(len, ARMS.values()))
    assert LEFT_OUT == []


@pytest.mark.parametrize("study", ARMS)
def test_arms_of_a_study_are_alike(study):
    # the same seeds, one precision, one state of the training code, nothing lost
    found = arms(study)
    assert set(found) == ARMS[study]
    assert {tuple(record.seeds) for record in found.values()} == {tuple(range(claims.ENOUGH_SEEDS))}
    assert len({(r.provenance["precision"], r.provenance["source"]) for r in found.values()}) == 1
    assert not any(record.diverged for record in found.values())


def test_nothing_stands_in_the_way_of_a_verdict():
    # MNIST, the published budget and enough seeds, for every claim whose arms are there
    chosen = {claim: claims.select(FOUND, claim.study) for claim in claims.CLAIMS}
    decidable = [claim for claim, found in chosen.items() if set(claim.needs) <= set(found)]
    assert len(decidable) == 16
    assert [claims.reservations(claim, chosen[claim]) for claim in decidable] == [[]] * len(decidable)


@pytest.mark.parametrize("record", FOUND, ids=lambda record: f"{record.path.parent.name}-{record.name}")
def test_readme_quotes_the_reference(record):
    # mean, spread and interval of the arm's last epoch, to two decimals
    mean = stats.mean_interval(stats.last(record, "test_accuracy"))
    lines = [line for line in README.splitlines() if line.startswith(f"| `{record.name}` |")]
    assert any(f"| {mean.mean:.2f} | {mean.sd:.2f} | {mean.low:.2f} to {mean.high:.2f} |" in line for line in lines)


def test_published_numbers_lie_within_the_intervals():
    # as the README says: the published last epoch of each arm is inside the interval for its mean
    found = arms("regularisers")
    seen = {name: plots.published_for(record)["last"] for name, record in found.items()}
    means = {name: stats.mean_interval(stats.last(record, "test_accuracy")) for name, record in found.items()}
    inside = {name: means[name].low <= last.iloc[0] <= means[name].high for name, last in seen.items() if len(last)}
    assert inside == dict.fromkeys(("bn_l1", "bn_l2", "bn_l1_l2", "gbn", "gbn_l1_l2"), True)


def test_which_published_numbers_come_out_again():
    # as the README says: of the ranking of norms all, of `gap` not
    rows = summary.replication(FOUND).set_index(["study", "trial"]).replicates
    assert set(rows["normalisers"]) == set(rows["l1_lambda"]) == set(rows["regularisers"]) == {"yes"}
    assert dict(rows["progression"]) == {"bn_dropout": "yes", "gap": "no"}
    means = {name: stats.last(record, "test_accuracy").mean() for name, record in arms("normalisers").items()}
    assert means["bn_l1"] > means["ln_l1"] > means["gn_l1"]


def test_readme_quotes_what_lambda_costs():
    # test accuracy at 1e-3, training accuracy at 1e-4, both against no penalty
    sweep, readme = arms("l1_lambda"), " ".join(README.split())
    for name, measure, words, digits in (
        ("lambda_0.001", claims.test_accuracy, "points of test accuracy", 1),
        ("lambda_0.0001", claims.train_accuracy, "points of training accuracy", 2),
    ):
        cost = stats.difference(measure(sweep["lambda_0"]), measure(sweep[name]))
        assert f"{cost.mean:.{digits}f} {words} ({cost.low:.{digits}f} to {cost.high:.{digits}f})" in readme


def test_readme_quotes_the_differences():
    # what penalties cost, and how far ghost norm is from plain batch norm
    values = {name: stats.last(record, "test_accuracy") for name, record in arms("regularisers").items()}
    under_batch = stats.difference(values["bn"], values["bn_l1_l2"])
    under_ghost = stats.difference(values["gbn"], values["gbn_l1_l2"])
    ghost = stats.difference(values["gbn"], values["bn"])
    readme = " ".join(README.split())
    single = [claims.test_accuracy(record) for record in arms("normalisers").values()]
    assert f"Single seeds end between {np.min(single):.2f} and {np.max(single):.2f} %" in readme
    for one, norm in ((under_batch, "points under batch norm"), (under_ghost, "under ghost norm")):
        assert f"{one.mean:.2f} {norm} ({one.low:.2f} to {one.high:.2f})" in readme
    assert f"difference {ghost.mean:.2f} points, 95 % interval {ghost.low:.2f} to {ghost.high:.2f}" in readme


def test_readme_quotes_the_verdicts():
    table = claims.verdicts(FOUND)
    for row in table[~table.verdict.str.startswith("missing")].itertuples():
        assert f"| {row.study} {row.claim} | {row.sentence} | {row.verdict} | {row.parts} |" in README


def test_readme_quotes_the_speedrun():
    # the mean, its interval and the seconds, of at least twenty seeds none of which diverged
    ladder = measured("speedrun")
    rungs = {rung["trial"]["name"]: rung for rung in ladder}
    rung = rungs["speedrun"]
    mean = stats.mean_interval(rung["test_accuracy"])
    assert len(rung["seeds"]) == mean.n >= 20
    assert not rung["diverged"]
    assert mean.mean >= 99.4
    assert f"{mean.mean:.3f} % (sd {mean.sd:.3f}, 95 % interval {mean.low:.3f} to {mean.high:.3f})" in README
    assert f"in {rung['seconds_per_seed']:.1f} seconds per seed" in README
    assert f"{rungs['two_epochs']['mean']:.3f} %" in README


def test_logits_give_the_recorded_accuracy():
    # float16 logits lose nothing that matters: accuracy recomputed from them is the history's
    for record in FOUND:
        recomputed = 100 * stats.correct(record).mean(1)
        assert abs(recomputed - stats.last(record, "test_accuracy")).max() <= 0.02


def test_readme_quotes_the_benchmark():
    # the table is that of results/bench/cpu.json, at batch 128
    rows = measured("cpu")["rows"]
    quoted = [(mode, 8) for mode in ("fused bfloat16", "fused float32, process per core", "fused float32")]
    for row in (row for row in rows if row["batch_size"] == 128):
        if (row["mode"], row["replicas"]) in [*quoted, ("fused float32", 1), ("fused bfloat16, process per core", 8)]:
            text = f"{row['replica_images_per_second']:,.0f} ({row['ratio_to_dataloader_loop']:.1f}x)"
            line = next(line for line in README.splitlines() if line.startswith(f"| `{row['network']}` ("))
            assert text in line


def test_readme_quotes_the_equivalence():
    # the means, their spread and p of the test that made bfloat16 the default
    found = measured("equivalence_bfloat16")["verdict"]
    readme = " ".join(README.split())
    assert min(found[name]["seeds"] for name in ("float32", "bfloat16")) >= 8
    assert found["p_equivalence"] < 0.05
    for name in ("float32", "bfloat16"):
        assert f"{name} {found[name]['mean']:.3f} % (sd {found[name]['sd']:.3f})" in readme
    assert f"p = {found['p_equivalence']:.3f}" in README


def test_readme_quotes_the_ablations():
    # what a step costs when an optimisation is taken back, relative to the form of the same precision
    medians = measured("ablations_regularisers")["medians"]
    for variant, speed in medians.items():
        base = medians["bfloat16" if variant.startswith("bfloat16,") else "as it is"]
        if variant not in ("as it is", "bfloat16"):
            assert f"| {variant} | {base / speed:.2f} |" in README
    medians = measured("ablations_gap")["medians"]
    slower = medians["as it is"] / medians["dropout's factor on activations"]
    assert f"takes {slower:.2f} times as long" in README
