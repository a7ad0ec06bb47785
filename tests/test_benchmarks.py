"""The benchmarks run as a user starts them, without arguments but for size; speeds are never tested."""

import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch

from s6lib import plots
from s6lib.models import build
from s6lib.models.describe import count_parameters
from s6lib.models.views import Views
from s6lib.report.values import Evidence
from s6lib.studies import NETWORKS, STUDIES
from s6lib.trial import make_trial

mpl.use("Agg")
ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import bench  # noqa: E402
import candidates  # noqa: E402
import equivalence  # noqa: E402
import frontier  # noqa: E402
import machine  # noqa: E402
import null_studies  # noqa: E402
import recipe  # noqa: E402
import speedrun  # noqa: E402

COLUMNS = {"who", "network", "precision", "processes", "threads", "replicas", "images_per_second", "ratio_to_plain"}
COLUMNS |= {"ratio_to_dataloader", "memory_mb", "share_of_product_rate", "share_of_copy_rate", "void"}
GOOD = {"first_loss": 2.3, "last_loss": 0.4, "accuracy": 93.0}

LONG = pytest.mark.skipif(os.environ.get("S6_FAULTS") != "full", reason="only with S6_FAULTS=full")


def run(script: str, *words: str) -> None:
    # threads of several contestants share the cores here: they sleep while they wait
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, f"benchmarks/{script}", "--small", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> dict:
    """What `benchmarks/bench.py --small` writes."""
    folder = tmp_path_factory.mktemp("bench")
    run("bench.py", "--out", str(folder))
    (file,) = folder.glob("small-*.json")
    return json.loads(file.read_text())


@pytest.mark.slow
def test_bench_has_everyone(small):
    rows = small["rows"]
    assert all(set(row) >= COLUMNS for row in rows)
    expected = {"s6lib", "plain PyTorch", "torch.func", "DataLoader loop"} | (
        {"JAX"} if util.find_spec("jax") else set()
    )
    assert {row["who"] for row in rows} == expected
    forms = {(row["who"], row["precision"], row["processes"]) for row in rows}
    cores = {1, bench.cores()}
    for who in ("s6lib", "plain PyTorch"):
        assert {form for form in forms if form[0] == who} >= {(who, p, n) for p in bench.PRECISIONS for n in cores}


@pytest.mark.slow
def test_every_contestant_learns(small):
    # on the digits as well: what does not is void, and says so in its rows
    for found in small["checks"]:
        assert "error" not in found, found
        assert found["last_loss"] < found["first_loss"], found


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (GOOD, None),
        (GOOD | {"accuracy": 93.0 - bench.TOLERANCE - 0.1}, "stays below ours"),
        (GOOD | {"last_loss": 2.2}, "did not fall"),
        (GOOD | {"last_loss": float("nan")}, "did not fall"),
        (GOOD | {"accuracy": float("nan")}, "stays below ours"),
        ({"error": "out of memory"}, "out of memory"),
    ],
)
def test_a_peer_that_does_not_learn_is_void(found, reason):
    why = bench.why_void(found, GOOD)
    assert why is None if reason is None else reason in why


def rows(*void: str) -> list[dict]:
    speeds = {("s6lib", 1): 9.0, ("s6lib", 2): 12.0, ("plain PyTorch", 1): 4.0, ("plain PyTorch", 2): 6.0}
    speeds[("DataLoader loop", 1)] = 3.0
    made = [
        {"who": who, "network": "n", "precision": "float32", "processes": count, "images_per_second": value}
        for (who, count), value in speeds.items()
    ]
    return [row | {"void": "why" if row["who"] in void else None} for row in made]


def test_ratios_are_to_the_best_peer():
    found = rows()
    bench.add_ratios(found)
    assert [row["ratio_to_plain"] for row in found] == [1.5, 2.0, 4 / 6, 1.0, 0.5]
    assert [row["ratio_to_dataloader"] for row in found] == [3.0, 4.0, 4 / 3, 2.0, 1.0]


def test_a_void_peer_is_no_base():
    found = rows("plain PyTorch")
    bench.add_ratios(found)
    assert {row["ratio_to_plain"] for row in found} == {None}
    assert found[0]["ratio_to_dataloader"] == 3.0
    assert found[2]["ratio_to_dataloader"] is None


