"""Rows of accuracy against size, from records made by hand."""

import numpy as np
import pytest
from synthetic import make_record

from s6lib.evidence import images, sizes
from s6lib.evidence.sizes import rows
from s6lib.report.page import build


def point(name, accuracies, **options):
    columns = {"test_accuracy": np.column_stack([np.full(len(accuracies), 90.0), accuracies])}
    return make_record(columns, name, study="frontier", **options)


def test_a_point_and_its_bar():
    (row,) = rows([point("p10k", [99.9, 99.4] * 15)])
    assert row["mean"] == pytest.approx(99.65)
    assert row["bar"] == 99.6
    assert row["sd"] == pytest.approx(0.25 * (30 / 29) ** 0.5)
    assert row["p"] == pytest.approx(0.1452, abs=1e-4)  # t = 0.05 / (0.2543 / sqrt(30)) = 1.077, 29 degrees of freedom
    assert row["seeds"] == 30
    assert row["epochs"] == 2
    (row,) = rows([point("p10k", [99.9, 99.4])])  # before the planned look
    assert (row["bar"], row["p"]) == (99.6, None)


def test_multiply_adds_of_the_smallest_network():
    # out pixels x 9 x in x out of five convolutions without padding and two poolings, and the 1x1
    expected = 26**2 * 9 * 3 + 24**2 * 9 * 3 * 4 + 10**2 * 9 * 4 * 5 + 8**2 * 9 * 5 * 6 + 2**2 * 9 * 6 * 6 + 6 * 10
    (row,) = rows([point("p1k", [99.0, 99.1])])
    assert row["multiply_adds"] == expected
    assert (row["bar"], row["p"]) == (None, None)
    (more,) = rows([point("p1k", [99.0, 99.1], network="frontier_views")])
    assert (more["views"], more["multiply_adds"]) == (3, 3 * expected)


def test_rows_are_by_budget_then_size_and_of_the_study_alone():
    found = [point("p10k", [99.0]), make_record(), point("p1k", [99.0]), point("mine", [99.0], network="frontier")]
    for record in found:
        record.provenance["parameters"] = {"p1k": 1017}.get(record.name, 9496)
    assert [row["arm"] for row in rows(found)] == ["p1k", "p10k"]


def test_without_the_images_whose_label_is_wrong(monkeypatch):
    # one seed misses images 3 and 4 of 20; without 3 it is 18 of 19
    logits = np.tile(9.0 * np.eye(10)[np.arange(20) % 10], (1, 1, 1))
    logits[0, [3, 4]] = 9.0 * np.eye(10)[0]
    monkeypatch.setattr(images, "LABEL_ERRORS", {3: None})
    (row,) = rows([point("p1k", [90.0], logits=logits)])
    assert row["without_label_errors"] == pytest.approx(100 * 18 / 19)
    (row,) = rows([point("p1k", [90.0], logits=logits, dataset="digits")])
    assert row["without_label_errors"] is None


def test_a_run_without_points_has_no_file(tmp_path):
    build.write(tmp_path)
    assert not (tmp_path / sizes.FILE).exists()
