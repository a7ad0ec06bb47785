"""docs/gallery: every trial notebook executed on the committed run, nothing trained, and a picture of each.

Each copy notes a checksum of the numbers it shows, so that one can see without running it again whether it still does.
"""

import base64
import io
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from s6lib import paths
from s6lib.evidence import measures
from s6lib.plots.style import palette
from s6lib.records import replace_file
from s6lib.records.files import digest_of
from s6lib.report.committed import Committed, arms_like
from s6lib.studies import STUDIES

OTHER_TEXT = "other text"
WIDTH = 900
PICTURES = ("curves", "gap-curves", "accuracy", "ladder")  # cells whose figure stands for the trial, the first there is
TAKES = re.compile(r"<!--= takes ([^>]+?) -->")


@dataclass(frozen=True)
class Entry:
    """A trial of studies.toml and the arms that its notebook shows, as "study/arm"."""

    study: str
    name: str
    notebook: Path
    parameters: dict[str, Any]

    @property
    def arms(self) -> list[str]:
        found = TAKES.search(self.notebook.read_text(encoding="utf-8"))
        return arms_like(f"{self.study}/{self.name}") or arms_like(*(found[1].split() if found else []))

    @property
    def copy(self) -> Path:
        return folder() / f"{self.study}.{self.name}.ipynb"


def folder() -> Path:
    return paths.home() / "docs" / "gallery"


def entries() -> list[Entry]:
    table = tomllib.loads((paths.home() / "studies.toml").read_text(encoding="utf-8"))["studies"]
    runs = [(study, name, run) for study, many in table.items() for name, run in many.items() if "notebook" in run]
    notebooks = paths.home() / "notebooks"
    return [Entry(study, name, notebooks / run["notebook"], run.get("parameters", {})) for study, name, run in runs]


def shown(e: Committed) -> list[Entry]:
    """The entries whose arms are all in the committed run."""
    return [entry for entry in entries() if entry.arms and all(arm in e.records for arm in entry.arms)]


# --- making ----------------------------------------------------------------------------------------


def make(e: Committed) -> Iterator[Path]:
    """Executes what is missing or outdated, or takes over its text where no more has changed; yields each copy when it
    is there."""
    for entry in shown(e):
        if why := _outdated(e, entry):
            yield take_over_text(entry.copy, entry.notebook) if why == OTHER_TEXT else _execute(e, entry)


