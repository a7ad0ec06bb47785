"""A trial beside its control."""

import numpy as np
import pytest
from synthetic import make_record

from s6lib import paths, plots, records
from s6lib.evidence import controls
from s6lib.studies import STUDIES


def logits(wrong: list[list[int]], images: int = 20) -> np.ndarray:
    """[R, n, 10] right on labels 0 .. 9, 0 .. 9 but for the images that each replica gets wrong."""
    found = np.tile(9.0 * np.eye(10)[np.arange(images) % 10], (len(wrong), 1, 1))
    for r, numbers in enumerate(wrong):
        for i in numbers:
            found[r, i] = np.roll(found[r, i], 1)
    return found


def test_every_control_is_an_arm():
    # and no arm is its own
    for study in STUDIES.values():
        for arm in study.arms:
            if named := study.control(arm):
                assert named[1] in STUDIES[named[0]].arms
                assert named != (study.name, arm)


def test_controls_differ_in_few_settings():
    # a trial against its control is like with like: same epochs, optimiser, schedule and network
    for study in STUDIES.values():
        for arm in study.arms:
            if named := study.control(arm):
                ours, theirs = study.settings(arm), STUDIES[named[0]].settings(named[1])
                for key in ("epochs", "optimiser", "schedule", "network", "learning_rate"):
                    assert ours.get(key) == theirs.get(key), (arm, key)


def test_images_that_changed_are_the_ones():
    trial = make_record(logits=logits([[3], [3]]))
    control = make_record(logits=logits([[5, 7], [5]]), name="bn")
    found = controls.changed(trial, control, 5)
    assert found.image.tolist() == [5, 7, 3]
    assert found.gain.tolist() == [1.0, 0.5, -1.0]
    assert controls.changed(trial, control, 1).image.tolist() == [5, 3]


def test_images_of_other_data_are_refused():
    with pytest.raises(ValueError, match="different data sets"):
        controls.changed(make_record(), make_record(dataset="digits"), 5)


def test_a_control_is_found_where_it_lies(tmp_path, monkeypatch, capsys):
    # one's own, then the reference run's, on the same data and for as many epochs; otherwise a line says what lacks
    monkeypatch.setattr(paths, "reference", lambda: tmp_path)
    trial = make_record(epochs=2)
    assert controls.control_of(trial) is None
    assert "no record of the control normalisers/bn, 2 epochs on MNIST" in capsys.readouterr().out
    records.add(make_record(name="bn", epochs=2), tmp_path)
    assert controls.control_of(trial).name == "bn"
    assert controls.control_of(make_record(epochs=3)) is None
    assert controls.control_of(make_record(name="bn", epochs=2)) is None
    assert "a control itself" in capsys.readouterr().out


def test_the_table_gives_difference_and_intervals():
    a, b = ({"test_accuracy": [[x] for x in values]} for values in ([99.5, 99.6, 99.4, 99.5, 99.5], [99.0] * 5))
    table = controls.against(make_record(a, logits=logits([[]] * 5)), make_record(b, "bn", logits=logits([[]] * 5)))
    assert table.loc["bn_l1", "difference, points"] == "+0.50"
    assert table.loc["bn_l1", "95 %, new seeds"].startswith("+0.4")
    few = controls.against(make_record(), make_record(name="bn"))
    assert few.loc["bn_l1", "95 %, new seeds"] == ""
    assert controls.against(make_record(), None) is None


def test_words_say_what_an_interval_shows():
    low, high = np.array([99.0, 99.1, 99.0, 99.1, 99.0]), np.array([99.5, 99.4, 99.5, 99.4, 99.5])
    assert (controls.in_words(high, low), controls.in_words(low, high)) == ("higher", "lower")
    assert controls.in_words(low, low + 0.001) == "not distinguishable"
    assert controls.in_words(np.full(5, 99.0) + 1e-3 * np.arange(5), np.full(5, 99.0)) != "lower"
    assert controls.in_words(low[:3], high[:3]) == "too few seeds to tell"


def test_the_figure_shows_both_directions():
    trial, control = make_record(logits=logits([[3], [3]])), make_record(logits=logits([[5, 7], [5]]), name="bn")
    figure = plots.changed_images(trial, control, 5, np.zeros((20, 28, 28)))
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles[0] == "image 5, a 5\nmissed by 0 of 2\nbn: 2 of 2"
    assert len(titles) == 3
    assert plots.changed_images(trial, None) is None
