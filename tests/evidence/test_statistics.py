"""Statistics: numbers that can be checked by hand, against scipy, or against what was published."""

import dataclasses

import numpy as np
import pytest
from scipy import stats as scipy_stats
from synthetic import make_record

from s6lib.evidence import images, measures
from s6lib.evidence import statistics as stats
from s6lib.report import text

A, B = [99.1, 99.3, 99.2, 99.4, 99.5], [99.0, 99.1, 99.0, 99.2, 98.9]


def test_interval_is_students():
    # mean +- t(0.975, 4) * sd / sqrt(5), as scipy has it
    found = stats.mean_interval(A)
    low, high = scipy_stats.t.interval(0.95, 4, np.mean(A), scipy_stats.sem(A))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.mean, found.sd, found.n) == pytest.approx((99.3, np.std(A, ddof=1), 5))


@pytest.mark.parametrize("values", [[], [99.2]])
def test_too_few_values_have_no_interval(values):
    # one seed says nothing about its spread; it is no error either
    found = stats.mean_interval(values)
    assert np.isnan(found.low)
    assert np.isnan(found.sd)
    assert found.n == len(values)


@pytest.mark.parametrize("found", [stats.mean_interval(A[:4]), stats.difference(A, B[:4])])
def test_four_seeds_show_no_interval(found):
    # the group with fewest seeds counts; tables are empty there, texts say so
    assert np.isnan(stats.shown(found)).all()
    assert text.ends(found) == "not shown"


@pytest.mark.parametrize("found", [stats.mean_interval(A), stats.difference(A, B)])
def test_five_seeds_show_one(found):
    # the interval itself, in the texts as well
    assert stats.shown(found) == (found.low, found.high)
    assert text.ends(found, "3") == text.span(found.low, found.high, "3")


def test_difference_is_welchs():
    # estimate, p and interval are those of scipy's Welch test
    found, expected = stats.difference(A, B), scipy_stats.ttest_ind(A, B, equal_var=False)
    interval = expected.confidence_interval()
    assert (found.p, found.low, found.high) == pytest.approx((expected.pvalue, interval.low, interval.high))


def test_one_sided_p_values_are_scipys():
    # above(bound) tests "greater", below(bound) "less"
    found = stats.difference(A, B)
    for side, p in (("greater", found.above(0.1)), ("less", found.below(0.1))):
        assert p == pytest.approx(
            scipy_stats.ttest_ind(np.subtract(A, 0.1), B, equal_var=False, alternative=side).pvalue
        )


def test_difference_of_one_seed_has_no_p():
    # a mean is known, nothing else
    found = stats.difference([99.2], A)
    assert found.mean == pytest.approx(-0.1)
    assert np.isnan(found.p)
    assert np.isnan(found.above())


def test_replicas_all_alike_are_decided():
    # no variance: t would be 0/0 or infinite
    assert stats.difference([1, 1], [1, 1]).p == 1
    assert stats.difference([2, 2], [1, 1]).p == 0


def test_contrast_with_half_weights():
    # a - (b + c) / 2 has variance s_a^2/n + (s_b^2 + s_c^2)/(4 n)
    found = stats.contrast([A, B, A], [1, -0.5, -0.5])
    assert found.mean == pytest.approx(np.mean(A) - (np.mean(B) + np.mean(A)) / 2)
    assert found.se**2 == pytest.approx(1.25 * np.var(A, ddof=1) / 5 + np.var(B, ddof=1) / 20)


@pytest.mark.parametrize(("gap", "shown"), [(0.0, True), (0.04, False), (0.2, False)])
def test_equivalence(gap, shown):
    # ten seeds with an sd of 0.02: no gap is shown to lie within 0.05; a gap at or beyond the margin is not
    arm = 99 + 0.02 * scipy_stats.norm.ppf(np.linspace(0.05, 0.95, 10))
    assert (stats.equivalence(arm + gap, arm) < 0.01) == shown


def test_probability_of_improvement_counts_pairs():
    # 2 beats both, 1 beats 0 and ties with 1: (1 + 1 + 1 + 1/2) / 4
    assert stats.probability_of_improvement([2, 1], [1, 0]) == pytest.approx(0.875)
    assert stats.probability_of_improvement(B, A) == pytest.approx(1 - stats.probability_of_improvement(A, B))


def test_holm_by_hand():
    # 0.01 * 3, then max(that, 0.02 * 2), then max(that, 0.9); nan stays and does not count
    np.testing.assert_allclose(stats.holm([0.02, np.nan, 0.01, 0.9]), [0.04, np.nan, 0.03, 0.9])
    assert stats.holm([]).size == 0


def test_one_seeds_accuracy_is_known_to_a_tenth_of_a_point():
    # 99.49 % of 10,000 images: binomial standard error 0.071, Wilson interval [99.33, 99.61]
    found = scipy_stats.binomtest(9949, 10_000).proportion_ci(method="wilson")
    assert (100 * found.low, 100 * found.high) == pytest.approx((99.33, 99.61), abs=0.005)
    rights = np.arange(10_000)[None] < 9949
    other = np.arange(10_000)[None] >= 0  # always right: only the first arm's images vary
    spread = stats.two_way_bootstrap(rights, other).sd
    assert spread == pytest.approx(0.0712, rel=0.06)


