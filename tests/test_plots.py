"""Figures: labels with units, the data set's name, and a trial's colour are what a reader relies on."""

import dataclasses

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from synthetic import make_record

from s6lib import data, plots, stats

mpl.use("Agg")
IMAGES = np.zeros((20, 28, 28), np.uint8)


@pytest.fixture(autouse=True)
def _styled():
    with plt.rc_context():
        plots.style()
        yield
        plt.close("all")


@pytest.fixture
def record():
    """Three seeds, four epochs, one of 20 images missed by two seeds; weights of a ghost-norm network."""
    source = np.random.default_rng(0)
    curve = [98.1, 98.9, 99.1, 99.2] + 0.05 * source.standard_normal((3, 4))
    logits = np.tile(9.0 * np.eye(10)[np.arange(20) % 10], (3, 1, 1))
    logits[:2, 7] = 8.0 * np.eye(10)[2]
    weights = {
        "layers.0.weight": source.standard_normal((3, 8, 1, 3, 3)) * (source.random((3, 8, 1, 3, 3)) > 0.25),
        "layers.2.weight": source.standard_normal((3, 8)),
        "layers.2.running_mean": source.standard_normal((3, 2, 8)),
        "layers.2.running_var": source.random((3, 2, 8)) + 0.5,
    }
    return make_record({"test_accuracy": curve}, "bn_l1", logits=logits, weights=weights)


FIGURES = {
    "curves": plots.curves,
    "overlay": lambda r: plots.overlay([r]),
    "overlay_loss": lambda r: plots.overlay([r], "test_loss"),
    "small_multiples": lambda r: plots.small_multiples([r, r]),
    "dots": lambda r: plots.dots([r]),
    "time_and_accuracy": lambda r: plots.time_and_accuracy([r, r]),
    "weight_norms": plots.weight_norms,
    "by_setting": lambda r: plots.by_setting([r, r], [0, 1e-3], "lambda (no unit)"),
    "jumps": lambda r: plots.jumps([r]),
    "generalisation_gap": lambda r: plots.generalisation_gap([r]),
    "penalty_against_loss": lambda r: plots.penalty_against_loss([r]),
    "zeros_by_layer": lambda r: plots.zeros_by_layer([r]),
    "batch_noise": lambda r: plots.batch_noise(pd.DataFrame({"images": [8, 16], "noise": [0.1, 0.07]}), r),
    "confidence": plots.confidence,
    "confusion": plots.confusion,
    "weight_histogram": plots.weight_histogram,
    "scale_histogram": plots.scale_histogram,
    "ghost_statistics": plots.ghost_statistics,
    "misclassified_grid": lambda r: plots.misclassified_grid(r, 10, IMAGES),
    "grids_side_by_side": lambda r: plots.grids_side_by_side([r, r], 4, IMAGES),
}
GRIDS = ("misclassified_grid", "grids_side_by_side")


def figure_of(made):
    return made if isinstance(made, Figure) else made.figure


def texts(figure):
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_names_its_data(name, record):
    # whoever sees the picture alone must know what it is of
    assert any("MNIST" in text for text in texts(figure_of(FIGURES[name](record))))


@pytest.mark.parametrize("name", [name for name in FIGURES if name not in GRIDS])
def test_every_axis_has_a_label_with_a_unit(name, record):
    # a quantity that is only a number or a count says so: (no unit), (count), epoch, class, number
    known = ("(", "epoch")
    figure = figure_of(FIGURES[name](record))
    shared = [figure.get_supylabel()] if figure.get_supylabel() else []
    for ax in figure.axes:
        labels = [ax.get_ylabel(), *shared] if ax.get_ylabel() or shared or not ax.get_shared_y_axes() else []
        inner = any(len(group.get_siblings(ax)) > 1 for group in (ax.get_shared_x_axes(), ax.get_shared_y_axes()))
        assert inner or (labels and all(labels[:1])) or name == "dots"
        assert all(
            any(unit in label for unit in known) for label in (*filter(None, labels), *filter(None, [ax.get_xlabel()]))
        )


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_opaque_and_white(name, record):
    # on a dark page a transparent figure would lose its axes
    figure = figure_of(FIGURES[name](record))
    assert to_hex(figure.get_facecolor(), keep_alpha=True) == "#ffffffff"
    assert not mpl.rcParams["savefig.transparent"]


