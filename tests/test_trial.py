import dataclasses
import json
import re

import pytest

from s6lib.studies import STUDIES
from s6lib.trial import CHOICES, FIELDS, Trial, TrialError, make_trial

# regularisers, epochs 1 to 13 as published, rounded as published; 5e-4 from then on
PI_RATES = [0.03, 0.0282, 0.0251, 0.0211, 0.0169, 0.0128, 0.0093, 0.0065, 0.0043, 0.0028, 0.0017, 0.0010, 0.00057]


def gbn(**settings) -> Trial:
    """Ghost norm in the protocol of `regularisers`, at the protocol's batch size."""
    return make_trial("regularisers", "gbn", like="", **{"normaliser": "ghost", **settings})


def exactly(message: str) -> str:
    return f"^{re.escape(message)}$"


# --- protocols ---


@pytest.mark.parametrize(
    ("protocol", "network", "epochs", "batch_size", "optimiser", "learning_rate", "momentum", "l1"),
    [
        ("regularisers", "regularisers", 25, 128, "adam", 0.03, 0.0, 0.0),
        ("normalisers", "normalisers", 20, 128, "sgd", 0.01, 0.9, 1e-4),
        ("progression", "gap", 15, 64, "sgd", 0.015, 0.9, 0.0),
    ],
)
def test_published_protocols(protocol, network, epochs, batch_size, optimiser, learning_rate, momentum, l1):
    trial = make_trial(protocol, "anything", like="")
    found = (trial.network, trial.epochs, trial.batch_size, trial.optimiser, trial.learning_rate)
    assert found == (network, epochs, batch_size, optimiser, learning_rate)
    assert (trial.momentum, trial.l1, trial.rotation) == (momentum, l1, 7.0)


def test_deviations_of_the_original_code_are_on_only_there():
    # Rotation after normalising in one protocol, a running variance from zero in one and in ours that follows it.
    assert [p for p in STUDIES if make_trial(p, "t", like="").rotate_after_normalise] == ["normalisers"]
    assert [p for p in STUDIES if make_trial(p, "t", like="").running_var_start == 0] == ["regularisers", "more"]
    assert {make_trial(p, "t", like="").penalise for p in STUDIES} == {"all"}


def test_trial_is_a_protocol_with_settings_replaced():
    trial, base = gbn(batch_size=64), make_trial("regularisers", "gbn", like="")
    changed = {f.name for f in dataclasses.fields(trial) if getattr(trial, f.name) != getattr(base, f.name)}
    assert changed == {"normaliser", "batch_size"}


def test_an_arm_is_the_protocol_with_its_settings():
    # The file of the study says what an arm is; anything can be replaced besides.
    arm = make_trial("regularisers", "gbn")
    assert (arm.normaliser, arm.batch_size, arm.epochs) == ("ghost", 64, 25)
    assert make_trial("regularisers", "gbn", epochs=2) == dataclasses.replace(arm, epochs=2)
    assert make_trial("regularisers", "mine", like="gbn") == dataclasses.replace(arm, name="mine")


def test_an_unknown_arm_names_the_nearest():
    # A mistyped arm must not silently be the bare protocol.
    with pytest.raises(TrialError, match=r"^regularisers has no arm 'gnb': did you mean 'gbn'\? valid: bn, .*like="):
        make_trial("regularisers", "gnb")
    with pytest.raises(TrialError, match=r"^like='bnn' is no arm of regularisers: did you mean 'bn'\?"):
        make_trial("regularisers", "mine", like="bnn")


def test_trial_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        gbn().epochs = 3


def test_trials_are_compared_and_hashed_by_value():
    assert gbn(groups=[1, 1, 1, 1]) == gbn(groups=(1, 1, 1, 1))
    assert len({gbn(), gbn(), gbn(l1=1e-5)}) == 2


# --- learning rates ---


