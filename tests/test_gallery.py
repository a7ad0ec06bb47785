"""The gallery: its pictures show digits, its copies show what records hold, and it is small enough to keep."""

import base64
import dataclasses
import io
import json
import shutil

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from committed import EVIDENCE
from PIL import Image
from scipy import ndimage
from synthetic import make_record

from s6lib import paths, plots
from s6lib.report import gallery
from s6lib.report.values import Evidence

mpl.use("Agg")
COPIES = sorted(gallery.folder().glob("*.ipynb"))
MEGABYTES = 12


def figures(path, cell):
    """The figures of one cell of an executed notebook, as arrays [height, width, 3]."""
    cells = {one["id"]: one for one in json.loads(path.read_text(encoding="utf-8"))["cells"]}
    outputs = cells[cell]["outputs"] if cell in cells else []
    pngs = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")) for png in pngs]


def digits_in(figure):
    """The share of bright pixels in every dark, about square tile: a digit has some, a blank tile none."""
    dark = ndimage.binary_fill_holes(ndimage.binary_opening(figure.max(-1) < 60, iterations=3))
    found = []
    for place in ndimage.find_objects(ndimage.label(dark)[0]):
        tile = figure[place].min(-1)
        height, width = tile.shape
        if min(height, width) > 30 and max(height, width) < 1.3 * min(height, width):
            found.append(float((tile > 180).mean()))
    return found


def drawn(record, images):
    buffer = io.BytesIO()
    plots.misclassified_grid(record, 10, images).savefig(buffer, dpi=110)
    plt.close("all")
    return np.asarray(Image.open(buffer).convert("RGB"))


@pytest.mark.parametrize("path", COPIES, ids=lambda path: path.stem)
def test_digits_are_seen(path):
    # as many as the grid was asked for, and none of them blank
    (figure,) = figures(path, "misclassified")
    found = digits_in(figure)
    assert len(found) >= 10
    assert min(found) > 0.01


@pytest.mark.parametrize("images", [np.zeros((20, 28, 28)), None], ids=["black", "grey"])
def test_blank_tiles_are_noticed(images, monkeypatch):
    # the fault that a committed report once had: black tiles; and the grey ones that stand for missing images
    logits = np.tile(9.0 * np.eye(10)[(np.arange(20) + 1) % 10], (3, 1, 1))
    with plt.rc_context():
        plots.style()
        found = digits_in(drawn(make_record(logits=logits, dataset="unheard-of"), images))
        good = np.zeros((20, 28, 28))
        good[:, 5:23, 12:16] = 255
        seen = digits_in(drawn(make_record(logits=logits), good))
    assert not found or max(found) < 0.01
    assert len(seen) == 10
    assert min(seen) > 0.05


def test_every_trial_of_the_committed_run_is_there():
    assert {entry.copy for entry in gallery.shown(EVIDENCE)} == set(COPIES)
    assert all(path.with_suffix(".png").exists() for path in COPIES)
    assert gallery.outdated(EVIDENCE) == []


def test_another_number_or_source_outdates_a_copy(monkeypatch):
    other = Evidence()
    other.__dict__["records"] = EVIDENCE.records | {"regularisers/gbn": EVIDENCE.records["regularisers/bn"]}
    assert [line.split(":")[0] for line in gallery.outdated(other)] == ["regularisers.gbn.ipynb"]
    monkeypatch.setattr(gallery, "_sources", lambda notebook: [("code", str(id(notebook)))])
    assert len(gallery.outdated(EVIDENCE)) == len(COPIES)


def test_prose_is_taken_over_without_a_run(tmp_path, monkeypatch):
    entry = next(one for one in gallery.shown(EVIDENCE) if one.name == "gbn")
    changed = tmp_path / "gbn.ipynb"
    changed.write_text(entry.notebook.read_text(encoding="utf-8").replace("## What it gets wrong", "## Missed"))
    copy = tmp_path / entry.copy.name
    for file in (entry.copy, entry.copy.with_suffix(".png")):
        shutil.copy(file, tmp_path)
    monkeypatch.setattr(gallery, "folder", lambda: tmp_path)
    monkeypatch.setattr(gallery, "shown", lambda e: [dataclasses.replace(entry, notebook=changed)])
    before = copy.read_text(encoding="utf-8")
    assert list(gallery.make(EVIDENCE)) == [copy]
    assert copy.read_text(encoding="utf-8") == before.replace("## What it gets wrong", "## Missed")
    assert list(gallery.make(EVIDENCE)) == []


def test_the_gallery_is_small():
    files = [path for path in gallery.folder().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MEGABYTES * 10**6


@pytest.mark.parametrize("path", COPIES, ids=lambda path: path.stem)
def test_nothing_was_trained_for_a_copy(path):
    text = path.read_text(encoding="utf-8")
    assert "from the reference run" in text
    assert str(paths.home()) not in text