def test_bootstrap_sees_seeds_and_images():
    # two arms that differ by two images of 10,000, as the best published pair does: zero is well inside
    source = np.random.default_rng(1)
    a = source.random((5, 2000)) < 0.99
    found = stats.two_way_bootstrap(a, a[::-1], draws=500)
    assert found.mean == pytest.approx(0)
    assert found.low < 0 < found.high
    assert found == stats.two_way_bootstrap(a, a[::-1], draws=500)


def test_bootstrap_covers_a_plain_gap():
    # arms that are 2 points apart on every seed
    source = np.random.default_rng(2)
    a, b = source.random((8, 3000)) < 0.99, source.random((8, 3000)) < 0.97
    found = stats.two_way_bootstrap(a, b, draws=400)
    assert 0 < found.low < 2 < found.high < 4


def test_bootstrap_needs_the_same_images():
    with pytest.raises(ValueError, match="arms of 3 and 4 images"):
        stats.two_way_bootstrap(np.ones((2, 3), bool), np.ones((2, 4), bool))


def test_calibration_error_by_hand():
    # four answers with confidence 0.8, two of them right: |0.5 - 0.8|; always sure and right: 0
    right = np.array([True, True, False, False])
    assert images.expected_calibration_error(np.full(4, 0.8), right) == pytest.approx(30)
    always = np.array([[True] * 3, [False] * 3])
    np.testing.assert_allclose(images.expected_calibration_error(np.ones((2, 3)), always), [0, 100], atol=1e-6)


def test_misclassified_order():
    # by how many seeds miss, then by the confidence of the wrong class, then by number
    logits = np.zeros((3, 4, 10))
    logits[:, range(4), range(4)] = 5  # all right so far
    logits[:2, 1] = np.eye(10)[7] * 6  # image 1: two seeds say 7
    logits[2, 1] = np.eye(10)[8] * 6  # and one says 8
    logits[0, 2] = np.eye(10)[3] * 9  # image 2: one seed, very sure
    logits[0, 3] = np.eye(10)[4] * 2  # image 3: one seed, less so
    found = images.misclassified(make_record(logits=logits, labels=np.arange(4)))
    assert found.image.tolist() == [1, 2, 3]
    assert found.predicted.tolist() == [7, 3, 4]
    assert found.missed_by.tolist() == [3, 1, 1]
    assert found.confidence[0] == pytest.approx(100 / (1 + 9 * np.exp(-6)), abs=0.01)
    assert set(found.seeds) == {3}


def test_confusions_are_means_over_networks():
    # of three networks in two records two take the 1 for 7, one of them the 2 for 0; a fourth diverged
    labels, right = np.arange(3), np.eye(10)
    answers = np.array([[0, 7, 2], [0, 7, 0], [5, 5, 5]])
    first = make_record(logits=right[answers], labels=labels)
    first.diverged = [{"seed": 2, "epoch": 1, "step": 1}]
    second = make_record(logits=right[[labels]], labels=labels)
    found = images.confusions([first, second])
    expected = np.zeros((10, 10))
    expected[[0, 1, 1, 2, 2], [0, 7, 1, 0, 2]] = np.array([3, 2, 1, 1, 2]) / 3
    np.testing.assert_allclose(found, expected)
    second.dataset = {**second.dataset, "checksum": "another"}
    with pytest.raises(ValueError, match="confusions: the records are of different data sets"):
        images.confusions([first, second])


def test_diverged_replicas_are_never_averaged_in():
    # seed 1 fell to chance and then to nan: neither accuracy nor misclassified digits see it
    record = make_record({"test_accuracy": [[99.0, 99.2], [10.0, 10.0], [99.0, 99.4]]})
    logits = record.logits.copy()
    logits[1] = np.nan
    record = dataclasses.replace(record, logits=logits, diverged=[{"seed": 1, "epoch": 2, "step": 3}])
    assert measures.last(record, "test_accuracy").tolist() == [99.2, 99.4]
    assert measures.by_epoch(record, "test_accuracy").shape == (2, 2)
    assert (measures.left_out(record), measures.who(record)) == (1, "2 of 3 seeds, 1 diverged")
    assert measures.correct(record).shape[0] == 2
    assert len(images.misclassified(record)) == 0


def test_commonly_missed_pools_trials():
    # image 2 is missed by both trials, image 0 by one
    logits = np.tile(np.eye(10)[None, :3], (2, 1, 1)) * 9
    one, two = logits.copy(), logits.copy()
    one[:, 2], two[:, 2], two[0, 0] = np.eye(10)[5], np.eye(10)[5], np.eye(10)[5]
    pair = [make_record(logits=x, labels=np.arange(3)) for x in (one, two)]
    assert images.commonly_missed(pair, 9) == [2, 0]
    assert images.commonly_missed([], 9) == []


def test_prediction_interval_holds_prediction_interval():
    # of a thousand tries, 95 in a hundred find a sixth value within what five said; the mean's interval is narrower
    values = np.random.default_rng(0).normal(99, 0.1, (1000, 6))
    spans = [stats.prediction_interval(row[:5]) for row in values]
    inside = [span.low <= row[5] <= span.high for span, row in zip(spans, values, strict=True)]
    assert 0.93 < np.mean(inside) < 0.97
    assert stats.prediction_interval(values[0]).low < stats.mean_interval(values[0]).low
    assert np.isnan(stats.prediction_interval([99.0]).low)
