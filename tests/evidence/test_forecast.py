"""Simulated families: weighed as records are, and how often that errs."""

import dataclasses

import numpy as np
import pytest
from synthetic import make_record

from s6lib.evidence import forecast, images, statistics, verdicts
from s6lib.studies import STUDIES
from s6lib.studies.base import Claim, Plan, more

ALL = STUDIES["normalisers"]
ARMS = dict.fromkeys(arm for claim in ALL.claims for arm in claim.arms)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("seeds", [10, 20])
def test_values_are_weighed_as_records_are(seed, seeds):
    # every claim of a study, both families, paired ones too
    source = np.random.default_rng(seed)
    made = {}
    for arm in ARMS:
        shape = (20, ALL.settings(arm)["epochs"])
        level = 99 + 0.1 * source.integers(0, 3)
        columns = {"test_accuracy": level + 0.05 * source.standard_normal(shape)}
        columns["train_accuracy"] = level - 0.5 + 0.05 * source.standard_normal(shape)
        made[arm] = make_record({key: value[:seeds] for key, value in columns.items()}, arm)
    rows = {row["claim"]: row for row in verdicts.verdicts(made.values(), [(ALL, claim) for claim in ALL.claims])}
    for own in (False, True):
        claims = [claim for claim in ALL.claims if claim.own == own]
        found = forecast.settle(
            ALL, claims, lambda arm, measure: verdicts.measured(made[arm], measure).to_numpy(), seeds
        )
        assert list(found.verdict) == [rows[claim.id]["verdict"] for claim in claims]
        assert found.p == pytest.approx([rows[claim.id]["p"] for claim in claims])


def family(difference, studies, claims=8, sd=0.05):
    """Shares decided and supported, claims on two arms each with one true difference."""
    plan = Plan((10, 20, 30))
    study = dataclasses.replace(STUDIES["regularisers"], plan=plan)
    made = [Claim(str(k), "", (more(f"a{k}", f"b{k}"),)) for k in range(claims)]
    source = np.random.default_rng(0)
    arms = {
        f"{side}{k}": sd * source.standard_normal((studies, 30)) + difference * (side == "a")
        for side in "ab"
        for k in range(claims)
    }
    return forecast.settle(study, made, lambda arm, _: arms[arm], plan.looks[-1]).verdict


def test_false_verdicts_are_rare():
    # no difference: at most 5 % of studies have some direction; as large as the margin: some equality
    wrong = np.isin(family(0.0, 1500), ["supported", "contradicted", "supported, below the margin"]).any(-1)
    assert wrong.mean() < 0.05 + 3 * (0.05 * 0.95 / 1500) ** 0.5
    wrong = np.isin(family(0.05, 1500), ["no difference", "contradicted", "supported, below the margin"]).any(-1)
    assert wrong.mean() < 0.05 + 3 * (0.05 * 0.95 / 1500) ** 0.5


def test_false_verdicts_are_rare_where_both_hypotheses_can_be_wrong():
    # two differences a claim, one none and one as large as the margin: neither supported, contradicted nor equal
    plan = Plan((10, 20, 30))
    study = dataclasses.replace(STUDIES["regularisers"], plan=plan)
    made = [Claim(str(k), "", (more(f"a{k}", f"c{k}"), more(f"b{k}", f"c{k}"))) for k in range(8)]
    source = np.random.default_rng(0)
    arms = {
        f"{side}{k}": 0.05 * source.standard_normal((3000, 30)) + 0.05 * (side == "b")
        for side in "abc"
        for k in range(8)
    }
    wrong = forecast.settle(study, made, lambda arm, _: arms[arm], plan.looks[-1]).verdict != "undecided"
    assert wrong.any(-1).mean() < 0.05


def test_a_small_difference_is_not_contradicted():
    # a true difference of 0.02 points at 30 seeds: hardly ever the other way
    assert (family(0.02, 500) == "contradicted").mean() < 0.002


def test_a_tenth_of_a_point_is_seen():
    assert (family(0.1, 300) == "supported").mean() > 0.99


def test_intervals_hold_the_difference_in_95_of_100():
    source = np.random.default_rng(1)
    for seeds in (5, 10, 30):
        arms = source.standard_normal((2, 20_000, seeds))
        found = statistics.contrast(arms, [1, -1])
        assert ((found.low <= 0) & (found.high >= 0)).mean() == pytest.approx(0.95, abs=0.012)


