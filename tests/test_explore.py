"""The interactive notebook's views: a figure for every setting, alone where nobody can turn the controls."""

from functools import partial

import numpy as np
import pytest
from synthetic import make_record

from s6lib import explore


@pytest.fixture
def pair():
    rising = [[98.0, 98.5, 99.0], [98.2, 98.4, 99.2]]
    return [make_record({"test_accuracy": rising}, name=name) for name in ("bn_l1", "bn")]


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn: a list of (function, arguments)."""
    calls = []

    def record_call(function, *args, **settings):
        calls.append((function, args, settings))

    for name in ("draw_curves", "draw_comparison", "draw_playground"):
        monkeypatch.setattr(explore, name, partial(record_call, name))
    return calls


def test_figures_stand_alone_where_nobody_can_turn_them(pair, drawn, monkeypatch):
    monkeypatch.setenv("S6_QUIET", "1")
    assert [explore.curves(pair), explore.compare(pair), explore.playground()] == [None] * 3
    assert [name for name, *_ in drawn] == ["draw_curves", "draw_comparison", "draw_playground"]


def test_turning_a_control_draws_anew(pair, drawn, monkeypatch):
    monkeypatch.delenv("S6_QUIET")
    arms, measure, seeds, epoch, _ = explore.curves(pair).children
    epoch.value, measure.value = 2, "test loss"
    arms.value = ["normalisers/bn"]
    seeds.value = 1
    _, (records, column, count, shown), _ = drawn[-1]
    assert ([record.name for record in records], column, count, shown) == (["bn"], "test_loss", 1, 2)


def test_it_begins_with_arms_that_are_there(pair, drawn, monkeypatch):
    monkeypatch.delenv("S6_QUIET")
    assert explore.curves(pair, ["regularisers/gbn", "normalisers/bn"]).children[0].value == ("normalisers/bn",)
    assert explore.compare(pair, "normalisers/bn", "nobody").children[0].value == "normalisers/bn"


def test_sliders_go_as_far_as_the_chosen_arms(pair, drawn, monkeypatch):
    monkeypatch.delenv("S6_QUIET")
    shorter = make_record({"test_accuracy": [[98.0, 98.5]]}, name="bn_l2")
    arms, _, seeds, epoch, _ = explore.curves([*pair, shorter], ["normalisers/bn_l2"]).children
    assert (seeds.max, epoch.max) == (1, 2)
    arms.value = ["normalisers/bn_l2", "normalisers/bn"]
    assert (seeds.max, epoch.max, seeds.value) == (2, 3, 1)
    seeds.value = 2
    arms.value = []
    arms.value = ["normalisers/bn_l2"]
    assert seeds.value == 2  # more than this arm has; nothing that was set is lost


def test_an_arm_that_is_not_there_is_named(pair, drawn, capsys):
    explore.compare(pair, "normalisers/bm", "")
    assert "normalisers/bm is not in this run; did you mean normalisers/bn?" in capsys.readouterr().out


def test_nothing_to_explore(drawn):
    assert explore.compare([]) is None


def test_the_epoch_chosen_is_the_one_shown(pair):
    # the last one of an arm that ends before
    left, right = explore.draw_curves(pair, "test_accuracy", 2, 2).axes
    assert sorted(right.lines[0].get_xdata()) == [98.4, 98.5]
    assert right.lines[1].get_xdata()[0] == pytest.approx(98.45)
    assert left.lines[-1].get_xdata()[0] == 2
    assert sorted(explore.draw_curves(pair, "test_accuracy", 2, 9).axes[1].lines[0].get_xdata()) == [99.0, 99.2]
    assert len(explore.draw_curves(pair, "test_accuracy", 1, 2).axes[1].lines[0].get_xdata()) == 1
    explore.draw_curves([], "test_accuracy", 1, 1)


def test_two_arms_of_different_data_have_no_images(pair, capsys):
    other = make_record(name="ln_l1", dataset="digits")
    assert explore.draw_comparison(pair[0], other, "test_accuracy", 3) is None
    assert "different data sets" in capsys.readouterr().out


def test_scatter_follows_the_images_that_share_a_statistic():
    # none within an image; ghost norm with 2 splits of 16 as batch norm with 8
    asked = [("ghost", 16), ("batch", 8), ("batch", 16)]
    sd = {(name, size): explore.scatter(name, size, 2, 2).std().item() for name, size in asked}
    assert explore.scatter("layer", 8).std() < 1e-12
    assert sd["batch", 8] > sd["batch", 16]
    assert sd["ghost", 16] == pytest.approx(sd["batch", 8], rel=0.3)
    assert np.isfinite(list(sd.values())).all()
