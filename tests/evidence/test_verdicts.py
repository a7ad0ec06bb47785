"""Claims: records are made so that the verdict is known, both ways."""

import dataclasses

import numpy as np
import pytest
from synthetic import make_record

from s6lib.evidence import statistics
from s6lib.evidence import verdicts as judged
from s6lib.studies import STUDIES
from s6lib.studies.base import Plan

SEEDS = 20
NOISE = 0.02 * np.linspace(-1, 1, SEEDS)[:, None] * (-1.0) ** np.arange(SEEDS)[:, None]  # the first ten are like all


def arm(name, last, epochs, study, seeds=SEEDS, **columns):
    """Seeds that hold `last` percent test accuracy in every epoch, give or take 0.02."""
    return make_record({"test_accuracy": np.full((seeds, epochs), last) + NOISE[:seeds], **columns}, name, study)


def norms(gn, ln, bn, seeds=SEEDS):
    values = zip(("gn_l1", "ln_l1", "bn_l1"), (gn, ln, bn), strict=True)
    return [arm(name, value, 20, "normalisers", seeds) for name, value in values]


def verdict(records, claim, study="normalisers", asked=None):
    return next(row for row in judged.verdicts(records, asked) if (row["study"], row["claim"]) == (study, claim))


@pytest.mark.parametrize(
    ("gn", "ln", "bn", "expected"),
    [
        (99.5, 99.3, 99.1, "supported"),
        (99.1, 99.3, 99.5, "contradicted"),  # the reverse order
        (99.5, 99.1, 99.3, "contradicted"),  # one part that goes the other way is enough
        (99.3, 99.3, 99.3, "no difference"),  # equality contradicts nothing
        (99.36, 99.33, 99.3, "supported, below the margin"),
    ],
)
def test_order_of_the_normalisers(gn, ln, bn, expected):
    assert verdict(norms(gn, ln, bn), "a")["verdict"] == expected


@pytest.mark.parametrize(("seeds", "shown"), [(4, False), (5, True)])
def test_no_interval_of_fewer_than_five_seeds(seeds, shown):
    part = verdict(norms(99.5, 99.3, 99.1, seeds), "a")["parts"][0]
    assert np.isfinite([part["low"], part["high"]]).tolist() == [shown, shown]
    assert ("[" in judged.shown(part)) == shown


def test_what_needs_more_epochs_says_so():
    # the lowest accuracy from epoch 6 on, of four epochs
    part = verdict([arm("gbn", 99.5, 4, "regularisers")], "e", "regularisers")["parts"][0]
    assert judged.shown(part).endswith(": needs more epochs")


def test_parts_have_verdicts_of_their_own():
    row = verdict(norms(99.5, 99.1, 99.3), "a")
    assert [part["verdict"] for part in row["parts"]] == ["supported", "contradicted"]


def test_noise_leaves_a_claim_undecided():
    # seeds that differ by more than the trials do show neither an order nor equality
    wide = [
        make_record({"test_accuracy": np.full((SEEDS, 20), 99.2) + 30 * NOISE}, name)
        for name in ("gn_l1", "ln_l1", "bn_l1")
    ]
    assert verdict(wide, "a")["verdict"] == "undecided"


def test_nothing_is_decided_before_the_first_look():
    # however large the difference; the estimate is shown all the same
    found = verdict(norms(99.5, 99, 98, seeds=9), "a")
    assert (found["verdict"], found["looks"], found["p"]) == ("undecided", [], None)
    assert found["note"] == "9 seeds; the first look is at 10, seeds 0 on"
    assert judged.in_words(found) == "not tested yet"
    assert [judged.in_words({**found, **change}) for change in ({"looks": [10]}, {"verdict": "missing"})] == [
        "undecided",
        "missing",
    ]
    assert found["parts"][0]["estimate"] == pytest.approx(0.5, abs=0.01)


def test_between_looks_only_the_seeds_of_the_last_look_count():
    # seeds 10 to 18 say the contrary, and are not looked at before there are 20
    between = norms(99.4, 99.3, 99.2, seeds=19)
    for record in between:
        record.history.loc[record.history.seed >= 10, "test_accuracy"] -= 5 * (record.name == "gn_l1")
    assert verdict(between, "a") == verdict(norms(99.4, 99.3, 99.2, seeds=10), "a") | {"seeds": 19}


def test_a_look_wants_the_seeds_from_0_on():
    records = norms(99.4, 99.3, 99.2, seeds=10)
    records[0].seeds = [*range(1, 11)]
    records[0].history.seed += 1
    assert verdict(records, "a")["looks"] == []


