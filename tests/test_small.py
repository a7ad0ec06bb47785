"""The small form of records: what it keeps, how exactly, and that everything reads it."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
from committed import committed_records
from synthetic import make_record

from s6lib import data, paths, plots, records
from s6lib.evidence import images as errors
from s6lib.evidence import probes
from s6lib.records import answers, images
from s6lib.records.small import copy, small
from s6lib.records.small import main as small_main


@pytest.fixture
def full():
    """Three seeds with random answers and weights of a convolution."""
    dice = np.random.default_rng(0)
    weights = {"layers.0.weight": dice.normal(size=(3, 4, 1, 3, 3)).astype(np.float32)}
    record = make_record(logits=4 * dice.normal(size=(3, 20, 10)), weights=weights)
    record.predicted[0, 0] = (record.predicted[0, 0] + 1) % 10  # as when half precision made a tie of it
    return record


@pytest.fixture
def without_data(monkeypatch):
    def refuse(name):
        raise data.DataError(f"{name}: not here")

    monkeypatch.setattr(data, "load", refuse)


def test_codes_are_as_exact_as_promised():
    p = np.concatenate([np.linspace(0.001, 0.999, 999), 1 - 10.0 ** -np.arange(3, 6)])
    found = answers.decode(answers.encode(p)).astype(float)
    assert np.abs(found - p).max() <= 0.016
    assert np.abs(np.log(found / (1 - found)) - np.log(p / (1 - p))).max() <= 1 / 16 + 0.01
    assert np.isnan(answers.decode(answers.encode(np.array([np.nan])))).all()


def test_a_small_part_keeps_answers_and_some_weights(full, tmp_path):
    part = records.add(small(full, weights=2), tmp_path)
    found = records.load(part)
    assert found.logits is None
    np.testing.assert_array_equal(found.predicted, full.predicted)
    np.testing.assert_allclose(found.confidence, full.confidence, atol=0.016)
    np.testing.assert_allclose(found.label_probability, full.label_probability, atol=0.016)
    assert found.weight_seeds == [0, 1]
    np.testing.assert_array_equal(found.weights["layers.0.weight"], full.weights["layers.0.weight"][:2])


def test_full_parts_keep_classes_from_before_rounding(full, tmp_path):
    found = records.load(records.add(full, tmp_path))
    np.testing.assert_array_equal(found.logits, full.logits)
    np.testing.assert_array_equal(found.predicted, full.predicted)
    assert found.predicted[0, 0] != found.logits[0, 0].argmax()


def test_errors_per_image_are_the_same_in_both_forms(full, tmp_path):
    shrunk = records.load(records.add(small(full), tmp_path))
    mine, theirs = errors.per_image_errors(shrunk), errors.per_image_errors(full)
    same = ["image", "label", "predicted", "missed_by", "seeds"]
    assert mine[same].equals(theirs[same])
    np.testing.assert_allclose(mine.confidence, theirs.confidence, atol=1.6)


def test_small_and_full_parts_of_a_trial_are_read_together(full, tmp_path):
    later = dataclasses.replace(full, seeds=[7, 8, 9])
    for name in ("history", "weight_norms"):
        setattr(later, name, getattr(full, name).assign(seed=getattr(full, name).seed + 7))
    records.add(small(full, weights=1), tmp_path)
    records.add(later, tmp_path)
    (found,), left_out = records.find(tmp_path)
    assert (found.seeds, found.weight_seeds, left_out) == ([0, 1, 2, 7, 8, 9], [0, 7, 8, 9], [])
    np.testing.assert_array_equal(found.predicted, np.concatenate([full.predicted] * 2))
    assert found.confidence.shape == (6, 20)
    assert found.weights["layers.0.weight"].shape[0] == 4


def test_copies_change_nothing_but_the_form(full, tmp_path):
    old = records.add(full, tmp_path / "run", finished="2026-01-02T03:04:05.000000Z")
    before = {file.name: file.read_bytes() for file in old.iterdir()}
    assert copy(tmp_path / "run", tmp_path / "copy") == []
    (new,) = records.part_folders(tmp_path / "copy")
    assert {file.name: file.read_bytes() for file in old.iterdir()} == before
    assert new.name == old.name
    for name in ("provenance", "finished", "trial", "dataset", "seeds"):
        assert records.read_head(new)[name] == records.read_head(old)[name]
    for name in ("history.csv", "weight_norms.csv"):
        assert (new / name).read_bytes() == before[name]


def test_copying_again_adds_what_is_new_only(full, tmp_path, capsys):
    records.add(full, tmp_path / "run")
    for _ in range(2):
        copy(tmp_path / "run", tmp_path / "copy")
    assert len(list(records.part_folders(tmp_path / "copy"))) == 1
    assert capsys.readouterr().out == ""


def test_damaged_parts_are_named_and_the_others_copied(full, tmp_path):
    bad = records.add(dataclasses.replace(full), tmp_path / "run")
    records.add(make_record(name="ln_l1"), tmp_path / "run")
    (bad / "history.csv").write_text("")
    (line,) = copy(tmp_path / "run", tmp_path / "copy")
    assert str(bad) in line
    assert len(list(records.part_folders(tmp_path / "copy"))) == 1


def test_a_run_is_not_copied_onto_itself(tmp_path):
    with pytest.raises(SystemExit):
        small_main([str(tmp_path), str(tmp_path)])


DAMAGE = {
    "class ten": {"predicted": np.full((3, 20), 10, np.uint8)},
    "wide codes": {"confidence": np.zeros((3, 20), np.uint16)},
    "fewer seeds": {"label_probability": np.zeros((2, 20), np.uint8)},
    "one array more": {"more": np.zeros(1)},
    "pickled": {"predicted": np.array([{}], dtype=object)},
}


@pytest.mark.parametrize("case", DAMAGE)
def test_odd_but_signed_small_parts_are_refused(full, tmp_path, case, monkeypatch):
    right = answers.arrays_of
    monkeypatch.setattr(answers, "arrays_of", lambda record: right(record) | DAMAGE[case])
    part = records.add(small(full), tmp_path)
    with pytest.raises(records.RecordError, match="not a usable record"):
        records.load(part)


def test_figures_of_weights_say_why_they_show_nothing(full):
    bare, ghost = small(full, weights=0), make_record(name="gbn", study="regularisers")
    for figure in (plots.weight_histogram(bare), plots.ghost_statistics(ghost), plots.zeros_by_layer([bare])):
        assert "without weights" in str([text.get_text() for ax in figure.axes for text in ax.texts])
    for ax in (plots.scale_histogram(bare), plots.batch_noise(bare, probes.batch_noise(bare, None))):
        assert "without weights" in str([text.get_text() for text in ax.texts])
    plt.close("all")
    with pytest.raises(records.RecordError, match="train it to see this figure"):
        probes.network(bare)


def test_figures_of_weights_name_the_seeds_that_kept_them(full):
    figure = plots.weight_histogram(small(full, weights=2))
    assert "2 of 3 seeds, whose weights were kept" in figure.get_suptitle()
    plt.close(figure)


# --- digits without the data set --------------------------------------------------------------------


def tiles(figure) -> list[np.ndarray]:
    return [ax.images[0].get_array() if ax.images else np.zeros(1) for ax in figure.axes]


@pytest.mark.parametrize("study", ["regularisers", "normalisers", "progression"])
def test_committed_digits_are_seen_without_mnist(without_data, study):
    # Not one black or empty tile, in the summary's grids and in every trial's own.
    group = [record for record in committed_records() if record.trial.study == study]
    figures = [plots.grids_side_by_side(group, 8), *(plots.misclassified_grid(record) for record in group)]
    assert all(tile.max() > 100 and tile.std() > 20 for figure in figures for tile in tiles(figure))
    plt.close("all")


def test_committed_images_are_those_of_the_records():
    found = committed_records()
    kept, checksum = images.read(paths.reference() / images.NAME)
    assert {record.dataset["checksum"] for record in found} == {checksum}
    assert set(images.chosen(found)) <= set(kept)


def test_a_run_keeps_its_hardest_digits(tmp_path, digits, monkeypatch):
    missed = np.tile(9.0 * np.eye(10)[(digits.test_labels.numpy() + 1) % 10], (2, 1, 1))
    record = make_record(logits=missed, labels=digits.test_labels.numpy())
    record.dataset = digits.describe()
    records.add(record, tmp_path)
    images.keep(records.find(tmp_path)[0], tmp_path)
    kept, _ = images.read(tmp_path / images.NAME)
    assert all((kept[n] == digits.test_images[n].numpy()).all() for n in kept)
    assert len(kept) == len(digits.test_labels)


def test_the_committed_images_are_not_replaced_by_a_summary(monkeypatch):
    monkeypatch.setattr(images, "write", lambda *_: pytest.fail("written"))
    images.keep(committed_records()[:1], paths.reference())


def test_what_the_page_ranks_hardest_is_kept():
    # an image that both seeds of a small trial miss, and none of forty of a large one: half of the trials, few seeds
    labels = np.arange(1000) % 10
    right = 9.0 * np.eye(10)[labels]
    few, many = np.tile(right, (2, 1, 1)), np.tile(right, (40, 1, 1))
    few[:, 7] = 9.0 * np.eye(10)[(labels[7] + 1) % 10]
    many[:3, 100:500] = 9.0 * np.eye(10)[(labels[100:500] + 1) % 10]
    records = [make_record(logits=one, labels=labels) for one in (few, many)]
    assert images.missed_share(records).argmax() == 7
    assert 7 in images.chosen(records)


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"no archive"])
def test_damaged_images_are_as_good_as_none(tmp_path, content):
    (tmp_path / images.NAME).write_bytes(content)
    with pytest.raises(records.RecordError, match="no usable images"):
        images.read(tmp_path / images.NAME)
    record = make_record()
    record.path = tmp_path / "regularisers" / "bn"
    assert images.hardest(record) == {}
