"""`make prune` and `make clean`, which alone delete results: only what the batch made, below the run folder."""

from collections.abc import Iterator
from pathlib import Path

from s6lib.batch.folders import remove, remove_empty, run_lock
from s6lib.batch.plan import part_path, read_run, state_of, unreadable
from s6lib.batch.progress import Display
from s6lib.batch.request import Request, check
from s6lib.records.parts import is_part_name
from s6lib.records.reading import ASKED
from s6lib.report.page import PAGE, TABLE


def prune(request: Request, really: bool) -> int:
    """Lists, and `really` deletes, the parts and runs that no trial of the profile asks for as it is set now."""
    check(request)
    folder, display = request.folder, Display()
    if not folder.is_dir():
        display.line(f"{folder}: nothing has run yet")
        return 0
    with run_lock(folder, shared=False, say=display.line, wait=False):
        unasked = list(unasked_folders(request))
        for path in unasked:
            display.line(f"{size(path) / 1e6:8.1f} MB  {path.relative_to(folder)}")
            if really:
                remove(path, folder)
                remove_link(path.parent / "notebook.ipynb", folder)
    word = "deleted" if really else "not asked for; YES=1 deletes them"
    display.line(f"{len(unasked)} folders {word}")
    return 0


def unasked_folders(request: Request) -> Iterator[Path]:
    """Runs of other settings than today's, and the parts that only those used."""
    states = [state_of(run, request.folder) for run in request.plan()]
    current = {state.folder for state in states if state.kind in ("done", "stale")}
    wanted = {part for state in states for part in state.info.get("parts", [])}
    chosen = {request.folder / run.name for run in request.plan()}
    runs = [path for path in request.folder.glob("*/*/run.*") if path not in current and not unreadable(path)]
    runs = [path for path in runs if path.parent in chosen or not (request.study or request.trial)]
    parts = sorted({part for path in runs for part in read_run(path)["parts"]} - wanted)
    folders = [part_path(request.folder, part) for part in parts]
    yield from sorted(path for path in [*runs, *folders] if path.is_dir() and not path.is_symlink())


def clean(request: Request) -> int:
    """Deletes what batches made in the run folder; refuses while someone works there."""
    check(request)
    folder, display = request.folder, Display()
    if not folder.is_dir():
        return 0
    with run_lock(folder, shared=False, say=display.line, wait=False):
        made = [path for path in folder.glob("*/*/*") if is_part_name(path.name) or path.name.startswith("run.")]
        for path in [*made, folder / ".work", folder / ".failed"]:
            remove(path, folder)
        for path in folder.glob("*/*/notebook.ipynb"):
            remove_link(path, folder)
        notebooks = [path.name for path in (request.root / "notebooks").glob("*.ipynb")]
        for name in (*notebooks, ASKED, "batch.log", PAGE, TABLE):
            (folder / name).unlink(missing_ok=True)
        for path in folder.glob("*/*"):
            remove_empty(path, folder)
    if folder.exists():
        display.line(f"{folder}: files that the batch did not make are kept")
    return 0


def remove_link(link: Path, top: Path) -> None:
    """Removes a trial's link to its last notebook where that is gone."""
    below = link.parent.resolve() == top.resolve() / link.parent.relative_to(top)
    if below and link.is_symlink() and not link.exists():
        link.unlink()


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