def test_pi_schedule_is_the_published_one():
    # The printed numbers, to their last digit, then the floor.
    rates = gbn().learning_rates()
    assert len(rates) == 25
    for rate, printed in zip(rates, PI_RATES, strict=False):
        digits = 5 if printed < 0.001 else 4
        assert round(rate, digits) == printed
    assert rates[13:] == [5e-4] * 12


def test_pi_schedule_formula():
    # lr_e = lr_{e-1} / (1 + pi/50 e), from the third number on: each epoch divides by more.
    rates = gbn().learning_rates()
    for e in range(1, 13):
        assert rates[e - 1] / rates[e] == pytest.approx(1 + 3.14159265 / 50 * e, rel=1e-6)


def test_constant_schedule():
    assert gbn(schedule="constant", epochs=3).learning_rates() == [0.03, 0.03, 0.03]


def test_step_schedule():
    # A tenth every six epochs.
    rates = gbn(schedule="step", epochs=14).learning_rates()
    assert rates == pytest.approx([0.03] * 6 + [0.003] * 6 + [0.0003] * 2)


def test_one_cycle_schedule():
    # From 0 up to the peak at a quarter of the time, then down to 0; the shown epoch means average to half the peak.
    trial = gbn(schedule="one_cycle", epochs=8)
    assert [trial.rate_at(time) for time in (0, 1, 2, 5, 8)] == pytest.approx([0, 0.015, 0.03, 0.015, 0])
    assert sum(trial.learning_rates()) / 8 == pytest.approx(0.015, rel=1e-3)


@pytest.mark.parametrize("schedule", ["constant", "pi", "step"])
def test_rate_holds_within_an_epoch(schedule):
    trial = gbn(schedule=schedule)
    assert trial.rate_at(7.0) == trial.rate_at(7.99) == trial.learning_rates()[7]


# --- as data ---


@pytest.mark.parametrize(
    "settings", [{}, {"groups": (8, 4, 2, 1), "normaliser": "group"}, {"dropout": 0.0, "l2_kind": "decoupled"}]
)
def test_settings_survive_json(settings):
    trial = gbn(**settings)
    assert Trial(**json.loads(json.dumps(trial.settings()))) == trial


def test_settings_are_all_fields():
    assert list(gbn().settings()) == ["name", "study", *FIELDS]


def test_describe_marks_differences():
    # Every setting on its line; a star before those that differ from the protocol, and only those.
    head, *lines = gbn(batch_size=64, l1=1e-5, epochs=25).describe().splitlines()
    assert head == "trial gbn of study regularisers (* differs from its protocol)"
    assert [line[2:].split()[0] for line in lines] == list(FIELDS)
    assert {line[2:].split()[0] for line in lines if line.startswith("*")} == {"normaliser", "batch_size", "l1"}
    assert "* batch_size              64" in lines
    assert "  learning_rate           0.03" in lines


def test_describe_of_an_untouched_protocol():
    for protocol in STUDIES:
        assert not any(line.startswith("*") for line in make_trial(protocol, "t", like="").describe().splitlines())


def test_build_hands_on_every_option():
    # The network has the trial's own normaliser, splits, start and dropout.
    net = gbn(ghost_splits=4, dropout=0.2, running_var_start=0.5).build(2)
    ghost = [layer for layer in net.layers if hasattr(layer, "splits")]
    assert {layer.splits for layer in ghost} == {4}
    assert {layer.running_var.unique().item() for layer in ghost} == {0.5}
    assert {layer.p for layer in net.layers if hasattr(layer, "source")} == {0.2}
    assert net.replicas == 2


# --- refused ---


def test_unknown_study():
    message = f"study='regularizers' is unknown; valid: {', '.join(STUDIES)}"
    with pytest.raises(TrialError, match=exactly(message)):
        make_trial("regularizers", "gbn")


def test_unknown_setting_with_a_near_match():
    message = f"unknown setting 'batchsize': did you mean 'batch_size'? valid: {', '.join(FIELDS)}"
    with pytest.raises(TrialError, match=exactly(message)):
        gbn(batchsize=64)


