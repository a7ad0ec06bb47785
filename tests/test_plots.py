"""Figures: labels with units, the data set's name, and a trial's colour are what a reader relies on."""

import dataclasses
import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.display import DisplayHandle
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image
from synthetic import make_record

from s6lib import data, plots
from s6lib.plots import claims
from s6lib.plots.images import images_of
from s6lib.plots.style import accuracy_scale, palette_png, trial_style
from s6lib.studies import STUDIES
from s6lib.studies.base import GREEN, GREY, RED, published_table

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
    "batch_noise": lambda r: plots.batch_noise(r, pd.DataFrame({"images": [8, 16], "noise": [0.1, 0.07]})),
    "confidence": plots.confidence,
    "confusion": plots.confusion,
    "weight_histogram": plots.weight_histogram,
    "scale_histogram": plots.scale_histogram,
    "ghost_statistics": plots.ghost_statistics,
    "misclassified_grid": lambda r: plots.misclassified_grid(r, 10, IMAGES),
    "grids_side_by_side": lambda r: plots.grids_side_by_side([r, r], 4, IMAGES),
    "accuracy_and_size": lambda r: plots.accuracy_and_size([r, r]),
}
GRIDS = ("misclassified_grid", "grids_side_by_side")


def figure_of(made):
    return made if isinstance(made, Figure) else made.figure


def texts(figure):
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


def unlabelled(figure: Figure) -> list[str]:
    """Axes that no label with a unit explains: their own, the figure's, or that of a panel they share the axis with."""
    figure.canvas.draw()
    found = []
    for k, ax in enumerate(figure.axes):
        for side, shared, common in (
            ("x", ax.get_shared_x_axes(), figure.get_supxlabel()),
            ("y", ax.get_shared_y_axes(), figure.get_supylabel()),
        ):
            labels = [getattr(one, f"get_{side}label")() for one in shared.get_siblings(ax)] + [common]
            ticks = [text.get_text() for text in getattr(ax, f"get_{side}ticklabels")()]
            named = not ticks or any(letter.isalpha() and letter != "e" for letter in "".join(ticks))
            explained = any("(" in label or label == "epoch" for label in labels)
            if not explained and not named and getattr(ax, f"get_{side}axis")().get_visible():
                found.append(f"panel {k}, {side}")
    return found


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_explains_itself(name, record):
    # a quantity that is only a number or a count says so: (no unit), (count), epoch, class, number; the data are named,
    # for who sees the picture alone; and it is white, on a dark page too
    figure = figure_of(FIGURES[name](record))
    assert unlabelled(figure) == []
    assert any("MNIST" in text for text in texts(figure))
    assert to_hex(figure.get_facecolor(), keep_alpha=True) == "#ffffffff"


@pytest.mark.parametrize("name", [name for name in FIGURES if name not in GRIDS])
def test_a_missing_label_is_found(name, record):
    # the test above bites: every figure without its labels fails it
    figure = figure_of(FIGURES[name](record))
    figure.supxlabel("")
    figure.supylabel("")
    for ax in figure.axes:
        ax.set(xlabel="", ylabel="")
    assert unlabelled(figure)


def test_a_trial_keeps_its_colour(record):
    # in whatever figure and company
    other = make_record({"test_accuracy": [[98.0, 99.0]] * 2}, "gn_l1")
    alone, together = plots.overlay([record]), plots.overlay([other, record])
    of = lambda ax: {line.get_label(): to_hex(line.get_color()) for line in ax.lines}  # noqa: E731
    assert of(alone)["bn_l1"] == of(together)["bn_l1"] == trial_style(record)[0].lower()
    assert of(together)["gn_l1"] != of(together)["bn_l1"]


def test_unknown_trials_have_a_style_of_their_own_every_time():
    # a checksum of the name, not Python's hash, which changes from run to run
    assert trial_style(make_record(name="my_trial")) == (RED, ":", "P")


def test_published_numbers_are_drawn_and_called_one_seed(record):
    # on MNIST only, for the trial of that study only
    assert any("published test, 1 seed" in text for text in texts(plots.curves(record)))
    for other in ({"dataset": "digits"}, {"study": "regularisers"}):
        again = make_record({"test_accuracy": [[98.0, 99.0]] * 2}, "bn_l1", **other)
        assert not any("published" in text for text in texts(plots.curves(again)))


@pytest.mark.parametrize(("trial", "mean"), [("bn_l1", 99.169), ("ln_l1", 99.161), ("gn_l1", 99.158)])
def test_published_last_ten_epochs_reverse_the_order(trial, mean):
    # best epochs say group norm, the mean of the last ten epochs of the same logs says batch norm
    table = published_table("per_epoch")
    values = table[(table.study == "normalisers") & (table.trial == trial)].test_accuracy_pct
    assert values[-10:].mean() == pytest.approx(mean, abs=0.0005)