def test_a_trial_keeps_its_colour(record):
    # in whatever figure and company
    other = make_record({"test_accuracy": [[98.0, 99.0]] * 2}, "gn_l1")
    alone, together = plots.overlay([record]), plots.overlay([other, record])
    of = lambda ax: {line.get_label(): line.get_color() for line in ax.lines}  # noqa: E731
    assert of(alone)["bn_l1"] == of(together)["bn_l1"] == plots.look("bn_l1")[0]
    assert of(together)["gn_l1"] != of(together)["bn_l1"]


def test_unknown_trials_have_a_look_of_their_own_every_time():
    # a checksum of the name, not Python's hash, which changes from run to run
    assert plots.look("my_trial") == (plots.RED, ":", "P")


def test_trials_of_one_study_look_different():
    # colour-blind readers and printers have line and marker too
    regularisers = ("bn", "bn_batch64", "bn_l1", "bn_l2", "bn_l1_l2", "gbn", "gbn_batch128", "gbn_l1_l2")
    assert len({plots.look(name)[0] for name in regularisers}) == len(regularisers)
    assert len(set(plots.LOOKS.values())) > 20


def test_published_numbers_are_drawn_and_called_one_seed(record):
    # on MNIST only, for the trial of that study only
    assert any("published test, 1 seed" in text for text in texts(plots.curves(record)))
    for other in ({"dataset": "digits"}, {"protocol": "regularisers"}):
        again = make_record({"test_accuracy": [[98.0, 99.0]] * 2}, "bn_l1", **other)
        assert not any("published" in text for text in texts(plots.curves(again)))


@pytest.mark.parametrize(("trial", "mean"), [("bn_l1", 99.169), ("ln_l1", 99.161), ("gn_l1", 99.158)])
def test_published_last_ten_epochs_reverse_the_order(trial, mean):
    # best epochs say group norm, the mean of the last ten epochs of the same logs says batch norm
    table = plots.published("per_epoch")
    values = table[(table.study == "normalisers") & (table.trial == trial)].test_accuracy_pct
    assert values[-10:].mean() == pytest.approx(mean, abs=0.0005)


def test_published_best_agrees_with_the_published_epochs():
    # two tables of the same runs
    best = plots.published("best_and_last").set_index(["study", "trial"])
    for key, rows in plots.published("per_epoch").groupby(["study", "trial"]):
        if key in best.index:
            assert rows.test_accuracy_pct.max() == best.best[key]
            assert rows.test_accuracy_pct.iloc[-1] == best["last"][key]


@pytest.mark.parametrize(("count", "shape"), [(25, (5, 5)), (10, (2, 5))])
def test_misclassified_grid_shape(count, shape):
    # 25 as 5x5, 10 as 5x2
    logits = np.tile(9.0 * np.eye(10)[np.arange(30) % 10], (2, 1, 1))
    logits[:, :26] = 8.0 * np.eye(10)[(np.arange(26) + 1) % 10]
    missed = make_record(logits=logits, labels=np.arange(30) % 10)
    figure = plots.misclassified_grid(missed, count, np.zeros((30, 28, 28), np.uint8))
    assert figure.axes[0].get_gridspec().get_geometry() == shape
    assert len(figure.axes) == count


def test_misclassified_label(record):
    # label → what it was taken for, how surely, by how many of the seeds
    assert "7 → 2, 100 %\nmissed by 2 of 3" in texts(plots.misclassified_grid(record, 25, IMAGES))


def test_misclassified_grid_of_given_images(record):
    # the same images for every trial, right or wrong
    figure = plots.misclassified_grid(record, images=IMAGES, numbers=[7, 3])
    assert [ax.get_xlabel() for ax in figure.axes] == ["image 7", "image 3"]
    assert any(text.startswith("3 right, 100 %") for text in texts(figure))


def test_images_that_cannot_be_had_leave_the_labels(record, monkeypatch):
    # the summary must not fail on a machine without the data set
    def load(name):
        raise data.DataError("no files")

    monkeypatch.setattr(data, "load", load)
    found = texts(plots.misclassified_grid(record))
    assert any("images not at hand: no files" in text for text in found)


def test_images_of_limited_and_held_out_sets(digits, record):
    # named as they were made; other pixels than the record's are refused
    for made in (data.limit(digits, 50, 20), data.hold_out(digits, 30)):
        entry = {"name": made.name, "title": made.title, "checksum": made.checksum}
        found = plots.images_of(dataclasses.replace(record, dataset=entry))
        assert (found == made.test_images.numpy()).all()
    with pytest.raises(data.DataError, match="checksum"):
        plots.images_of(dataclasses.replace(record, dataset={**entry, "checksum": "0"}))