def test_what_was_shown_at_a_look_stays_shown():
    # a sequential p-value never rises
    first = verdict(norms(99.4, 99.3, 99.2, seeds=10), "a")
    later = norms(99.4, 99.3, 99.2)
    for record in later:
        record.history.loc[record.history.seed >= 10, "test_accuracy"] = 99.3
    assert (first["verdict"], verdict(later, "a")["verdict"]) == ("supported", "supported")
    assert verdict(later, "a")["p"] <= first["p"]


def test_arms_of_two_precisions_decide_nothing():
    # as of two machines, only one of which multiplies bfloat16
    records = norms(99.5, 99.3, 99.1)
    for record, kind in zip(records, ("bfloat16", "float32", "float32"), strict=True):
        record.provenance = {**record.provenance, "precision": kind}
    found = verdict(records, "a")
    assert (found["verdict"], found["looks"]) == ("undecided", [])
    assert found["note"] == "in bfloat16 and float32; `make decide PRECISION=float32` makes them alike"


def test_arms_that_were_run_in_two_precisions_are_compared_in_one():
    # that with more seeds of the arm that has fewest, even where one arm has more seeds in the other
    def run(kind, *seeds):
        made = norms(99.5, 99.3, 99.1)
        made = [one.only(range(n)) for one, n in zip(made, seeds, strict=True)]
        for one in made:
            one.provenance = {**one.provenance, "precision": kind}
        return made

    few, many = run("bfloat16", 10, 4, 10), run("float32", 5, 5, 5)
    for records in (few + many, many + few):
        assert verdict(records, "a")["seeds"] == 5
    decided = verdict(run("float32", 10, 10, 10) + run("bfloat16", 20, 3, 3), "a")
    assert (decided["verdict"], decided["looks"], decided["note"]) == ("supported", [10], "")


def test_other_data_and_other_budgets_decide_nothing():
    # the claims are about MNIST and the published number of epochs
    records = norms(99.5, 99.3, 99.1)
    digits = [dataclasses.replace(r, dataset={**r.dataset, "name": "digits"}) for r in records]
    assert "on digits, not mnist" in verdict(digits, "a")["note"]
    short = [arm(r.name, 99, 3, "normalisers") for r in records]
    found = verdict(short, "a")
    assert "gn_l1: epochs 3, not 20" in found["note"]
    assert found["verdict"] == "undecided"


def test_other_settings_decide_nothing():
    # an arm is what its file says, not what its record is called
    records = norms(99.5, 99.3, 99.1)
    records[0] = dataclasses.replace(records[0], trial=dataclasses.replace(records[0].trial, batch_size=512))
    found = verdict(records, "a")
    assert found["verdict"] == "undecided"
    assert "gn_l1: batch_size 512, not 128" in found["note"]


def test_missing_trials_are_named():
    # and nothing raises without any record
    found = verdict(norms(99.5, 99.3, 99.1)[:1], "a")
    assert (found["verdict"], found["note"]) == ("missing", "not run: ln_l1, bn_l1")
    rows = judged.verdicts([])
    assert len(rows) == len(judged.claims())
    assert {row["verdict"] for row in rows} == {"missing"}


def test_equal_names_of_two_studies_are_told_apart():
    # bn_l1 of `regularisers` is no substitute for bn_l1 of `normalisers`
    records = [*norms(99.5, 99.3, 99.1)[:2], arm("bn_l1", 99.1, 25, "regularisers")]
    assert verdict(records, "a")["note"] == "not run: bn_l1"


def test_diverged_replicas_are_left_out_and_named():
    records = norms(99.5, 99.3, 99.1)
    records[0].diverged = [{"seed": 3, "epoch": 1, "step": 1}]
    records[0].history = records[0].history[records[0].history.seed != 3]
    found = verdict(records, "a")
    assert (found["seeds"], found["note"], found["verdict"]) == (19, "1 diverged, left out", "supported")


@pytest.mark.parametrize(("both", "expected"), [(99.35, "supported"), (99.6, "contradicted")])
def test_half_way(both, expected):
    # bn_l1 99.3, bn_l2 99.4: half-way is 99.35, give or take 0.05
    values = {"bn_l1": 99.3, "bn_l2": 99.4, "bn_l1_l2": both}
    records = [arm(name, value, 25, "regularisers") for name, value in values.items()]
    assert verdict(records, "c", "regularisers")["verdict"] == expected


@pytest.mark.parametrize(("claim", "since"), [("e", 6), ("e, epoch 9", 9)])
@pytest.mark.parametrize(("gbn", "expected"), [(99.5, "supported"), (99.3, "contradicted")])
def test_ghost_norm_stays_above(claim, since, gbn, expected):
    # the lowest accuracy from an epoch on against 99.4; what came before does not matter
    accuracy = np.full((SEEDS, 25), gbn) + NOISE
    accuracy[:, : since - 1] = 90
    record = make_record({"test_accuracy": accuracy}, "gbn", "regularisers")
    assert verdict([record], claim, "regularisers")["verdict"] == expected


