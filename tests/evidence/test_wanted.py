"""Seeds wanted: as many as decide a claim four times in five, when its effect is as estimated."""

import dataclasses

import numpy as np
import pytest
from synthetic import make_record

from s6lib.evidence import forecast, verdicts, wanted
from s6lib.studies import STUDIES
from s6lib.studies.base import Claim, Plan, less, more, same

STUDY = STUDIES["regularisers"]
SD, GAP = 0.05, 0.04


def records(gap):
    """Two arms of ten seeds, whose means differ by `gap`, each with a standard deviation of exactly SD."""
    wave = np.tile([-1.0, 1.0], 5)[:, None] * SD / np.std(np.tile([-1, 1], 5), ddof=1)
    return {name: make_record({"test_accuracy": 99.4 + shift + wave}, name) for name, shift in (("a", gap), ("b", 0.0))}


def of(claim, gap, family=1):
    return wanted.seeds_wanted(STUDY, claim, records(gap), family)


@pytest.mark.parametrize(
    ("part", "gap"),
    [
        (more("a", "b", margin=None), GAP),
        (less("a", "b", margin=None), GAP),
        (more("a", "b"), 0.01),
        (same("a", "b"), 0.01),
    ],
    ids=["shown", "contradicted", "no difference", "equal as claimed"],
)
def test_so_many_seeds_decide_four_times_in_five(part, gap):
    # simulated by the rules of verdicts, one look at that number
    claim = Claim("x", "", (part,))
    seeds = of(claim, gap)
    study = dataclasses.replace(STUDY, plan=Plan((seeds,)))
    source = np.random.default_rng(0)
    arms = {name: shift + SD * source.standard_normal((2000, seeds)) for name, shift in (("a", gap), ("b", 0.0))}
    decided = forecast.settle(study, [claim], lambda arm, _: arms[arm], seeds).verdict != "undecided"
    assert 0.74 < decided.mean() < 0.88  # what misses equality may be shown as a direction


def test_more_claims_and_smaller_effects_want_more_seeds():
    claim = Claim("x", "", (more("a", "b", margin=None),))
    assert of(claim, 0.02) == pytest.approx(4 * of(claim, GAP), rel=0.1)
    assert of(claim, GAP, family=8) > of(claim, GAP)
    assert of(claim, 5.0) == wanted.FEWEST


@pytest.mark.parametrize(
    ("wanted_seeds", "seeds", "said"),
    [
        (1234, 10, "about 1,200"),
        (851, 10, "about 850"),
        (9, 10, "about 9; the next look is at 20"),
        (40, 30, "about 40"),
        (None, 10, ""),
    ],
)
def test_seeds_wanted_in_words(wanted_seeds, seeds, said):
    row = {"seeds_wanted": wanted_seeds, "seeds": seeds, "planned_looks": [10, 20, 30]}
    assert wanted.told(row) == said


def test_nothing_is_wanted_of_what_is_decided_or_unknown(monkeypatch):
    made = [make_record({"test_accuracy": np.full((5, 20), 99.2) + np.eye(5, 20)}, n) for n in ("bn_l1", "gn_l1")]
    rows = {(row["study"], row["claim"]): row for row in wanted.verdict_rows(made)}
    assert rows["normalisers", "a"]["verdict"] == "missing"
    assert rows["normalisers", "a"]["seeds_wanted"] is None
    made.append(make_record({"test_accuracy": np.full((5, 20), 99.0) + np.eye(5, 20)}, "ln_l1"))
    rows = {(row["study"], row["claim"]): row for row in wanted.verdict_rows(made)}
    assert rows["normalisers", "a"]["verdict"] == "undecided"
    assert rows["normalisers", "a"]["seeds_wanted"] >= wanted.FEWEST
    decided = [{**row, "verdict": "supported"} for row in rows.values()]
    monkeypatch.setattr(verdicts, "verdicts", lambda found: decided)
    assert {row["seeds_wanted"] for row in wanted.verdict_rows(made)} == {None}


def test_a_paired_variance_is_of_the_pairs():
    # of 10 seeds each, one diverged in either arm, another in the other: 8 pairs
    study, source = STUDIES["normalisers"], np.random.default_rng(0)
    known = {
        arm: make_record({"test_accuracy": 99.2 + 0.1 * source.standard_normal((10, 15))}, arm)
        for arm in ("lambda_0", "lambda_1e-05")
    }
    for record, seed in zip(known.values(), (3, 5), strict=True):
        record.diverged = [{"seed": seed, "epoch": 1, "step": 1}]
    part = same("lambda_1e-05", "lambda_0")
    assert verdicts.is_paired(part, study)
    _, variance = wanted.contrast(part, study, known)
    assert variance == pytest.approx(8 * verdicts.contrast(part, known, study).se ** 2)


def test_a_claim_that_counts_twice_makes_the_others_want_more_seeds(monkeypatch):
    curves = {"test_accuracy": np.full((5, 20), 99.2) + np.eye(5, 20)}
    made = [make_record(curves, name) for name in ("bn_l1", "ln_l1", "gn_l1")]
    monkeypatch.setattr(wanted, "seeds_wanted", lambda study, claim, known, family: family)
    rows = [row for row in wanted.verdict_rows(made) if row["study"] == "normalisers"]
    claims = [claim for claim in STUDIES["normalisers"].claims if not claim.own]
    twice = sum(verdicts.is_twofold(claim) for claim in claims)
    assert twice > 0
    assert {row["seeds_wanted"] for row in rows if row["verdict"] == "undecided"} == {len(claims) + twice}
