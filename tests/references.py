"""Reference runs of all notebooks, for nbval; `python tests/references.py [NAME ...]` makes them anew, and with
`--text` for a name takes over the notebooks' present prose, which needs no run.

Each notebook that studies.toml names is executed once through papermill, at smoke size on the bundled digits. What is
kept under tests/reference/ is the executed source with the outputs of the cells tagged `nbval-check-output`: layer
tables, trial echoes, parameter counts, rounded sums of weights. `make nbval` runs them again and compares.

The summary's reference is the report itself, results/reference/summary.ipynb, with all its outputs; made with MNIST at
hand, so that it shows the digits.
"""

import os
import sys
import tempfile
import tomllib
from pathlib import Path

import nbformat
import papermill

from s6lib.report.gallery import take_over_text

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "tests" / "reference"
REPORT = ROOT / "results" / "reference" / "summary.ipynb"
# float64 on every machine: in float32 the sums of weights, to three digits, change with the number of threads, because
# Adam's first step is as long for a gradient of 1e-9 as for one of 1 and rounding decides its sign.
SMOKE = {"dataset": "digits", "seeds": 2, "epochs": 1, "misclassified": 10, "precision": "float64"}
SMALLER = {
    "model_progression": {"seeds": 1},
    "gn_groups": {"groups": [1, 4, 16]},
    "speedrun": {"published_epochs": 1, "ladder_seeds": 1, "choice_seeds": 1, "held_out": 300},
}
CHECK = "nbval-check-output"


def notebooks() -> dict[str, Path]:
    """Reference name -> notebook, for every notebook that studies.toml names, the summary and explore."""
    table = tomllib.loads((ROOT / "studies.toml").read_text(encoding="utf-8"))
    paths = {run["notebook"] for study in table["studies"].values() for run in study.values() if "notebook" in run}
    paths = sorted(paths | set(table["tutorials"].values()) | {"summary.ipynb", "explore.ipynb"})
    return {path.removesuffix(".ipynb").replace("/", "."): ROOT / "notebooks" / path for path in paths}


def reference(name: str) -> Path:
    return REPORT if name == "summary" else FOLDER / f"{name}.ipynb"


def parameters(name: str, notebook: Path) -> dict:
    """The smoke values of those parameters that the notebook has; of the summary's it has none."""
    known = papermill.inspect_notebook(str(notebook))
    return {key: value for key, value in {**SMOKE, **SMALLER.get(name, {})}.items() if key in known}


def make(name: str, notebook: Path) -> None:
    """Executes one notebook at smoke size and keeps its reference."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.update(S6_LAB=scratch, S6_QUIET="1")
        chosen = parameters(name, notebook)
        executed = papermill.execute_notebook(str(notebook), None, chosen, kernel_name="python3", progress_bar=False)
    for cell in executed.cells:
        cell.metadata = {"tags": cell.metadata.get("tags", [])}
        if name != "summary" and cell.cell_type == "code" and CHECK not in cell.metadata["tags"]:
            cell.outputs = []
    executed.metadata.pop("papermill", None)
    executed.metadata.pop("widgets", None)
    nbformat.write(executed, reference(name))


def take_over(name: str, notebook: Path) -> None:
    take_over_text(reference(name), notebook)


if __name__ == "__main__":
    words = sys.argv[1:]
    work = take_over if words == ["--text"] else make
    for name, notebook in notebooks().items():
        if words in ([], ["--text"]) or name in words:
            work(name, notebook)
            print(name, flush=True)
