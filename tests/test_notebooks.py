"""Notebooks: stripped, alike where they should be, complete, and guarded by references that bite."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import references
import shared_cells

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
TRIALS = shared_cells.trial_notebooks()
NAMES = references.notebooks()


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def text(cell: dict) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_sources_are_stripped(path):
    # No outputs and no counts in the sources; executed copies live under results/.
    for cell in load(path)["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_cells_are_small_and_hold_no_logic(path):
    # A cell past a few lines belongs in the library; definitions and loops always do.
    for cell in load(path)["cells"]:
        if cell["cell_type"] == "code" and cell["id"] != "parameters":
            assert text(cell).count("\n") < 16, cell["id"]
            if path.stem != "00_normalisation_by_hand":
                assert not re.search(r"^(def|class|for|while|try)\b", text(cell), re.M), cell["id"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_one_cell_of_annotated_parameters(path):
    # Exactly one tagged cell, of lines `name: type = literal  # help`.
    tagged = [cell for cell in load(path)["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    for line in text(tagged[0]).splitlines():
        assert re.fullmatch(r"(#.*|\w+: \w+ = .+?  # .+)", line), line


@pytest.mark.parametrize("path", TRIALS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shared_cells_are_identical(path):
    # The cells all trial notebooks share differ in nothing; `tests/shared_cells.py` copies them.
    model, own = shared_cells.cells(ROOT / "notebooks/regularisers/gbn.ipynb"), shared_cells.cells(path)
    for name in shared_cells.SHARED:
        assert text(own[name]) == text(model[name]), name
        assert own[name]["metadata"] == model[name]["metadata"], name


@pytest.mark.parametrize("path", TRIALS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_trial_notebooks_have_their_own_parts(path):
    # A question, a prediction, a figure of its own; the trial's name is the file's.
    own = shared_cells.cells(path)
    title = text(own["title"])
    assert "**Question.**" in title
    assert "**Prediction.**" in title
    assert "$" in title or "averaged" in title
    assert "plots." in text(own["effect"])
    assert f'"{path.stem}"' in text(own["trial"]) + text(own["parameters"])


def test_every_notebook_is_in_a_study():
    # Nothing is written that no study runs; the summary is run after all studies.
    assert {path.resolve() for path in SOURCES} == {path.resolve() for path in NAMES.values()}


@pytest.mark.parametrize("path", TRIALS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_defaults_are_mnist(path):
    # A notebook opened by hand trains on MNIST (tests/studies holds the other defaults to the arms).
    assert 'dataset: str = "mnist"' in text(shared_cells.cells(path)["parameters"])


@pytest.mark.parametrize("name", NAMES)
def test_references_are_not_stale(name):
    # The reference ran the notebook's present source; `python tests/references.py NAME` makes it anew.
    source, reference = load(NAMES[name])["cells"], load(references.reference(name))["cells"]
    ran = [cell for cell in reference if "injected-parameters" not in cell["metadata"].get("tags", [])]
    assert [text(cell) for cell in ran] == [text(cell) for cell in source]
    counts = [cell["execution_count"] for cell in reference if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_references_hold_something_to_compare(name):
    # nbval passes without comparing anything where no output is stored.
    checked = [cell for cell in load(references.reference(name))["cells"] if _checked(cell)]
    assert len(checked) >= 2
    assert all(cell["outputs"] for cell in checked)


def _checked(cell: dict) -> bool:
    return references.CHECK in cell["metadata"].get("tags", [])


@pytest.mark.parametrize(
    ("colab", "importable", "address", "then"),
    [
        (False, False, "your-name", "goes on"),
        (True, True, "your-name", "goes on"),
        (True, True, "somebody", "goes on"),
        (True, False, "somebody", "installs"),
        (True, False, "your-name", "says that there is no address"),
    ],
)
def test_colab_cell(colab, importable, address, then, monkeypatch):
    # it installs in Colab only, where the library is not there yet, and says plainly when it cannot
    cell, installed = text(shared_cells.cells(TRIALS[0])["colab"]), []
    code = cell.replace("your-name", address, 1).replace('%pip install -q "git+{REPOSITORY}"', "install()")
    assert "install()" in code
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: importable or None)
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", sys)
    run = lambda: exec(code, {"install": lambda: installed.append(1)})  # noqa: E731
    if then == "says that there is no address":
        with pytest.raises(AssertionError, match="no address yet"):
            run()
    else:
        run()
        assert then == ("installs" if installed else "goes on")


def test_one_colab_cell():
    # the same in every notebook
    assert len({text(shared_cells.cells(path)["colab"]) for path in SOURCES}) == 1


@pytest.mark.slow
def test_nbval_bites(tmp_path):
    # With one library function broken on purpose, replaying a reference fails in the cell that shows it.
    shutil.copytree(ROOT / "s6lib", tmp_path / "s6lib")
    norms = tmp_path / "s6lib" / "models" / "norms.py"
    right = '"batch": lambda context: nn.BatchNorm2d(context.total),'
    assert right in norms.read_text()
    norms.write_text(norms.read_text().replace(right, '"batch": None,'))
    assert _replay("regularisers.bn", {}) == 0
    assert _replay("regularisers.bn", {"PYTHONPATH": str(tmp_path)}) == 1


def _replay(name: str, environment: dict[str, str]) -> int:
    """nbval's exit code for the cells of one reference up to the network's table."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]
    command += ["--nbval-sanitize-with", "tests/nbval_sanitize.cfg", "-k", "not slow", f"tests/reference/{name}.ipynb"]
    lab = {"S6_QUIET": "1", "S6_LAB": str(Path(os.environ.get("TMPDIR", "/tmp")) / "s6lab-nbval")}
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **lab, **environment}, capture_output=True)
    return done.returncode


def test_pins_agree():
    # pyproject names what is needed, the lock pins all of it, and conda's file installs that lock.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [names for extra, names in project["optional-dependencies"].items() if extra != "peers"]  # for timing only
    wanted = [requirement for group in (project["dependencies"], *extras) for requirement in group]
    lock = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.M))
    from packaging.requirements import Requirement

    for requirement in map(Requirement, wanted):
        assert requirement.name in lock, requirement.name
        assert requirement.specifier.contains(lock[requirement.name]), requirement
    conda = (ROOT / "environment.yml").read_text()
    assert "-r requirements.lock" in conda
    assert project["requires-python"].removeprefix(">=") in conda
