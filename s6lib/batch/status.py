"""What `make status` prints: every trial's state, and the time left."""

import contextlib
import json
from pathlib import Path

from s6lib.batch import folders
from s6lib.batch.plan import Run
from s6lib.batch.progress import Display, describe, heartbeat, remaining, total_left
from s6lib.batch.request import Request, check, headline, trials_at_a_time
from s6lib.batch.state import State, state_of
from s6lib.records import plain_text


def status(request: Request) -> int:
    """Prints every trial's state and the time left."""
    check(request)
    folder, display = request.folder, Display()
    held = folders.in_use(folder / ".lock")
    plan = request.plan()
    jobs = trials_at_a_time(request, plan)
    display.line(headline(request, plan))
    rows = {run.name: status_row(run, folder) for run in plan}
    width = max(map(len, rows), default=5)
    for name, (kind, _, note) in rows.items():
        line = f"{name:<{width}}  {kind:<11}  {plain_text(note)}"
        display.line(line.partition("\n")[0].rstrip())
    kinds = [kind for kind, _, _ in rows.values()]
    display.line(", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)))
    display.line(time_left(rows, folder, jobs, held))
    return 0


def status_row(run: Run, folder: Path) -> tuple[str, State, str]:
    state = state_of(run, folder)
    attempts = list(Path(folder, ".work", run.name).glob("attempt-*"))
    beat = heartbeat(folder, run.name)
    if any(map(folders.alive, attempts)):
        return "running", state, describe("", beat).strip() if beat else ""
    if state.kind in ("done", "stale"):
        return state.kind, state, "; ".join(filter(None, [state.reason, state.diverged]))
    failure = Path(folder, ".failed", run.name, "failure.json")
    if failure.exists():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return "failed", state, plain_text(str(json.loads(failure.read_text(encoding="utf-8"))["reason"]))
    if Path(folder, ".work", run.name, "checkpoints").exists():
        return "missing", state, "interrupted; goes on from its last epoch"
    return "missing" if state.kind == "other" else state.kind, state, state.reason


def time_left(rows: dict, folder: Path, jobs: int, held: bool) -> str:
    running = [beat for name, (kind, _, _) in rows.items() if kind == "running" and (beat := heartbeat(folder, name))]
    waiting = sum(kind in ("missing", "failed", "damaged") for kind, _, _ in rows.values())
    times = [state.info["seconds"] for _, state, _ in rows.values() if state.info.get("seconds")]
    seconds = total_left(running, waiting, sum(times) / len(times) if times else None, jobs)
    if not running and not waiting:
        return "nothing left to do"
    text = remaining(seconds, running) or "time left: unknown until a trial has run"
    return text + ("" if held else "; no runner is at work here")