@pytest.mark.parametrize("network", recipe.NETWORKS)
def test_peers_train_our_network(network):
    import peers

    parameters = sum(p.numel() for p in peers.network({"network": network}).parameters())
    assert parameters == count_parameters(build(NETWORKS[network]))


@pytest.mark.parametrize("network", recipe.NETWORKS)
def test_work_per_image_is_what_the_layers_do(network):
    import peers
    import torch

    found = {"multiply_adds": 0, "activation_bytes": 0}

    def count(layer, _, y):
        found["activation_bytes"] += 4 * y.numel()
        found["multiply_adds"] += y.numel() * layer.weight[0].numel() if isinstance(layer, torch.nn.Conv2d) else 0

    net = peers.network({"network": network})[:-1]  # without the flattening
    for layer in net:
        layer.register_forward_hook(count)
    net.eval()(torch.zeros(1, 1, 28, 28))
    assert machine.work_per_image(network) == found


@LONG
@pytest.mark.slow
def test_ablations_run(tmp_path):
    # every variant that needs no compiler still finds the parts that it replaces, and all are measured
    run("ablations.py", "--dataset", "digits", "--out", str(tmp_path))
    found = json.loads((tmp_path / "small-ablations_regularisers.json").read_text())
    assert len(found["medians"]) == 11
    assert found["provenance"]["source"]
    assert all(len(values) == 1 for values in found["all"].values())


@LONG
@pytest.mark.slow
def test_growing_runs(tmp_path):
    run("growing.py", "--out", str(tmp_path))
    found = json.loads((tmp_path / "small-growing.json").read_text())
    assert [row["seeds"] for row in found["seeds"]] == [1, 2]
    assert [row["trials"] for row in found["trials"]] == [1, 3]


@LONG
@pytest.mark.slow
def test_norms_run(tmp_path):
    run("norms.py", "--out", str(tmp_path))
    found = json.loads((tmp_path / "small-norms.json").read_text())
    assert found["norms"]["batch norm"] == 1.0
    assert found["skeleton"]["share_of_product_rate"] > 0


@pytest.mark.slow
def test_equivalence_of_an_arm_runs(tmp_path):
    arm = ["--study", "normalisers", "--arm", "gn_l1", "--set", "learning_rate=0.1"]
    run("equivalence.py", *arm, "--out", str(tmp_path))
    found = json.loads((tmp_path / "small-equivalence_normalisers_gn_l1_bfloat16.json").read_text())
    assert (found["study"], found["arm"], found["settings"]) == ("normalisers", "gn_l1", {"learning_rate": 0.1})
    assert found["verdict"]["bfloat16"]["seeds"] == 2


def test_the_seeds_of_a_test_of_equivalence_are_fixed_by_its_first_call(tmp_path):
    # More seeds after a look at fewer would be a second look that nothing corrects for.
    about = {"study": "regularisers", "arm": "bn", "settings": {}, "epochs": 2, "seeds": 24, "dataset": "mnist"}
    assert equivalence.verdict({"float32": [99.0] * 8, "bfloat16": [99.0] * 24}, "bfloat16", 24) == {}
    path = tmp_path / "equivalence.json"
    path.write_text(json.dumps(equivalence.kept(path, about)))
    with pytest.raises(SystemExit, match="was begun with seeds 24, not 32"):
        equivalence.kept(path, about | {"seeds": 32})
    with pytest.raises(SystemExit, match="was begun with dataset 'mnist', not 'kmnist'"):
        equivalence.kept(path, about | {"dataset": "kmnist"})


@LONG
@pytest.mark.slow
def test_groupings_run(tmp_path):
    run("groupings.py", "--out", str(tmp_path))
    found = json.loads((tmp_path / "small-groupings.json").read_text())["rows"]
    assert [row["together"] for row in found] == [1, 8, 2]
    assert (found[0]["same"], found[0]["difference"]) == (2, 0.0)


@pytest.mark.slow
def test_fused_sweep_runs():
    run("fused_sweep.py")


# --- figures ---------------------------------------------------------------------------------------


