"""docs/coverage.md: every notebook, cell and file it names exists, and every row names one."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CELL, FILE = re.compile(r"`([\w/]+)#([\w-]+)`"), re.compile(r"`([\w/.]+\.\w+)`")


def rows():
    """(statement, places) of every row in the documents' tables."""
    text = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
    tables = text.split("\n## ")[1:]
    lines = [line for table in tables for line in table.splitlines() if line.startswith("|")]
    cells = [[part.strip() for part in line.strip("|").split("|")] for line in lines]
    return [(row[0], row[1]) for row in cells if row[0] != "the document" and not row[0].startswith("---")]


def named_cells():
    return sorted({place for _, places in rows() for place in CELL.findall(places)})


def cell_ids(notebook):
    path = ROOT / "notebooks" / f"{notebook}.ipynb"
    return {cell["id"] for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]} if path.exists() else set()


@pytest.mark.parametrize("notebook", sorted({notebook for notebook, _ in named_cells()}))
def test_every_named_cell_exists(notebook):
    wanted = {cell for name, cell in named_cells() if name == notebook}
    assert wanted <= cell_ids(notebook), f"{notebook}: no cells {sorted(wanted - cell_ids(notebook))}"


def test_every_named_file_exists():
    files = {name for _, places in rows() for name in FILE.findall(places)}
    assert files
    assert not [name for name in sorted(files) if not (ROOT / name).exists()]


def test_every_row_has_a_place():
    assert len(rows()) > 100
    assert not [statement for statement, places in rows() if not CELL.search(places) and not FILE.search(places)]


def test_every_published_trial_has_a_statement():
    published = {f"{path.parent.name}/{path.stem}" for path in (ROOT / "notebooks" / "normalisers").glob("*.ipynb")}
    published |= {f"regularisers/{name}" for name in ("bn_l1", "bn_l2", "bn_l1_l2", "gbn", "gbn_l1_l2")}
    assert published <= {notebook for notebook, _ in named_cells()}