def test_published_best_agrees_with_the_published_epochs():
    # two tables of the same runs
    best = published_table("best_and_last").set_index(["study", "trial"])
    for key, rows in published_table("per_epoch").groupby(["study", "trial"]):
        if key in best.index and len(rows) >= STUDIES[key[0]].settings(key[1])["epochs"]:
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
    figure = plots.misclassified_grid(record)
    assert any("images not at hand: no files" in text for text in texts(figure))
    assert "image not\nat hand" in texts(figure)  # a grey tile, not a black one
    assert not any(ax.images for ax in figure.axes)


def test_images_of_limited_and_held_out_sets(digits, record):
    # named as they were made; other pixels than the record's are refused
    for made in (data.limit(digits, 50, 20), data.hold_out(digits, 30)):
        entry = {"name": made.name, "title": made.title, "checksum": made.checksum}
        found = images_of(dataclasses.replace(record, dataset=entry))
        assert (found == made.test_images.numpy()).all()
    with pytest.raises(data.DataError, match="checksum"):
        images_of(dataclasses.replace(record, dataset={**entry, "checksum": "0"}))


def test_confusion_counts_errors_only(record):
    # two seeds took a 7 for a 2; the diagonal is empty
    counts = plots.confusion(record).collections[0].get_array().reshape(10, 10)
    assert counts[7, 2] == counts.sum() == 2


def dots_of(ax) -> int:
    return sum(len(collection.get_offsets()) for collection in ax.collections)


def test_diverged_seeds_are_left_out_and_said_to_be(record):
    # no dot, no line, and the label tells
    lost = dataclasses.replace(record, diverged=[{"seed": 2, "epoch": 3, "step": 1}])
    ax = plots.dots([lost])
    assert dots_of(ax) == 2
    assert ax.get_yticklabels()[0].get_text() == "bn_l1\n2 of 3 seeds, 1 diverged"


@pytest.mark.parametrize(("seeds", "shown"), [(4, False), (5, True)])
def test_few_seeds_show_no_interval(seeds, shown):
    # below five the bar has no length; from five on it is Student's
    lines = plots.dots([make_record({"test_accuracy": [[99.0 + 0.1 * k] for k in range(seeds)]})]).lines
    lengths = [np.nanmax(x) - np.nanmin(x) for x in (np.asarray(line.get_xdata(), float) for line in lines) if len(x)]
    assert (max(lengths) > 0) == shown


def test_intervals_stay_within_100_percent():
    # five seeds at 100, 100, 100, 100 and 60: Student's interval would end at 114 %
    ax = plots.dots([make_record({"test_accuracy": [[100.0]] * 4 + [[60.0]]})])
    assert max(np.nanmax(np.asarray(line.get_xdata(), float)) for line in ax.lines if len(line.get_xdata())) <= 100
    assert ax.get_xlim()[1] <= 100.1


def test_time_is_per_seed(record):
    # three seeds that took 6 s together took 2 s each
    timed = dataclasses.replace(record, provenance={**record.provenance, "seconds": 6.0})
    (point,) = plots.time_and_accuracy([timed]).axes[0].lines
    assert point.get_xdata() == [2.0]


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_and_one_epoch_can_be_drawn(seeds):
    # one epoch is a dot and no line; a step between epochs there is none
    short = make_record({"test_accuracy": np.full((seeds, 1), 100.0)})
    figure = plots.curves(short)
    assert [line.get_marker() for line in figure.axes[0].lines if line.get_label() == "test"] == ["o"]
    assert dots_of(plots.dots([short])) == seeds
    assert not any(len(line.get_ydata()) for line in plots.jumps([short]).lines if line.get_label() == "bn_l1")


@pytest.mark.parametrize("name", FIGURES)
def test_a_trial_that_diverged_altogether_can_be_drawn(name, record):
    # the rest of a run is still worth seeing: an empty figure that says who is missing, or names the trial
    lost = dataclasses.replace(record, diverged=[{"seed": s, "epoch": 1, "step": 1} for s in range(3)])
    found = texts(figure_of(FIGURES[name](lost)))
    unnamed = ("by_setting", "batch_noise")  # against a setting; of a measurement that such a record does not have
    assert any("3 diverged" in text or "bn_l1" in text for text in found) or name in unnamed
    assert not any("nan" in text for text in found)


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
    accuracy_scale(ax, "accuracy (%)")
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
    lost = training.train(make_trial("regularisers", "lost", like="", **settings), images, 2)
    lost = records.load(records.add(lost, tmp_path))
    assert [entry["seed"] for entry in lost.diverged] == [0, 1]
    for draw in (plots.curves, plots.weight_norms, plots.confusion, plots.confidence):
        draw(lost)
    for draw in (plots.overlay, plots.small_multiples, plots.dots, plots.jumps, plots.generalisation_gap):
        draw([lost])


# --- claims and tables -----------------------------------------------------------------------------