def test_the_outlook_knows_what_is_clear():
    # a difference of ten sds is decided at the next look; one of a tenth of an sd is not, and takes all seeds
    study = STUDIES["normalisers"]
    claim = next(claim for claim in study.claims if claim.id == "c")

    def outlook(gap):
        source = np.random.default_rng(2)
        records = {
            arm: make_record(
                {"train_accuracy": 98.9 - gap * (arm == "ln_l1") + 0.2 * source.standard_normal((6, 20))}, arm
            )
            for arm in claim.arms
        }
        return forecast.outlook(study, [claim], records, draws=100)

    assert (outlook(5.0).next_look[0], outlook(5.0).seeds[0]) == (1.0, 10.0)
    assert outlook(0.0).next_look[0] < 0.5 < 10 < outlook(0.0).seeds[0]
    assert forecast.outlook(study, [claim], {}) is None


def test_the_next_look_is_the_claim_s_own():
    # a claim with one late look beside one with an early look that is still to come
    study = STUDIES["progression"]
    early, late = (next(one for one in study.claims if one.id == name) for name in "ab")
    assert (study.looks(early), study.looks(late)) == ((3,), (10,))
    found = {arm: make_record({"test_accuracy": np.full((3, 15), 98.0)}, arm, "progression") for arm in late.arms}
    assert verdicts.next_look(study, late, found) == 10
    assert verdicts.next_look(study, early, {}) == 3


def test_claims_that_were_not_run_count_in_the_outlook():
    # a difference that one claim alone would show, and one of ten does not
    study = STUDIES["normalisers"]
    claim = next(claim for claim in study.claims if claim.id == "c")
    source = np.random.default_rng(3)
    records = {
        arm: make_record(
            {"train_accuracy": 98.9 - 0.12 * (arm == "ln_l1") + 0.2 * source.standard_normal((10, 20))}, arm
        )
        for arm in claim.arms
    }
    family = [claim, *(one for one in study.claims if not set(one.arms) <= set(records))]
    alone, among = (forecast.outlook(study, claims, records, draws=200) for claims in ([claim], family))
    assert among.claims == [claim]
    assert among.by_the_end[0] < alone.by_the_end[0]


def test_the_outlook_knows_what_is_paired():
    # a small difference of arms that share each seed's luck is as good as decided; without shared luck it is not
    study = STUDIES["normalisers"]
    claim = next(claim for claim in study.claims if claim.id == "h")
    levels = {"lambda_0": 98.9, "lambda_0.0001": 98.8, "lambda_0.001": 98.7}
    luck = np.linspace(-1, 1, 6)[:, None]

    def outlook(order):
        made = {
            arm: make_record({"train_accuracy": level + np.repeat(order(k) * luck, 15, 1)}, arm)
            for k, (arm, level) in enumerate(levels.items())
        }
        wobble = {arm: record.history.seed.isin([k, k + 3]) for k, (arm, record) in enumerate(made.items())}
        for arm, record in made.items():
            record.history.loc[wobble[arm], "train_accuracy"] += 0.01
        return forecast.outlook(study, [claim], made, draws=100).next_look[0]

    assert outlook(lambda k: 1) > 0.9
    assert outlook(lambda k: (-1) ** k) < 0.5


def test_the_images_predict_the_spread():
    # each of 500 images is missed by a seed with its own probability: sqrt(sum p (1 - p)) / n
    source = np.random.default_rng(3)
    p = source.uniform(0, 0.2, 500)
    missed = source.random((200, 500)) < p
    labels = np.zeros(500, int)
    accuracy = {"test_accuracy": 100 * (1 - missed.mean(1, keepdims=True))}
    record = make_record(accuracy, logits=9.0 * np.eye(10)[missed.astype(int)], labels=labels)
    found = images.spread(record)
    assert found.predicted == pytest.approx(100 * (p * (1 - p)).sum() ** 0.5 / 500, rel=0.03)
    assert found.p > 0.01
    together = make_record(logits=9.0 * np.eye(10)[np.repeat(missed[:, :50], 10, 1).astype(int)], labels=labels)
    assert images.spread(together).p < 1e-6
