"""Summary tables, on records that are there, partly there, and not there."""

import dataclasses
import json
from pathlib import Path

import nbformat
import numpy as np
import pytest
from synthetic import make_record

from s6lib import data
from s6lib.evidence import measures, tables
from s6lib.evidence.measures import MEASURES
from s6lib.studies import trained_by

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "summary.ipynb"


@pytest.fixture
def pair(tmp_path):
    """Two trials of five seeds as found below a run's folder."""
    accuracy = [[98.0, 99.3, 99.2], [98.0, 99.1, 99.0], [98.0, 99.2, 99.1], [98.0, 99.2, 99.1], [98.0, 99.2, 99.1]]
    made = [make_record({"test_accuracy": accuracy}, name) for name in ("ln_l1", "bn_l1")]
    return [dataclasses.replace(record, path=tmp_path / "normalisers" / record.name) for record in made]


def test_headline_is_the_last_epoch(pair):
    # mean of 99.2 and 99.0; the best epoch, 99.2, is another column, beside the published best
    row = tables.shown(pair).set_index("trial").loc["bn_l1"]
    assert row["test %, last epoch"] == "99.10"
    assert row["best epoch %, chosen on the test set"] == "99.20"
    assert row["published best %, likewise, 1 seed"] == "99.22"
    assert row["train − test, points"] == "-0.20"


def test_best_epochs_are_labelled(pair):
    # no reader may take them for results
    assert [name for name in tables.shown(pair) if "best" in name and "test set" not in name] == [
        "published best %, likewise, 1 seed"
    ]


def test_interval_is_shown(pair):
    # mean, sd and, from five seeds on, the interval; one seed shows its number only
    row = tables.shown(pair).iloc[0]
    text = [row["test %, last epoch"], row["± sd"], row["95 % interval"].replace("\N{NO-BREAK SPACE}", " ")]
    assert text == ["99.10", "0.07", "99.01 to 99.19"]
    few = make_record({"test_accuracy": [[98.0, 99.2]] * 4})
    assert tables.shown([few]).iloc[0]["95 % interval"] == ""
    one = tables.shown([make_record({"test_accuracy": [[99.0, 99.2]]})]).iloc[0]
    assert (one["test %, last epoch"], one["± sd"], one["95 % interval"]) == ("99.20", "", "")


def test_all_replicas_diverged(pair):
    # a row that says so, no exception
    lost = dataclasses.replace(pair[0], diverged=[{"seed": s, "epoch": 1, "step": 1} for s in range(5)])
    row = tables.shown([lost]).iloc[0]
    assert (row.seeds, row.diverged) == (0, 5)
    assert row["test %, last epoch"] == ""
    assert tables.gap(lost, pair[1]) == ("", "", "")
    assert tables.averaging([lost]).loc[lost.name].tolist() == ["", ""]


@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_of_no_seed_is_empty(pair, measure):
    lost = dataclasses.replace(pair[0], diverged=[{"seed": s, "epoch": 1, "step": 1} for s in range(5)])
    assert MEASURES[measure][0](lost).shape == (0,)


def test_what_averaging_the_weights_brings():
    record = make_record({"test_accuracy": np.full((5, 2), 99.5), "raw_test_accuracy": np.full((5, 2), 99.25)})
    record.history = record.history.assign(raw_test_accuracy=99.25)
    assert tables.averaging([record]).loc[record.name].tolist() == ["+0.250", "+0.250\xa0to\xa0+0.250"]
    assert measures.averaging_gain(make_record()).tolist() == [0, 0, 0]


def test_missing_trials_are_named(pair, tmp_path):
    # by path below the run or by protocol; other shapes of a plan are refused
    plan = json.dumps(["normalisers/bn_l1", "normalisers/gn_l1"])
    assert tables.missing(pair, plan, str(tmp_path)) == ["normalisers/gn_l1"]
    assert tables.missing(pair, "") == []


def test_a_sweep_is_there_when_all_its_arms_are(pair):
    # its entry is no trial of its own, and records that `make decide` made lie under the arms
    plan, sweep = (
        json.dumps(["normalisers/l1_lambda", "normalisers/ln_l1"]),
        trained_by("normalisers/l1_lambda"),
    )
    found = [make_record(name=arm) for arm in sweep]
    assert len(sweep) > 2
    assert tables.missing(found, plan) == ["normalisers/ln_l1"]
    assert tables.missing(found[1:], plan) == ["normalisers/l1_lambda", "normalisers/ln_l1"]


def test_a_plan_of_another_shape_is_refused(pair):
    with pytest.raises(ValueError, match="expected a JSON list"):
        tables.missing(pair, '{"a": 1}')


