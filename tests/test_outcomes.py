"""The first lines of notebooks: how long, where to open it, what came out."""

import json
import re

import pytest
from committed import EVIDENCE
from synthetic import make_record

from s6lib import paths
from s6lib.report import address, markers, outcomes
from s6lib.report.values import Evidence

NOTEBOOKS = sorted((paths.home() / "notebooks").rglob("*.ipynb"))
TRIALS = [path for path in NOTEBOOKS if path.parent.name != "notebooks"]


def with_records(**accuracies):
    """Evidence in which some arms of `regularisers` have these last epochs."""
    other = Evidence()
    made = {
        name: make_record({"test_accuracy": [[v] for v in values]}, name, "regularisers")
        for name, values in accuracies.items()
    }
    other.__dict__["records"] = {f"regularisers/{name}": record for name, record in made.items()}
    return other


def first_cell(path):
    return "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])


@pytest.mark.parametrize("path", TRIALS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_trial_s_first_lines_are_about_itself(path):
    # time, badge, and after question and prediction what came out, each of this notebook's own arm
    arm, text = f"{path.parent.name}/{path.stem}", first_cell(path)
    places = [text.index(f"<!--= {name} -->") for name in (f"takes {arm}", f"colab notebooks/{arm}.ipynb")]
    assert max(places) < text.index("**Question.**") < text.index("**Prediction.**")
    assert text.index("**Prediction.**") < text.index(f"<!--= came_out {arm} -->")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_can_be_opened_in_colab(path):
    assert f"<!--= colab {path.relative_to(paths.home()).as_posix()} -->" in first_cell(path)


def test_what_came_out_names_control_interval_and_seeds():
    e = with_records(bn=[99.0, 99.1, 99.0, 99.1, 99.0], bn_l1=[99.5, 99.4, 99.5, 99.4, 99.5])
    text = e.value("came_out regularisers/bn_l1")
    assert text.startswith("99.46 % after the last epoch (5 seeds, 95 % interval 99.39 to 99.53)")
    assert "0.42 points against its control `bn` (95 % interval 0.34 to 0.50): higher by this comparison alone" in text
    assert "control" not in e.value("came_out regularisers/bn")


def test_what_came_out_names_what_is_missing():
    e = with_records(bn_l1=[99.5] * 5)
    assert "its control `bn` is not in the committed run yet" in e.value("came_out regularisers/bn_l1")
    assert e.value("came_out regularisers/bn") == "not in the committed run yet"


def test_times_are_of_the_records_and_the_measurement():
    seconds = EVIDENCE.records["regularisers/gbn"].seconds_per_seed
    digits = EVIDENCE.measured("durations")["digits"]["regularisers/gbn"]
    assert f"{seconds / 60:.2g} minutes per seed on MNIST" in EVIDENCE.value("takes regularisers/gbn")
    assert f"{digits:.2g} s on the digits" in EVIDENCE.value("takes regularisers/gbn")
    assert "for one seed of each of its 2 arms on MNIST" in EVIDENCE.value("takes regularisers/gbn regularisers/bn")
    assert "nobody has measured" in EVIDENCE.value("takes regularisers/unheard-of")


def test_long_times_are_in_hours():
    told = ["99 s", "1.7 minutes", "98 minutes", "1.7 hours"]
    assert [outcomes._seconds(value) for value in (99, 100, 5900, 6000)] == told


def test_the_badge_needs_an_address(monkeypatch):
    monkeypatch.setattr(address, "current", lambda: "https://github.com/your-name/s6lib")
    assert "make lab" in EVIDENCE.value("colab notebooks/summary.ipynb")
    monkeypatch.setattr(address, "current", lambda: "https://github.com/somebody/copy")
    badge = EVIDENCE.value("colab notebooks/summary.ipynb")
    assert badge.endswith("(https://colab.research.google.com/github/somebody/copy/blob/main/notebooks/summary.ipynb)")


def test_markers_in_notebooks_stay_json(tmp_path):
    # quotes, backslashes and line breaks of a value are written as JSON has them, and found again as they are
    path = tmp_path / "one.ipynb"
    path.write_text(json.dumps({"cells": [{"source": ["a <!--= x --><!--/-->"]}]}))
    value = 'say "\\lambda"\nand more'
    assert markers.rewrite(path, lambda _: value)
    assert json.loads(path.read_text())["cells"][0]["source"] == [f"a <!--= x -->{value}<!--/-->"]
    assert markers.differences(path, lambda _: value) == []
    assert re.search("differs|found", markers.differences(path, lambda _: "other")[0])