def test_a_void_row_is_not_drawn():
    made = [row | {"replicas": 1, "lowest": 1, "highest": 2} for row in rows("plain PyTorch")]
    figure = plots.training_speed(made)
    labels = figure.axes[0].get_legend_handles_labels()[1]
    assert "best DataLoader loop, float32" in labels
    assert not any("plain" in label for label in labels)


def test_what_grows_has_units():
    seeds = [{"seeds": n, "seconds_per_epoch_and_seed": 1 / n, "memory_mb_per_seed": 900 / n} for n in (1, 2)]
    trials = [{"trials": n, "status": 1.0 + n, "plan": 1.0, "read": 0.1 * n} for n in (1, 200)]
    axes = plots.growing(seeds, trials).axes
    assert [("(s" in ax.get_ylabel(), "(MB" in ax.get_ylabel()) for ax in axes] == [(1, 0), (0, 1), (1, 0)]
    assert axes[0].lines[0].get_ydata().tolist() == [1.0, 0.5]


def test_texts_leave_void_rows_out(tmp_path):
    (tmp_path / "bench").mkdir()
    for void, text in (((), "2.0"), (("plain PyTorch",), "—")):
        made = rows(*void)
        bench.add_ratios(made)
        (tmp_path / "bench" / "cpu.json").write_text(json.dumps({"rows": made}))
        assert Evidence(tmp_path).value("ratio n float32") == text


def test_an_unfinished_test_of_equivalence_is_not_shown(tmp_path):
    (tmp_path / "bench").mkdir()
    one = {"mean": 99.4, "sd": 0.05, "seeds": 8}
    done = {"float32": one, "bfloat16": one, "difference": 0.0, "p_equivalence": 0.01}
    for arm, verdict in (("bn", done), ("gbn", {})):
        about = {"study": "regularisers", "arm": arm, "settings": {"l1": 1e-5}, "epochs": 2, "seeds": 8}
        found = about | {"verdict": verdict}
        (tmp_path / "bench" / f"equivalence_{arm}_bfloat16.json").write_text(json.dumps(found))
    table = Evidence(tmp_path).value("equivalences")
    assert "`regularisers/bn`, l1 1e-05 | 2 | 8 | 99.400 (0.050)" in table
    assert "gbn" not in table


@pytest.mark.parametrize(
    ("load", "rounds", "said"), [(0.2, 3, False), (4.0, 3, True), (0.2, 1, True), (None, 3, False)]
)
def test_a_busy_machine_is_said(load, rounds, said, tmp_path):
    (tmp_path / "bench").mkdir()
    found = {"load_before": load, "cores": 2, "rounds": rounds}
    (tmp_path / "bench" / "cpu.json").write_text(json.dumps(found))
    assert ("provisional" in Evidence(tmp_path).value("caution")) == said


@pytest.mark.slow
def test_measuring_the_page_starts():
    run("page.py", "--help")


def test_the_screen_is_balanced():
    # every setting at either level in eight runs, and every pair of settings in four at each pair of levels
    signs = 2 * np.array(frontier.design()) - 1
    assert (signs.T @ signs == 16 * np.eye(7)).all()
    pairs = [signs[:, i] * signs[:, j] for i in range(7) for j in range(i)]
    assert not (signs.T @ np.array(pairs).T).any()  # no setting is confounded with two others' interaction


def test_effects_are_those_put_in():
    # accuracy 99 + .2 at the larger rotation - .1 at the larger batch; two seeds .02 apart in every run
    rows = [{"settings": {k: candidates.plain(v) for k, v in one.items()}} for one in frontier.screened("p3k")]
    for row in rows:
        mean = 99 + 0.2 * (row["settings"]["rotation"] == 12) - 0.1 * (row["settings"]["batch_size"] == 128)
        row["held_out"] = [mean - 0.01, mean + 0.01]
    found = {row["setting"]: row for row in frontier.effects(rows, "p3k")}
    expected = dict.fromkeys(frontier.FACTORS, 0.0) | {"rotation": 0.2, "batch_size": -0.1}
    assert {name: row["effect"] for name, row in found.items()} == pytest.approx(expected, abs=1e-9)
    assert found["widths"]["error"] == pytest.approx(2 * 0.02 / 2**0.5 / 32**0.5)