@pytest.mark.parametrize(("level", "expected"), [(99.4, "supported"), (99.5, "contradicted"), (99.3, "contradicted")])
def test_around_a_number(level, expected):
    # the mean of the last five epochs lies within the margin of it, or is shown to lie beyond, on either side
    assert verdict([arm("gap", level, 15, "progression")], "c", "progression")["verdict"] == expected


@pytest.mark.parametrize(("step", "expected"), [(0.1, "supported"), (-0.1, "contradicted")])
def test_more_groups(step, expected):
    # the slope over the logarithm of the number of groups, with a trial for each of 1, 2, 4 and 8
    records = [arm(f"groups_{2**k}", 99 + step * k, 15, "progression") for k in range(4)]
    found = verdict(records, "d", "progression")
    assert (found["verdict"], found["parts"][0]["estimate"]) == (expected, pytest.approx(step))


@pytest.mark.parametrize(("train", "expected"), [((99.3, 99.9), "supported"), ((98.0, 98.0), "contradicted")])
def test_overfitting(train, expected):
    # training accuracy above test accuracy at epoch 5, further at the end; or below throughout
    rise = np.linspace(train[0], train[1], 15) + NOISE[::-1] / 2
    record = arm("skeleton", 99.0, 15, "progression", train_accuracy=rise)
    assert verdict([record], "a", "progression")["verdict"] == expected


def test_arms_of_one_fused_training_are_compared_seed_by_seed():
    # seeds differ by far more than the arms do, in both arms alike
    shared = np.random.default_rng(0).normal(0, 0.5, (SEEDS, 1)) + np.zeros((1, 15))
    records = [
        make_record({"test_accuracy": 99 + shared + NOISE * (k + 1), "train_accuracy": 99 + shared - 0.2 * k}, name)
        for k, name in enumerate(("lambda_0", "lambda_0.0001"))
    ]
    assert verdict(records, "f")["verdict"] == "supported"
    unpaired = dataclasses.replace(STUDIES["normalisers"], plan=Plan((10, 20)))
    asked = [(unpaired, claim) for claim in unpaired.claims]
    assert verdict(records, "f", asked=asked)["verdict"] == "undecided"


def test_verdicts_are_corrected_for_the_whole_family():
    # one claim alone has its own p; Holm makes it larger, also for claims that were not run
    chosen = [(study, claim) for study, claim in judged.claims() if (study.name, claim.id) == ("normalisers", "c")]
    source = np.random.default_rng(0)
    train = [98.8 + 0.5 * source.standard_normal((SEEDS, 20)) - 0.15 * (k == 1) for k in range(3)]
    records = [
        make_record({"test_accuracy": 99.2 + 0.2 * source.standard_normal((SEEDS, 20)), "train_accuracy": values}, name)
        for name, values in zip(("gn_l1", "ln_l1", "bn_l1"), train, strict=True)
    ]
    whole = [row for row in judged.verdicts([]) if row["family"] == "normalisers"]
    alone, among = verdict(records, "c", asked=chosen)["p"], verdict(records, "c")["p"]
    others = 3  # claims that these arms decide as well, and that may come first
    assert (len(whole) - others) * alone <= among <= len(whole) * alone


def test_our_own_questions_are_a_family_of_their_own():
    families = {row["family"] for row in judged.verdicts([]) if row["study"] == "regularisers"}
    assert families == {"regularisers", "regularisers, our own"}


def test_every_claim_can_be_weighed():
    # with all trials there, no claim is missing and every part has an estimate
    needs = dict.fromkeys((study.name, name) for study, claim in judged.claims() for name in claim.arms)
    records = [arm(name, 99.2, STUDIES[study].settings(name)["epochs"], study) for study, name in needs]
    rows = judged.verdicts(records)
    assert "missing" not in {row["verdict"] for row in rows}
    assert all(np.isfinite(part["estimate"]) for row in rows for part in row["parts"])


def test_every_published_claim_names_its_place_and_its_reading():
    for _, claim in judged.claims():
        assert claim.reading
        assert bool(claim.place) != claim.own
        assert not claim.place or claim.place.startswith("document 00")


def test_claims_about_best_epochs_say_so():
    # the headline is the last epoch
    for _, claim in judged.claims():
        best = [part for part in claim.parts if part.measure == "best_test_accuracy"]
        assert bool(best) == ("best epoch" in claim.id) == ("chosen on the test set" in claim.reading)


def test_an_interval_is_that_of_the_last_look():
    records = norms(99.5, 99.3, 99.1)
    part = verdict(records, "a")["parts"][0]
    gn, ln = (judged.measured(record, "late_test_accuracy", 20) for record in records[:2])
    expected = statistics.difference(gn, ln)
    assert (part["low"], part["high"]) == pytest.approx((expected.low, expected.high))
