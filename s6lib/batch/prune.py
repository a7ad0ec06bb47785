"""`make prune` and `make clean`, which alone delete results: only what the batch made, below the run folder."""

from pathlib import Path

from s6lib.batch.folders import remove, remove_empty, run_lock
from s6lib.batch.plan import Run
from s6lib.batch.progress import Display
from s6lib.batch.request import Request, check
from s6lib.batch.state import read_runs, state_of_folder
from s6lib.records.parts import is_part_name
from s6lib.records.reading import ASKED
from s6lib.report.page import PAGE, TABLE

# Beside the studies: what batches, summaries and pages leave. The last three are named by modules that need torch.
MADE = (ASKED, "batch.log", PAGE, TABLE, "verdicts.json", "frontier.json", "hardest.npz")


def prune(request: Request, really: bool) -> int:
    """Lists, and `really` deletes, the runs that no trial of the profile asks for as it is set now, and the parts that
    only those used. A part that no run used yet stays: what was interrupted may be going to use it."""
    check(request)
    folder, display = request.folder, Display()
    if not folder.is_dir():
        display.line(f"{folder}: nothing has run yet")
        return 0
    with run_lock(folder, shared=False, say=display.line, wait=False):
        unasked = unasked_folders(request)
        for path in unasked:
            display.line(f"{size(path) / 1e6:8.1f} MB  {path.relative_to(folder)}")
            if really:
                remove(path, folder)
                remove_link(path.parent / "notebook.ipynb", folder)
        kept = [path for path in unasked if really and path.exists()]
    word = "deleted" if really else "not asked for; YES=1 deletes them"
    display.line(f"{len(unasked) - len(kept)} folders {word}")
    for path in kept:
        display.line(f"{path}: cannot be deleted; who owns it?")
    return int(bool(kept))


def unasked_folders(request: Request) -> list[Path]:
    """Runs of other settings than today's, and the parts that only those used. Of a trial that has not run with today's
    settings, none: nothing has taken the place of what is there."""
    folder, plan = request.folder, request.plan()
    asked = {path: info for run in plan for path, info in asked_runs(run, folder).items()}
    wanted = {kind(part) for info in asked.values() for part in info["parts"]}
    every = read_runs(folder, "*/*/run.*")
    runs = {path: info for path, info in every.items() if path not in asked}
    planned, ran = {folder / run.name for run in plan}, {path.parent for path in asked}
    if request.study or request.trial:
        runs = {path: info for path, info in runs.items() if path.parent in planned}
    runs = {path: info for path, info in runs.items() if path.parent not in planned - ran}
    used = {part for path, info in every.items() if path not in runs for part in info["parts"]}
    parts = {part for info in runs.values() for part in info["parts"] if kind(part) not in wanted} - used
    found = [*runs, *(folder / part for part in parts)]
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def kind(part: str) -> tuple[str, str]:
    """The trial of a part and the key of its settings, data and precision: the same for all its seeds."""
    trial, name = part.rsplit("/", 1)
    return trial, name.rsplit(".", 1)[-1]


def asked_runs(run: Run, folder: Path) -> dict[Path, dict]:
    """The runs of a trial as it is set now, with however many seeds and in whichever precision: `make decide` has more
    than the profile."""
    found = {}
    free = {"seeds": 0, "precision": ""}
    for path, info in read_runs(folder / run.name, "run.*").items():
        alike = {**info["settings"], **free} == {**run.settings, **free}
        if alike and state_of_folder(path, run, folder).kind != "other":  # whole parts of a damaged run are used again
            found[path] = info
    return found


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
        for name in (*notebooks, *MADE):
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