def take_over_text(copy: Path, notebook: Path) -> Path:
    """Gives an executed copy the notebook's present prose, which needs no run; the code has to be what ran."""
    kept = json.loads(copy.read_text(encoding="utf-8"))
    for old, new in zip(_cells(kept), json.loads(notebook.read_text(encoding="utf-8"))["cells"], strict=True):
        if new["cell_type"] == "markdown":
            old["source"] = new["source"]
    replace_file(copy, (json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())
    return copy


def _execute(e: Committed, entry: Entry) -> Path:
    import nbformat
    import papermill

    seeds = {"seeds": e.records[entry.arms[0]].seeds_from_0} if len(entry.arms) == 1 else {}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.update(S6_LAB=scratch, S6_QUIET="1", S6_TRAIN="never")
        options = {"kernel_name": "python3", "progress_bar": False, "cwd": str(entry.notebook.parent)}
        done = papermill.execute_notebook(str(entry.notebook), None, {**entry.parameters, **seeds}, **options)
    for cell in done.cells:
        cell.metadata = {"tags": cell.metadata.get("tags", [])}
    done.metadata = {key: done.metadata[key] for key in ("kernelspec", "language_info")}
    done.metadata["s6lib"] = {"shows": _checksum(e, entry)}
    entry.copy.parent.mkdir(parents=True, exist_ok=True)
    _write_picture(done.cells, entry.copy.with_suffix(".png"))  # first: who is stopped here has no copy that counts
    replace_file(entry.copy, f"{nbformat.writes(done).rstrip()}\n".encode())
    return entry.copy


def _write_picture(cells: list, path: Path) -> None:
    figures = {cell.id: images[0] for cell in cells if (images := list(_figures(cell)))}
    chosen = next((figures[name] for name in PICTURES if name in figures), next(iter(figures.values())))
    picture = Image.open(io.BytesIO(base64.b64decode(chosen))).convert("RGB")
    picture.thumbnail((WIDTH, WIDTH))
    replace_file(path, palette(picture))


def _figures(cell: Any) -> Iterator[str]:
    for output in cell.get("outputs", []):
        if png := output.get("data", {}).get("image/png"):
            yield png


# --- checking --------------------------------------------------------------------------------------


def outdated(e: Committed) -> list[str]:
    """A line for each copy that is missing, or shows other numbers or another source than there are."""
    known = shown(e)
    old = [(entry.copy.name, why) for entry in known if (why := _outdated(e, entry))]
    lines = [f"{name}: {why}; `make gallery` makes it anew" for name, why in old]
    extra = set(folder().glob("*.ipynb")) - {entry.copy for entry in known}
    return lines + [f"{path.name}: shows what the committed run does not hold; delete it" for path in sorted(extra)]


def _outdated(e: Committed, entry: Entry) -> str:
    if not (entry.copy.exists() and entry.copy.with_suffix(".png").exists()):
        return "missing"
    try:
        copy = json.loads(entry.copy.read_text(encoding="utf-8"))
    except ValueError:
        return "damaged"
    if copy["metadata"].get("s6lib", {}).get("shows") != _checksum(e, entry):
        return "shows other numbers than the records hold"
    old, new = map(_sources, (copy, json.loads(entry.notebook.read_text(encoding="utf-8"))))
    if old == new:
        return ""
    old, new = ([(kind, text if kind == "code" else "") for kind, text in one] for one in (old, new))
    return OTHER_TEXT if old == new else "other source"


def _sources(notebook: dict) -> list[tuple[str, str]]:
    """Kind and text of every cell but injected parameters, whatever stands between markers."""
    texts = [(cell["cell_type"], "".join(cell["source"])) for cell in _cells(notebook)]
    return [(kind, re.sub(r"(<!--= [^>]+? -->).*?<!--/-->", r"\1", text)) for kind, text in texts]


def _cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if "injected-parameters" not in cell["metadata"].get("tags", [])]


def _checksum(e: Committed, entry: Entry) -> str:
    numbers = [measures.last(e.records[arm], "test_accuracy").round(6).tolist() for arm in entry.arms]
    return digest_of(numbers)[:16]


# --- the page --------------------------------------------------------------------------------------


def page(e: Committed) -> str:
    """A picture per trial that links to its executed copy, study by study."""
    lines: list[str] = []
    known = shown(e)
    here = [entry for entry in known if entry.copy.exists()]
    for study, members in groupby(here, key=lambda entry: entry.study):
        lines += [f"## {STUDIES[study].title}", ""]
        for entry in members:
            file = f"gallery/{entry.copy.stem}"
            lines += [f"**[`{study}/{entry.name}`]({file}.ipynb)**, {_what(e, entry)}", ""]
            lines += [f"[![Curves of {entry.name}]({file}.png)]({file}.ipynb)", ""]
    missing = [f"`{entry.study}/{entry.name}`" for entry in entries() if entry not in known]
    lines.append(f"Not shown, as not all of their arms are in the committed run: {', '.join(missing) or 'none'}.")
    return "\n".join(lines)


def _what(e: Committed, entry: Entry) -> str:
    if len(entry.arms) > 1:
        return f"{len(entry.arms)} arms"
    values = measures.last(e.records[entry.arms[0]], "test_accuracy")
    return f"{STUDIES[entry.study].arms[entry.name].label}: {values.mean():.2f} % ({len(values)} seeds)"