def test_unknown_setting_without_a_near_match():
    with pytest.raises(TrialError, match=exactly(f"unknown setting 'zzz': valid: {', '.join(FIELDS)}")):
        gbn(zzz=1)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", "25", "epochs='25' is a str; expected int"),
        ("epochs", 2.0, "epochs=2.0 is a float; expected int"),
        ("epochs", True, "epochs=True is a bool; expected int"),
        ("epochs", None, "epochs=None is a NoneType; expected int"),
        ("learning_rate", "1e-3", "learning_rate='1e-3' is a str; expected float"),
        ("l1", None, "l1=None is a NoneType; expected float"),
        ("rotate_after_normalise", "false", "rotate_after_normalise='false' is a str; expected bool"),
        ("rotate_after_normalise", 1, "rotate_after_normalise=1 is a int; expected bool"),
        ("normaliser", 3, "normaliser=3 is a int; expected str"),
        ("dropout", "none", "dropout='none' is a str; expected float | None"),
    ],
)
def test_wrong_types(name, value, expected):
    with pytest.raises(TrialError, match=exactly(expected)):
        gbn(**{name: value})


@pytest.mark.parametrize("groups", ["2", 2.0, True, [2, 2.0, 2, 2], (1, True, 1, 1), None])
def test_wrong_types_of_groups(groups):
    with pytest.raises(TrialError, match=r"^groups=.* expected int \| tuple"):
        gbn(groups=groups)


def test_whole_numbers_are_fine_where_a_fraction_may_stand():
    assert gbn(l1=0, rotation=7, dropout=0).rotation == 7


@pytest.mark.parametrize("name", CHOICES)
def test_bad_choices(name):
    # Each refusal lists what is valid.
    message = f"{name}='wrong' is unknown; valid: {', '.join(CHOICES[name])}"
    with pytest.raises(TrialError, match=exactly(message)):
        gbn(**{name: "wrong"})


@pytest.mark.parametrize(
    ("name", "value", "valid"),
    [
        ("epochs", 0, "1 or more"),
        ("batch_size", 1, "2 or more"),
        ("learning_rate", 0.0, "above 0"),
        ("learning_rate", -0.1, "above 0"),
        ("learning_rate", float("inf"), "above 0"),
        ("learning_rate", float("nan"), "above 0"),
        ("momentum", 1.0, "0 up to, not including, 1"),
        ("groups", 0, "1 or more, one number or one per layer"),
        ("groups", (), "1 or more, one number or one per layer"),
        ("groups", (2, 2, 0, 2), "1 or more, one number or one per layer"),
        ("ghost_splits", 0, "1 or more"),
        ("running_var_start", -1.0, "0 or more"),
        ("l1", -1e-5, "0 or more"),
        ("l1", float("nan"), "0 or more"),
        ("l2", -1e-5, "0 or more"),
        ("dropout", 1.0, "0 to 0.99, or None"),
        ("dropout", -0.1, "0 to 0.99, or None"),
        ("label_smoothing", 1.0, "0 up to, not including, 1"),
        ("rotation", -1.0, "0 to 180 degrees"),
        ("rotation", 181.0, "0 to 180 degrees"),
    ],
)
def test_out_of_range(name, value, valid):
    with pytest.raises(TrialError, match=exactly(f"{name}={value!r} is out of range; valid: {valid}")):
        gbn(**{name: value})


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (3, "group_norm: groups=3 does not divide channels=8; valid: 1, 2, 4, 8"),
        ((8, 5, 1, 1), "group_norm: groups=5 does not divide channels=16; valid: 1, 2, 4, 8, 16"),
        ((2, 2), "groups=[2, 2] has 2 entries; regularisers has 4 normalisers"),
    ],
)
def test_groups_that_do_not_suit_the_network(groups, message):
    # Found when the trial is made, before anything runs.
    with pytest.raises(ValueError, match=exactly(message)):
        make_trial("regularisers", "gn", like="bn", normaliser="group", groups=groups)