@pytest.mark.parametrize("size", frontier.SIZES)
def test_candidates_keep_below_the_size(size):
    limit = {"p10k": 10_000, "p3k": 3_000}[size]
    for settings in [*frontier.screened(size), *frontier.changes(size).values(), *frontier.shapes(size).values()]:
        assert count_parameters(frontier.KEPT.trial(settings).build()) < limit


def test_committed_candidates_are_those_the_script_would_run():
    jobs = {f"p10k, run {i}": settings for i, settings in enumerate(frontier.screened("p10k"))}
    changes = frontier.changes("p10k") | frontier.shapes("p10k")
    jobs |= {f"p10k, {name}": settings for name, settings in changes.items()}
    rows = frontier.KEPT.state()["candidates"]
    assert {row["candidate"] for row in rows} == set(jobs)
    assert all(candidates.same(row, jobs) for row in rows)
    assert not candidates.same(rows[0] | {"settings": {}}, jobs)


def test_the_views_of_the_network_are_those_that_held_out_images_prefer():
    rows = [row for row in frontier.KEPT.state()["views"] if row["size"] == "p3k"]
    assert [(row["views"], row["shifts"]) for row in rows] == [
        (name, [list(view) for view in views]) for name, views in frontier.VIEWS.items()
    ]
    best = max(rows, key=lambda row: sum(row["held_out"]))
    first = make_trial("frontier", "p3k_views").build().layers[0]
    assert [tuple(view) for view in best["shifts"]] == [(*shift, 0) for shift in first.shifts]


def test_views_of_the_benchmark_are_shifted_as_those_of_the_network():
    images = torch.zeros(2, 1, 28, 28)
    images[..., 5:20, 7:22] = torch.rand(2, 1, 15, 15, generator=torch.Generator().manual_seed(0))
    for down, right in ((1, 0), (0, 1), (2, -1)):
        views = Views([(down, right)]).eval()(images)
        assert torch.allclose(frontier.moved(images, (down, right, 0)), views, atol=1e-5)


def held_out(name, epochs, accuracies):
    return {"candidate": name, "settings": {"epochs": epochs}, "held_out": accuracies}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # passing with fewer epochs goes before a higher mean; among equals the higher mean counts
        ([held_out("a", 3, [99.45, 99.47]), held_out("b", 3, [99.47, 99.49]), held_out("c", 4, [99.6, 99.6])], "b"),
        # a mean above the bar by less than two standard errors does not pass
        ([held_out("a", 3, [99.35, 99.55]), held_out("b", 4, [99.5, 99.5])], "b"),
        # none passes: the highest mean
        ([held_out("a", 3, [99.1, 99.3]), held_out("b", 5, [99.2, 99.4])], "b"),
    ],
)
def test_the_speedrun_is_chosen_by_its_rule(rows, expected):
    assert speedrun.chosen(rows)["candidate"] == expected


def test_committed_speedrun_candidates_are_those_the_script_would_run():
    rows = speedrun.KEPT.state()["candidates"]
    assert {row["candidate"] for row in rows} == set(speedrun.jobs())
    assert all(candidates.same(row, speedrun.jobs()) for row in rows)


def test_without_differences_every_mean_is_at_its_own_bar():
    for _, claims in null_studies.families_of(STUDIES.values()):
        means = null_studies.true_means(claims, [0.0], np.random.default_rng(0))
        bars = [p for claim in claims for p in claim.parts if len(p.weights) == 1 and p.relation != "within"]
        assert [null_studies.truth(part, means) for part in bars] == [0.0] * len(bars)


def test_the_simulated_families_are_those_of_the_studies():
    # `python benchmarks/null_studies.py` makes them anew
    kept = json.loads((ROOT / "results/bench/null_studies.json").read_text())["families"]
    asked = null_studies.families_of(STUDIES.values())
    looks = [
        (s.name, claims[0].own, len(claims), sorted({n for c in claims for n in s.looks(c)})) for s, claims in asked
    ]
    assert [(row["study"], row["own"], row["claims"], row["looks"]) for row in kept] == looks
