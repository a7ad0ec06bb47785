"""Claims: records are made so that the verdict is known, both ways."""

import dataclasses

import numpy as np
import pytest
from synthetic import make_record

from s6lib.evidence import verdicts as judged
from s6lib.studies import STUDIES

NOISE = 0.02 * np.linspace(-1, 1, 6)[:, None]  # six seeds, sd 0.014


def arm(name, last, epochs, study, **columns):
    """Six seeds that hold `last` percent test accuracy in every epoch, give or take 0.02."""
    return make_record({"test_accuracy": np.full((6, epochs), last) + NOISE, **columns}, name, study)


def norms(gn, ln, bn):
    values = zip(("gn_l1", "ln_l1", "bn_l1"), (gn, ln, bn), strict=True)
    return [arm(name, value, 20, "normalisers") for name, value in values]


def verdict(records, claim, study):
    table = judged.verdicts(records)
    return table[(table.study == study) & (table.claim == claim)].iloc[0]


@pytest.mark.parametrize(
    ("gn", "ln", "bn", "expected"),
    [
        (99.5, 99.3, 99.1, "supported"),
        (99.1, 99.3, 99.5, "contradicted"),  # the reverse order
        (99.3, 99.3, 99.3, "contradicted"),  # shown to be equal, so none is the highest
    ],
)
def test_order_of_the_normalisers(gn, ln, bn, expected):
    # all parts must hold for support; one that fails is enough against it
    assert verdict(norms(gn, ln, bn), "a", "normalisers").verdict == expected


def test_noise_leaves_a_claim_undecided():
    # seeds that differ by more than the trials do show neither an order nor equality
    wide = [
        make_record({"test_accuracy": np.full((6, 20), 99.2) + 10 * NOISE}, name)
        for name in ("gn_l1", "ln_l1", "bn_l1")
    ]
    assert verdict(wide, "a", "normalisers").verdict == "undecided"


def test_fewer_than_five_seeds_decide_nothing():
    # however large the difference
    few = [
        make_record({"test_accuracy": r.history.test_accuracy.to_numpy().reshape(6, 20)[:4]}, r.name)
        for r in norms(99.5, 99, 98)
    ]
    found = verdict(few, "a", "normalisers")
    assert found.verdict == "undecided"
    assert "4 seeds, at least 5 needed" in found.note


def test_other_data_and_other_budgets_decide_nothing():
    # the claims are about MNIST and the published number of epochs
    records = norms(99.5, 99.3, 99.1)
    digits = [dataclasses.replace(r, dataset={**r.dataset, "name": "digits"}) for r in records]
    assert "on digits, not MNIST" in verdict(digits, "a", "normalisers").note
    short = [arm(r.name, 99, 3, "normalisers") for r in records]
    found = verdict(short, "a", "normalisers")
    assert "gn_l1: epochs 3, not 20" in found.note
    assert found.verdict == "undecided"


def test_other_settings_decide_nothing():
    # an arm is what its file says, not what its record is called
    records = norms(99.5, 99.3, 99.1)
    records[0] = dataclasses.replace(records[0], trial=dataclasses.replace(records[0].trial, batch_size=512))
    found = verdict(records, "a", "normalisers")
    assert found.verdict == "undecided"
    assert "gn_l1: batch_size 512, not 128" in found.note


def test_missing_trials_are_named():
    # and nothing raises without any record
    found = verdict(norms(99.5, 99.3, 99.1)[:1], "a", "normalisers")
    assert found.verdict == "missing: ln_l1, bn_l1"
    table = judged.verdicts([])
    assert len(table) == len(judged.claims())
    assert table.verdict.str.startswith("missing: ").all()


def test_equal_names_of_two_studies_are_told_apart():
    # bn_l1 of `regularisers` is no substitute for bn_l1 of `normalisers`
    records = [*norms(99.5, 99.3, 99.1)[:2], arm("bn_l1", 99.1, 25, "regularisers")]
    assert verdict(records, "a", "normalisers").verdict == "missing: bn_l1"


@pytest.mark.parametrize(("both", "expected"), [(99.35, "supported"), (99.6, "contradicted")])
def test_half_way(both, expected):
    # bn_l1 99.3, bn_l2 99.4: half-way is 99.35, give or take 0.05
    values = {"bn_l1": 99.3, "bn_l2": 99.4, "bn_l1_l2": both}
    records = [arm(name, value, 25, "regularisers") for name, value in values.items()]
    assert verdict(records, "c", "regularisers").verdict == expected


@pytest.mark.parametrize(("gbn", "expected"), [(99.5, "supported"), (99.3, "contradicted")])
def test_ghost_norm_stays_above(gbn, expected):
    # the lowest accuracy from epoch 9 on against 99.4
    assert verdict([arm("gbn", gbn, 25, "regularisers")], "e", "regularisers").verdict == expected


@pytest.mark.parametrize(("step", "expected"), [(0.1, "supported"), (-0.1, "contradicted")])
def test_more_groups(step, expected):
    # the slope over the logarithm of the number of groups, with a trial for each
    records = [arm(f"groups_{2**k}", 99 + step * k, 15, "progression") for k in range(4)]
    found = verdict(records, "d", "progression")
    assert found.verdict == expected
    assert f"{step:+.3g} [" in found.evidence


@pytest.mark.parametrize(("train", "expected"), [((99.3, 99.9), "supported"), ((98.0, 98.0), "contradicted")])
def test_overfitting(train, expected):
    # training accuracy above test accuracy at epoch 5, further at the end; or below throughout
    rise = np.linspace(train[0], train[1], 15) + NOISE[::-1] / 2
    record = arm("skeleton", 99.0, 15, "progression", train_accuracy=rise)
    assert verdict([record], "a", "progression").verdict == expected


def test_verdicts_are_corrected_for_their_number():
    # one claim alone has its own p; among more, Holm makes it larger
    chosen = [(study, claim) for study, claim in judged.claims() if (study.name, claim.id) == ("normalisers", "c")]
    source = np.random.default_rng(0)
    train = [98.8 + 0.05 * source.standard_normal((6, 20)) - 0.05 * (k == 1) for k in range(3)]
    records = [
        make_record({"test_accuracy": 99.2 + 0.2 * source.standard_normal((6, 20)), "train_accuracy": values}, name)
        for name, values in zip(("gn_l1", "ln_l1", "bn_l1"), train, strict=True)
    ]
    assert verdict(records, "c", "normalisers").p > judged.verdicts(records, chosen).p[0]


def test_every_claim_can_be_weighed():
    # with all trials there, no claim is missing and every part has an estimate
    needs = dict.fromkeys((study.name, name) for study, claim in judged.claims() for name in claim.arms)
    records = [arm(name, 99.2, STUDIES[study].settings(name)["epochs"], study) for study, name in needs]
    assert set(judged.verdicts(records).verdict) <= {"supported", "contradicted", "undecided"}
    assert judged.evidence(records).estimate.notna().all()


def test_claims_about_best_epochs_say_so():
    # the headline is the last epoch
    table = judged.verdicts([])
    best = table[table.sentence.str.contains("best epoch")]
    assert best.claim.str.contains("best epoch").all()
    assert best.note.str.contains("chosen on the test set").all()
