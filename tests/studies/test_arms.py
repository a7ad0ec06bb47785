"""One place says what an arm is: notebooks, studies.toml, claims and published numbers agree with the studies."""

import json
import tomllib
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from s6lib import models
from s6lib import trial as trials
from s6lib.evidence.measures import MEASURES
from s6lib.studies import NETWORKS, STUDIES, base, progression

ROOT = Path(__file__).parents[2]
TABLE = tomllib.loads((ROOT / "studies.toml").read_text(encoding="utf-8"))
RUNS = [(study, name, entry) for study, runs in TABLE["studies"].items() for name, entry in runs.items()]


def cells(notebook: str) -> list[str]:
    """The code of the parameters cell and of every cell that makes or trains a trial."""
    found = json.loads((ROOT / "notebooks" / notebook).read_text(encoding="utf-8"))["cells"]
    code = [(cell["id"], "".join(cell["source"])) for cell in found if cell["cell_type"] == "code"]
    wanted = ("make_trial(", "training.", "candidates = ")
    return [text for name, text in code if name == "parameters" or any(part in text for part in wanted)]


def trained(notebook: str, parameters: dict) -> list[trials.Trial]:
    """The trials that a notebook trains with these parameters, nothing being trained."""
    found: list[trials.Trial] = []
    stub = MagicMock()
    stub.train.side_effect = lambda trial, *_, **__: found.append(trial) or MagicMock()
    stub.train_together.side_effect = lambda many, *_, **__: found.extend(many) or [MagicMock() for _ in many]
    stub.find_or_train.side_effect, stub.find_or_train_together.side_effect = (
        stub.train.side_effect,
        stub.train_together.side_effect,
    )
    space = {name: MagicMock() for name in ("data", "plots", "records", "images", "print")}
    space |= {
        "training": stub,
        "make_trial": trials.make_trial,
        "models": models,
        "group_counts": progression.group_counts,
    }
    first, *rest = cells(notebook)
    exec(first, space)
    space.update(parameters)
    for text in rest:
        exec(text, space)
    return found


@pytest.mark.parametrize(("study", "name", "entry"), RUNS, ids=[f"{study}-{name}" for study, name, _ in RUNS])
def test_a_notebook_s_defaults_are_its_arms(study, name, entry):
    # what the full profile trains is, in every setting, what the study's file says of the arm
    parameters = {**TABLE["profiles"]["full"], **entry.get("parameters", {}), **entry.get("full", {})}
    found = trained(entry["notebook"], parameters)
    assert found
    for trial in found:
        assert trial.study == study
        assert trial == trials.make_trial(study, trial.name)


def test_every_arm_is_run():
    # and every study of studies.toml has a file
    full = [(entry["notebook"], {**entry.get("parameters", {}), **entry.get("full", {})}) for _, _, entry in RUNS]
    found = {(trial.study, trial.name) for notebook, parameters in full for trial in trained(notebook, parameters)}
    assert found == {(study.name, arm) for study in STUDIES.values() for arm in study.arms}
    assert set(TABLE["studies"]) == set(STUDIES)


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_claims_name_arms_and_measures(study):
    for claim in study.claims:
        assert set(claim.arms) <= set(study.arms), claim.id
        assert {part.measure for part in claim.parts} <= set(MEASURES), claim.id


def test_contrasts_are_balanced():
    # a difference of arms weighs both sides alike; a slope rises by 1 where the means do
    parts = [part for study in STUDIES.values() for claim in study.claims for part in claim.parts]
    for part in parts:
        assert len(part.weights) == 1 or sum(part.weights.values()) == pytest.approx(0, abs=1e-12)
    rising = base.slope({"a": 0.0, "b": 1.0, "c": 3.0}, "", "").weights
    assert sum(weight * x for weight, x in zip(rising.values(), (0.0, 1.0, 3.0), strict=True)) == pytest.approx(1)


def test_published_numbers_are_of_arms():
    # but for what the documents report without the settings that would make it an arm
    unstated = {("progression", "gap_l1"), ("progression", "group"), ("l1_sweep", "bn_l1 (lambda 1e-4, first epoch)")}
    unstated |= {("l1_sweep", "bn_l1 (lambda 1e-5, first epoch)")}
    arms = {(study.name, arm) for study in STUDIES.values() for arm in study.arms}
    for table in ("per_epoch", "best_and_last"):
        frame = base.published_table(table)
        assert set(zip(frame.study, frame.trial, strict=True)) <= arms | unstated


def test_gap_channels_are_the_network_s():
    # the group counts of the sweep divide the channels that the normalisers of `gap` see
    from s6lib.models import build

    net = build(NETWORKS["gap"])
    assert (
        tuple(layer.num_features for layer in net.layers if hasattr(layer, "num_features")) == progression.GAP_CHANNELS
    )
    assert progression.group_counts(4) == (2, 4, 4, 4, 4, 4, 4, 2, 4)


def test_arms_of_a_family_look_different():
    # colour-blind readers and printers have line and marker too
    for study in STUDIES.values():
        for family in {arm.family for arm in study.arms.values()}:
            arms = [arm for arm in study.arms.values() if arm.family == family]
            assert len({(arm.colour, arm.line, arm.marker) for arm in arms}) == len(arms)
            assert {arm.colour for arm in arms} <= set(base.COLOURS)