def test_forest_shows_every_part_with_its_interval():
    # 0.4 points apart: to the right of the shade, which is no difference
    arms = {"gn_l1": 99.6, "ln_l1": 99.2, "bn_l1": 99.2}
    records = [
        make_record({"test_accuracy": np.full((5, 2), value) + np.arange(5)[:, None] / 100}, name)
        for name, value in arms.items()
    ]
    figure = plots.forest(records, "normalisers")
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels[0] == "a:  late test accuracy, gn_l1 − ln_l1"
    low, high = figure.axes[0].lines[0].get_xdata()
    assert 0.05 < low < 0.4 < high
    assert "log scale beyond 0.1" in figure.axes[0].get_xlabel()  # nothing far out is taken for near
    # five seeds, and the first look is at ten: the dots are hollow, and no claim is called undecided
    legend = [entry.get_text() for entry in figure.legends[0].get_texts()]
    assert legend == ["claim not tested yet", "counts as no difference"]
    assert figure.axes[0].lines[1].get_markerfacecolor() == "white"
    assert plots.forest([], "normalisers").axes[0].texts[0].get_text() == "no records"


@pytest.mark.parametrize(
    ("verdict", "colour"), [("supported, below the margin", GREEN), ("contradicted", RED), ("undecided", GREY)]
)
def test_forest_fills_the_dots_of_what_was_tested(monkeypatch, verdict, colour):
    records = [make_record({"test_accuracy": np.full((5, 2), 99.0)}, arm) for arm in ("gn_l1", "ln_l1", "bn_l1")]
    rows = [{**row, "verdict": verdict, "looks": [10]} for row in claims.verdicts.verdicts(records)]
    monkeypatch.setattr(claims.verdicts, "verdicts", lambda _: [row for row in rows if row["parts"]])
    figure = plots.forest(records, "normalisers")
    assert figure.legends[0].get_texts()[0].get_text() == f"claim {verdict.partition(',')[0]}"
    assert figure.axes[0].lines[1].get_markerfacecolor() == figure.axes[0].lines[0].get_color() == colour


def test_a_size_of_few_seeds_has_no_whiskers():
    # neither in the figure nor in its legend
    few, enough = (
        plots.accuracy_and_size([make_record({"test_accuracy": [[99.0 + 0.1 * k] for k in range(seeds)]})])
        for seeds in (2, 5)
    )
    assert [ax.containers[0].has_yerr for ax in (few, enough)] == [False, True]


def test_the_forest_s_bands_are_the_margins_of_its_parts():
    # 0.075 points of accuracy, 0.02 of its steps, 0.01 nats of rises; none where every difference counts
    study = STUDIES["normalisers"]
    records = [make_record({"test_accuracy": np.full((5, 2), 99.0)}, arm) for arm in study.arms]
    table = claims.parts(records).set_index("claim")
    assert (set(table.loc["a"].band), set(table.loc["b"].band), set(table.loc["d"].band)) == ({0.075}, {0.02}, {0.01})
    assert table.loc["e"].band.isna().sum() == 1


def test_a_page_s_table_escapes_and_hides_row_numbers():
    shown = plots.page(pd.DataFrame({"trial": ["<script>"]})).data
    assert "<script>" not in shown
    assert "<th>0</th>" not in shown
    assert plots.page(pd.DataFrame({"trial": []})).data == "<p>none</p>"


def test_notebooks_hold_figures_in_a_palette():
    figure, ax = plt.subplots()
    ax.plot([1, 2])
    picture = Image.open(io.BytesIO(palette_png(figure)))
    assert picture.mode == "P"


def growing() -> pd.DataFrame:
    """Two seeds of a trial, one of them an epoch behind."""
    rows = [("gbn", seed, epoch, 0.3, 91.0, 0.1, 98.0 + epoch / 10) for seed in (0, 1) for epoch in (1, 2, 3)][:-1]
    columns = ["trial", "seed", "epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    return pd.DataFrame(rows, columns=columns)


def test_live_curves_are_one_figure_renewed(monkeypatch):
    # Shown once, then updated in place, and closed, so that no notebook shows it a second time.
    done = []
    monkeypatch.setattr(DisplayHandle, "display", lambda _, figure: done.append(("display", figure)))
    monkeypatch.setattr(DisplayHandle, "update", lambda _, figure: done.append(("update", figure)))
    watcher, table = plots.live(True), growing()
    watcher(table[table.epoch == 1])
    watcher(table)
    assert [how for how, _ in done] == ["display", "update"]
    figure = done[-1][1]
    assert "gbn, training: 1 of 2 seeds are through epoch 3" in figure._suptitle.get_text()
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [3, 3, 3]
    assert plt.get_fignums() == []
    assert plots.live(False) is None


def test_published_networks_lie_beside_ours(record):
    # a hollow mark for each; ours at its size and mean, with the seeds and the epochs it is of
    ax = plots.accuracy_and_size([record])
    seen = published_table("small_networks")
    assert ax.lines[0].get_xydata().tolist() == seen[["parameters", "accuracy"]].to_numpy(float).tolist()
    assert ax.lines[1].get_xydata()[0] == pytest.approx([9802, record.last().test_accuracy.mean()])
    assert "normalisers/bn_l1: mean of 3 seeds, 4 epochs" in texts(ax.figure)