def test_replication_holds_one_seed_against_one_seed(pair):
    # 99.1 +- 2.776 * 0.0707 * sqrt(6/5): the published 99.21 and 99.28 are inside, 90 would not be
    rows = tables.replication(pair).set_index("trial")
    assert rows["95 % of single seeds"]["bn_l1"].replace("\N{NO-BREAK SPACE}", " ") == "98.88 to 99.32"
    assert dict(rows["published last epoch, %"]) == {"bn_l1": "99.21", "ln_l1": "99.28"}
    assert set(rows.replicates) == {"yes"}
    low = make_record({"test_accuracy": [[98.0, 99.3, 90.0], [98.0, 99.1, 90.1]]}, "gn_l1")
    assert tables.replication([low]).replicates[0] == "no"
    assert len(tables.replication([make_record({"test_accuracy": [[99.0, 99.2]]}, "unheard_of")])) == 0


def test_differences_are_against_the_first(pair):
    # ln_l1 against bn_l1, the same numbers here: no difference, a draw
    row = tables.differences(pair).iloc[0]
    seeds = row["95 % interval, new seeds"].replace("\N{NO-BREAK SPACE}", " ")
    assert (row.trial, row.against, row["difference, points"], seeds) == ("ln_l1", "bn_l1", "+0.00", "-0.10 to +0.10")
    assert row["a seed of it beats one of the other"] == "50 %"


def test_differences_need_seeds(pair):
    # an arm that diverged whole is left out; below five seeds no interval is shown
    lost = dataclasses.replace(pair[0], diverged=[{"seed": s, "epoch": 1, "step": 1} for s in range(5)])
    assert len(tables.differences([lost, pair[1]])) == 0
    ones = [make_record({"test_accuracy": [[99.0, 99.2]]}, name) for name in ("bn_l1", "ln_l1")]
    row = tables.differences(ones).iloc[0]
    assert row["95 % interval, new seeds"] == ""
    assert row["95 % interval, new seeds and images"] == ""


def test_groups_are_studies_and_their_sweeps(pair):
    # a sweep's arms are compared with each other, in the order of the study's file; trials of one's own come last
    others = [make_record(name=name) for name in ("mine", "lambda_0.001", "lambda_0")]
    groups = tables.by_study([*others, *pair])
    names = {key: [record.name for record in group] for key, group in groups.items()}
    assert names == {
        "normalisers, mnist": ["bn_l1", "ln_l1", "mine"],
        "normalisers, lambda, mnist": ["lambda_0", "lambda_0.001"],
    }


def test_works_on_nothing(tmp_path):
    # no records: it says so, and every table is empty but whole
    found, left_out = tables.collect(str(tmp_path))
    assert tables.headline(found, left_out, str(tmp_path)) == f"No records in {tmp_path}."
    assert len(tables.shown(found)) == 0
    assert (tables.verdicts(found).verdict == "missing").all()


def test_headline_names_the_data(pair, tmp_path):
    # data first, then how many replicas there are and how many were lost
    text = tables.headline(pair, ["x: unreadable"], str(tmp_path))
    assert text.startswith("MNIST: 60 training and 20 test images. 2 trials, 10 replicas, 0 of them diverged.")
    assert text.endswith("1 left out.")
    pair[0].dataset = {**data.load("digits").describe()}  # whose title has its sizes already
    assert tables.headline(pair[:1], [], "").startswith("digits (scikit-learn): 1,500 training and 297 test images. 1")


def test_the_reference_is_named_alike_everywhere(pair):
    # the report is committed, so it must not hold a machine's paths
    assert tables.headline(pair, [], "").endswith(" From results/reference.")


def test_nothing_shown_as_html_is_unescaped(pair):
    # trial names come from files; a trial refuses such a name, and the table would escape it
    odd = dataclasses.replace(pair[0], trial=dataclasses.replace(pair[0].trial))
    object.__setattr__(odd.trial, "name", "<b>bold</b>")
    assert "<b>bold" not in tables.shown([odd]).to_html()
    assert tables.shown([odd])["published best %, likewise, 1 seed"][0] == ""


def test_notebook_is_stripped_and_short():
    # sources are committed without outputs, and hold no logic
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count is None and not cell.outputs for cell in code)
    assert all(len(cell.source.splitlines()) <= 8 for cell in code)
    assert [cell.id for cell in code if "parameters" in cell.metadata.get("tags", [])] == ["parameters"]


def test_a_folder_is_found_from_any_notebook(tmp_path, monkeypatch):
    # as the README names it, whatever folder the kernel works in
    monkeypatch.setattr(tables.paths, "home", lambda: tmp_path)
    assert tables.folder("results/lab") == tmp_path / "results/lab"


def test_studies_with_claims_are_those_that_can_be_weighed(pair):
    assert tables.with_claims(pair) == []
