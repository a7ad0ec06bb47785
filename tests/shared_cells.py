"""Cells that all trial notebooks share, by id; `python tests/shared_cells.py NOTEBOOK` copies them from NOTEBOOK."""

import json
import sys
from pathlib import Path

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
SHARED = (
    "colab",
    "imports",
    "samples-text",
    "samples",
    "network-text",
    "network",
    "train-text",
    "train",
    "first-batch",
    "curves-text",
    "curves",
    "misclassified-text",
    "misclassified",
    "confusion",
    "control-text",
    "control",
    "record-text",
    "record",
)
FOLDERS = ("regularisers", "more", "normalisers")


def trial_notebooks() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (NOTEBOOKS / folder).glob("*.ipynb"))


def cells(path: Path) -> dict[str, dict]:
    """The notebook's cells by id."""
    return {cell["id"]: cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]}


def copy_shared(source: Path, target: Path) -> None:
    """Gives the target's shared cells the source's text and tags."""
    model, notebook = cells(source), json.loads(target.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["id"] in SHARED:
            cell.update(source=model[cell["id"]]["source"], metadata=model[cell["id"]]["metadata"])
    target.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for notebook in trial_notebooks():
        copy_shared(Path(sys.argv[1]), notebook)