def test_confusion_counts_errors_only(record):
    # two seeds took a 7 for a 2; the diagonal is empty
    counts = plots.confusion(record).images[0].get_array()
    assert counts[7, 2] == counts.sum() == 2


def test_diverged_seeds_are_left_out_and_said_to_be(record):
    # no dot, no line, and the label tells
    lost = dataclasses.replace(record, diverged=[{"seed": 2, "epoch": 3, "step": 1}])
    ax = plots.dots([lost])
    assert len(ax.collections[0].get_offsets()) == 2
    assert ax.get_yticklabels()[0].get_text() == f"bn_l1\n{stats.who(lost)}"


def test_time_is_per_seed(record):
    # three seeds that took 6 s together took 2 s each
    timed = dataclasses.replace(record, provenance={**record.provenance, "seconds": 6.0})
    (point,) = plots.time_and_accuracy([timed]).axes[0].lines
    assert point.get_xdata() == [2.0]


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_and_one_epoch_can_be_drawn(seeds):
    # no interval, no line: still a figure
    short = make_record({"test_accuracy": np.full((seeds, 1), 100.0)})
    for name in ("curves", "overlay", "small_multiples", "dots", "jumps", "generalisation_gap"):
        figure_of(FIGURES[name](short)).canvas.draw()


@pytest.mark.parametrize("name", FIGURES)
def test_a_trial_that_diverged_altogether_can_be_drawn(name, record):
    # an empty figure, no exception: the rest of a run is still worth seeing
    lost = dataclasses.replace(record, diverged=[{"seed": s, "epoch": 1, "step": 1} for s in range(3)])
    figure_of(FIGURES[name](lost)).canvas.draw()


@pytest.mark.parametrize(
    "draw",
    [plots.overlay, plots.small_multiples, plots.dots, plots.time_and_accuracy, plots.grids_side_by_side, plots.jumps],
)
def test_no_records_are_said(draw):
    # a partial run is no error
    assert "no records" in texts(figure_of(draw([])))


def test_weight_histogram_counts_exact_zeros(record):
    # about a quarter of the convolution's weights were set to zero
    zeros = int((record.weights["layers.0.weight"] == 0).sum())
    assert any(f"exactly 0: {zeros:,} of 216" in text for text in texts(plots.weight_histogram(record)))


def test_ghost_statistics_need_ghost_norm():
    # named with what would be valid
    with pytest.raises(ValueError, match="keeps no ghost splits; valid: 'ghost'"):
        plots.ghost_statistics(make_record())


def test_accuracy_scale_parts_99_4_from_99_5():
    # equal steps are equal factors of the error: 99.4 -> 99.5 is wider than 90 -> 91
    ax = plt.subplots()[1]
    ax.plot([90, 99.9])
    plots.accuracy_scale(ax, "accuracy (%)")
    at = lambda y: ax.transData.transform((0, y))[1]  # noqa: E731
    assert at(99.5) - at(99.4) > 1.5 * (at(91) - at(90))


@pytest.mark.parametrize("grey", [False, True])
def test_samples_show_what_the_network_sees(digits, grey):
    # the row of the file, two rows of the augmenter; titles are the labels
    figure = plots.samples(digits, 7.0, grey, count=4)
    assert [ax.get_title() for ax in figure.axes[:4]] == [str(k) for k in digits.train_labels[:4].tolist()]
    assert (figure.axes[0].images[0].get_array() == digits.train_images[0].numpy()).all()
    assert figure.axes[4].images[0].get_array().min() < 0
    assert any(digits.title in text for text in texts(figure))


def test_every_replica_lost(tmp_path):
    # a trial that diverged in its first epoch has no history; it is saved, read and drawn all the same
    from s6lib import records, training
    from s6lib.trial import make_trial

    images = data.limit(data.load("digits"), 64, 20)
    settings = {"normaliser": "none", "optimiser": "sgd", "learning_rate": 1e30, "epochs": 1, "batch_size": 16}
    lost = training.train(make_trial("regularisers", "lost", **settings), images, 2)
    lost = records.load(records.add(lost, tmp_path))
    assert [entry["seed"] for entry in lost.diverged] == [0, 1]
    for draw in (plots.curves, plots.weight_norms, plots.confusion, plots.confidence):
        draw(lost)
    for draw in (plots.overlay, plots.small_multiples, plots.dots, plots.jumps, plots.generalisation_gap):
        draw([lost])
