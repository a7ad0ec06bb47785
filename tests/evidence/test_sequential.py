"""Bounds against published ones, p-values against simulation."""

import numpy as np
import pytest
from scipy import stats

from s6lib.evidence import sequential, statistics


@pytest.mark.parametrize(
    ("times", "alpha", "expected"),
    [
        # Lan and DeMets' O'Brien-Fleming bounds as tabled, z-scores: one-sided .025 at 2, 3 and 5 equal looks
        ((1 / 2, 1), 0.025, (2.963, 1.969)),
        ((1 / 3, 2 / 3, 1), 0.025, (3.710, 2.511, 1.993)),
        ((0.2, 0.4, 0.6, 0.8, 1), 0.025, (4.877, 3.357, 2.680, 2.290, 2.031)),
    ],
)
def test_bounds_are_the_published_ones(times, alpha, expected):
    assert sequential.bounds(times, alpha) == pytest.approx(expected, abs=6e-4)


def test_nominal_levels_are_the_published_ones():
    # one-sided .05, looks at quarters
    nominal = stats.norm.sf(sequential.bounds((0.25, 0.5, 0.75, 1), 0.05))
    assert nominal == pytest.approx((8.86e-5, 0.00554, 0.02190, 0.04270), rel=1e-3)


def test_one_look_is_the_plain_test():
    assert sequential.bounds((1.0,), 0.05) == pytest.approx([stats.norm.isf(0.05)])
    p = sequential.p_value(np.array([[1.0], [2.0], [3.0]]), (1.0,))
    assert p == pytest.approx(stats.norm.sf([1, 2, 3]), rel=0.01)


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.2])
def test_p_is_below_alpha_in_that_share_of_null_studies(alpha):
    # at the last look, having looked at all of them
    steps = np.random.default_rng(0).standard_normal((40_000, 3))
    z = steps.cumsum(1) / np.sqrt([1, 2, 3])
    share = (sequential.p_value(z, (1 / 3, 2 / 3, 1)) <= alpha).mean()
    assert share == pytest.approx(alpha, abs=4 * (alpha * (1 - alpha) / 40_000) ** 0.5)


def test_p_is_the_level_of_the_bound_that_was_met():
    # whatever the level: a z-score on look 2's bound has that level as its p
    times = (1 / 3, 2 / 3, 1)
    for alpha in (0.001, 0.004, 0.03, 0.4):
        z = [-9.0, sequential.bounds(times, alpha)[1]]
        assert sequential.p_value(z, times) == pytest.approx(alpha, rel=0.02)


def test_later_looks_never_raise_p():
    z = np.array([2.9, 0.0, -1.0])
    p = [float(sequential.p_value(z[:k], (1 / 3, 2 / 3, 1))) for k in (1, 2, 3)]
    assert p[0] == p[1] == p[2]


def test_a_look_that_was_not_made_counts_for_nothing():
    z = np.array([[np.nan, 2.0], [np.nan, np.nan]])
    assert sequential.p_value(z, (0.5, 1.0)) == pytest.approx([float(sequential.p_value([-9.0, 2.0], (0.5, 1.0))), 1])


@pytest.mark.parametrize("times", [(), (0.5, 0.5, 1), (0.5, 0.9), (0, 1)])
def test_looks_that_do_not_rise_to_one_are_refused(times):
    with pytest.raises(ValueError, match="shares that rise to 1"):
        sequential.bounds(times, 0.05)


# --- a family of claims ----------------------------------------------------------------------------


def test_claims_without_equality_are_holms():
    # Holm 1979, by the function checked by hand
    p, nothing = np.array([0.02, 0.01, 0.9, 0.01]), np.full(4, np.nan)
    found, equal = sequential.corrected(p, nothing, sequential.step_down(p, nothing))
    assert found == pytest.approx(statistics.holm(p))
    assert np.isnan(equal).all()


def test_a_claim_leaves_its_family_with_its_last_hypothesis():
    # the first claim's two p come first: the second then has no other claim left; with one alone it still has
    both = sequential.step_down(np.array([0.001, 0.03]), np.array([0.002, 0.2]))
    one = sequential.step_down(np.array([0.5, 0.03]), np.array([0.002, 0.2]))
    assert [factor.tolist() for factor in both] == [[2, 1], [2, 1]]
    assert [factor.tolist() for factor in one] == [[1, 2], [2, 2]]


def test_a_claim_of_several_differences_counts_with_each_p_it_has_left():
    # with both, then with the one that is left; without an equality it has only one
    both = sequential.step_down(np.array([0.001, 0.03]), np.array([0.02, 0.2]), np.array([True, False]))
    assert [factor.tolist() for factor in both] == [[3, 1], [2, 1]]
    one = sequential.step_down(np.array([0.001, 0.03]), np.array([np.nan, 0.2]), np.array([True, False]))
    assert one[0].tolist() == [2, 1]


def test_claims_shown_to_be_equal_do_not_make_the_others_easier():
    # no difference anywhere, and equality all but certain: a false direction in at most 5 % of studies all the same
    source = np.random.default_rng(0)
    z = source.standard_normal((20_000, 8))
    direction, equality = 2 * stats.norm.sf(abs(z)), stats.norm.sf(5 - abs(z))
    found, _ = sequential.corrected(direction, equality, sequential.step_down(direction, equality))
    assert 0.03 < (found <= 0.05).any(-1).mean() < 0.055
