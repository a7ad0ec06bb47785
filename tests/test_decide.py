"""`decide`: what is trained next, when it stops, and the worked example of docs/decide.md, for real."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from synthetic import make_record

from s6lib.batch import decide, plan
from s6lib.batch import request as request_module
from s6lib.batch.plan import PlanError
from s6lib.batch.progress import Display
from s6lib.batch.request import Request
from s6lib.evidence import verdicts
from s6lib.studies import STUDIES

ROOT = Path(__file__).parents[1]


def record(name, seeds, study="normalisers", accuracy=99.2, sd=0.1):
    epochs = STUDIES[study].settings(name)["epochs"]
    source = np.random.default_rng(sum(map(ord, name)))
    return make_record({"test_accuracy": accuracy + sd * source.standard_normal((seeds, epochs))}, name, study)


def in_precision(found, kind):
    for one in found:
        one.provenance = {**one.provenance, "precision": kind}
    return found


def step(found, study="normalisers"):
    return decide.next_step([STUDIES[study]], verdicts.verdicts(found), found)


def test_the_first_look_comes_first():
    # of the smallest number of seeds, and only the arms that lack them
    found = [record("bn_l1", 10), record("ln_l1", 3)]
    made = step(found)
    assert made.seeds == 10
    assert set(made.entries) == {"ln_l1", "gn_l1", "bn", "ln", "gn", "l1_lambda"}
    assert (step([], "progression").seeds, step([], "progression").entries) == (3, ("model_progression",))


def test_the_slow_network_is_not_trained_past_its_own_look():
    # its notebook trains it with two others, whose looks are later; one seed of it takes most of an hour of a core
    study = STUDIES["progression"]
    declared, _ = plan.read_notebook(ROOT / "notebooks" / "model_progression.ipynb")
    (claim,) = [claim for claim in study.claims if "skeleton" in claim.arms]
    assert study.looks(claim) == (declared["skeleton_seeds"][1],)
    found = [record(name, 3, "progression") for name in ("skeleton", "bn_dropout", "gap")]
    assert step(found, "progression").seeds == 10


def test_arms_of_decided_claims_are_not_trained():
    # the order is clear at 10 seeds, so only what other claims need is added
    study = STUDIES["regularisers"]
    found = [record(name, 10, "regularisers", 99.4) for name in study.arms]
    rows = verdicts.verdicts(found)
    for row in rows:
        row["verdict"] = "undecided" if (row["study"], row["claim"]) == ("regularisers", "f") else "supported"
    made = decide.next_step([study], rows, found)
    assert (made.seeds, made.entries) == (20, ("bn_l1",))


def test_nothing_is_left_at_the_end_of_the_plan():
    study = STUDIES["normalisers"]
    found = [record(name, 20) for name in dict.fromkeys(arm for claim in study.claims for arm in claim.arms)]
    assert step(found) is None


def test_seeds_of_another_precision_or_of_stale_code_are_trained_again():
    # else "PRECISION=... makes them alike" and STALE=rerun would promise what never happens
    arms = dict.fromkeys(arm for claim in STUDIES["normalisers"].claims for arm in claim.arms)
    found = in_precision([record(name, 20) for name in arms], "float32")
    kept = [one for one in found if decide.is_added_to(one, "bfloat16", "keep")]
    assert (
        decide.next_step([STUDIES["normalisers"]], verdicts.verdicts(in_precision(found[:1], "bfloat16")), kept).seeds
        == 10
    )
    assert [decide.is_added_to(one, "float32", "keep") for one in found[:2]] == [False, True]
    found[1].stale = True
    assert decide.is_added_to(found[1], "float32", "keep")
    assert not decide.is_added_to(found[1], "float32", "rerun")


def test_seeds_of_other_settings_or_data_are_trained_again():
    short = make_record({"test_accuracy": np.full((10, 2), 99.0)})  # two epochs in place of twenty
    elsewhere = record("bn_l1", 10)
    elsewhere.dataset = {**elsewhere.dataset, "name": "fashion_mnist"}
    found = in_precision([record("bn_l1", 10), short, elsewhere], "float32")
    assert [decide.is_added_to(one, "float32", "keep") for one in found] == [True, False, False]


def test_the_precision_is_the_request_s_or_this_machine_s():
    assert decide.precision_here(Request(overrides={"precision": "float64"})) == "float64"
    assert decide.precision_here(Request()) in ("float32", "bfloat16")
    with pytest.raises(PlanError, match="unknown precision 'half'"):
        decide.precision_here(Request(overrides={"precision": "half"}))


def test_who_would_not_add_to_what_is_there_is_told(capsys):
    # or a run of another machine would be trained a second time, in hours, without a word
    found = [*in_precision([record("bn_l1", 3), record("ln_l1", 3)], "bfloat16"), record("bn", 3, "regularisers")]
    decide.tell_precision(found, [STUDIES["normalisers"]], "float32", Display())
    assert capsys.readouterr().out.startswith("2 trials in bfloat16: PRECISION=bfloat16 adds to them; without it,")
    decide.tell_precision(found, [STUDIES["normalisers"]], "bfloat16", Display())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("override", [{"seeds": 3}, {"epochs": 1}, {"dataset": "digits"}])
def test_what_the_plan_fixes_cannot_be_changed(override):
    with pytest.raises(PlanError, match="the plan fixes it"):
        decide.asked(Request(overrides=override))


def test_another_profile_is_refused():
    with pytest.raises(PlanError, match="PROFILE=quick: the plan fixes data and budget"):
        decide.decide(Request(profile="quick"))


def test_nothing_is_written_before_the_first_step_is_known_to_run(tmp_path, monkeypatch):
    request = Request(ROOT / "studies.toml", "full", "normalisers", results=tmp_path)
    monkeypatch.setenv("S6_DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(request_module, "MIRROR", ("127.0.0.1", 1))
    with pytest.raises(PlanError, match="DATASET=mnist: no files in"):
        decide.decide(request)
    assert list(tmp_path.iterdir()) == []


def test_a_budget_changed_in_studies_toml_is_refused(tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    text = (ROOT / "studies.toml").read_text().replace("[profiles.full]", "[profiles.full]\nepochs = 2\n")
    (tmp_path / "studies.toml").write_text(text)
    with pytest.raises(PlanError, match="normalisers/bn_l1: epochs 20 -> 2; the plan fixes these"):
        decide.decide(Request(tmp_path / "studies.toml", "full", "normalisers", results=tmp_path / "results"))


def test_stale_seeds_cost_what_they_take_to_train_again():
    # they count as trained, so they are not asked for by themselves; when their arm is, all of it is trained anew
    made = decide.Step(STUDIES["normalisers"], 20, ("bn_l1",))
    fresh = record("bn_l1", 10)
    fresh.provenance["seconds"] = 3600.0 * 10
    assert decide.cost(made, [fresh]).startswith("about 10.0 hours")
    fresh.stale = True
    assert decide.cost(made, [fresh]).startswith("about 20.0 hours")


def test_unknown_studies_and_trials_are_refused():
    with pytest.raises(PlanError, match="did you mean 'regularisers'"):
        decide.asked(Request(study="regularizers"))
    with pytest.raises(PlanError, match="TRIAL"):
        decide.asked(Request(trial="gbn"))
    with pytest.raises(PlanError, match="STUDY=more: it claims nothing; those that do: regularisers"):
        decide.asked(Request(study="more"))
    assert {study.name for study in decide.asked(Request())} == {n for n, s in STUDIES.items() if s.claims}


def test_the_rows_are_written_whole(tmp_path):
    rows = verdicts.verdicts([record("bn_l1", 4)])
    verdicts.write(rows, tmp_path / "run")
    assert [row["claim"] for row in json.loads((tmp_path / "run" / "verdicts.json").read_text())] == [
        row["claim"] for row in rows
    ]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["verdicts.json"]


# --- the worked example ----------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path):
    """The repository with the study of docs/decide.md, as its reader would have it."""
    for name in ("s6lib", "notebooks", "studies.toml", "results/bench"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    study, notebook, toml = re.findall(r"```(?:python|toml)\n(.*?)```", (ROOT / "docs/decide.md").read_text(), re.S)
    (tmp_path / "s6lib/studies/mine.py").write_text(study)
    init = tmp_path / "s6lib/studies/__init__.py"
    init.write_text(
        init.read_text()
        .replace("import frontier, ingredients,", "import frontier, ingredients, mine,")
        .replace("frontier, ingredients)", "frontier, ingredients, mine)")
    )
    with (tmp_path / "studies.toml").open("a") as file:
        file.write(toml)
    subprocess.run([sys.executable, "-c", notebook], cwd=tmp_path, check=True)
    return tmp_path


def start(copy, *words):
    around = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "S6_PAGE": "no"}
    command = [sys.executable, "-m", "s6lib", "decide", "--study", "mine", "--jobs", "1", "--workers", "1", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=copy, env=around, **pipes)


def test_what_was_never_timed_has_no_hours():
    step = decide.Step(STUDIES["regularisers"], 10, ("bn", "gbn"))
    assert decide.cost(step, []) == "none of them timed yet"
    assert decide.cost(step, [make_record(name="bn", study="regularisers")]).endswith("hours, 1 arm not timed yet")


def test_arms_are_charged_for_the_seeds_that_claims_need_of_them():
    # a notebook trains the skeleton, and the speedrun's earlier rungs, with few seeds: its last look is at 3
    study = STUDIES["progression"]
    found = [record(name, 3, "progression") for name in ("skeleton", "bn_dropout", "gap")]
    seconds = sum(one.seconds_per_seed for one in found[1:]) * 7
    assert decide.cost(decide.Step(study, 10, ("model_progression",)), found) == f"about {seconds / 3600:.1f} hours"
    assert decide.most_seeds(study, "skeleton") == 3
    assert decide.most_seeds(STUDIES["speedrun"], "published") == 0


def test_the_hours_may_end_at_any_moment(monkeypatch):
    # also while parts are read, before the run's own handling of signals
    monkeypatch.setattr(decide.runner, "run", lambda _: time.sleep(60))
    assert decide.train(None, time.monotonic() + 0.2) == 128 + signal.SIGTERM


@pytest.mark.slow
def test_the_worked_example_decides_and_goes_on_after_a_kill(copy):
    # killed once in its first training; afterwards verdicts.json says what the printed text says
    first = start(copy)
    deadline = time.monotonic() + 120
    while not list(copy.glob("results/full/.work/mine/*/attempt-*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = start(copy)
    output, _ = second.communicate(timeout=600)
    assert second.returncode == 0, output
    row = next(r for r in json.loads((copy / "results/full/verdicts.json").read_text()) if r["study"] == "mine")
    assert row["verdict"] not in ("undecided", "missing") or row["looks"] == row["planned_looks"]
    assert row["verdict"] in output
    assert "no look left that could decide one" in output
