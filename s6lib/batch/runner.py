"""A batch: plan -> execute notebooks side by side -> publish; what is there and valid is skipped.

    results/<run>/<study>/<trial>/    published: notebook.ipynb, run.json, the record (of a sweep: a folder each)
    results/<run>/summary.ipynb       executed after every batch
    results/<run>/.failed/...         the last failed attempt of a trial, until it succeeds
    results/<run>/.replaced/...       the record that a newer one replaced, one generation back
    results/<run>/.work/...           attempts and checkpoints of unfinished trials

One runner at a time works on a run folder; a second one waits. Knows papermill only through `child`, not torch.
"""

import contextlib
import json
import signal
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from pathlib import Path

from s6lib import paths
from s6lib.batch import attempt, folders
from s6lib.batch.folders import run_lock, sweep, tidy
from s6lib.batch.plan import PlanError, Run, make_plan, read_notebook, read_studies, state_of
from s6lib.batch.pool import cores, default_jobs, make_executor
from s6lib.batch.progress import Display, describe, duration, heartbeat, total_left


@dataclass
class Request:
    """What the command line asked for."""

    studies_file: Path = Path("studies.toml")
    profile: str = "quick"
    study: str = ""
    trial: str = ""
    overrides: dict = field(default_factory=dict)
    results: Path = Path("results")
    run: str = ""  # folder below `results`; empty: the profile's name
    jobs: int | None = None
    scheduler: str = ""
    stale: str = "keep"
    retries: int = 1
    cell_timeout: int | None = None
    time_limit: float | None = 24 * 3600.0
    worker_wait: float = 60.0

    @property
    def folder(self) -> Path:
        return Path(self.results).absolute() / (self.run or self.profile)

    def plan(self, trial: str | None = None) -> list[Run]:
        trials = self.trial if trial is None else trial
        return make_plan(Path(self.studies_file).absolute(), self.profile, self.study, trials, self.overrides)


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived."""

    def __init__(self, number: int):
        self.number = number


# --- running -------------------------------------------------------------------------------------


def run(request: Request, index: int | None = None) -> int:
    """Runs what is not done yet, then the summary. With `index`, that one trial of the plan alone, for array jobs.

    Returns the exit code: 0, 1 if something failed, 128 + signal if interrupted. Raises PlanError before anything runs.
    """
    check(request)
    plan, display = request.plan(), Display()
    if index is not None and not 0 <= index < len(plan):
        raise PlanError(f"--index {index} is out of range; valid: 0 to {len(plan) - 1}")
    jobs = request.jobs or default_jobs()
    chosen = plan if index is None else [plan[index]]
    display.line(headline(request, chosen, jobs))
    batch = Batch(request, chosen, jobs, display)
    try:
        with signals(), run_lock(request.folder, index is not None, display.line) as batch.token:
            batch.run(alone=index is None)
    except Interrupted as stop:
        return batch.stop(stop.number)
    return batch.report()


def check(request: Request) -> None:
    if "://" in str(request.results):
        raise PlanError(f"{request.results}: results must be a folder, on this machine or shared between all workers")
    if request.jobs is not None and request.jobs < 1:
        raise PlanError(f"JOBS={request.jobs} is out of range; valid: 1 or more")
    if request.stale not in ("keep", "rerun"):
        raise PlanError(f"unknown STALE={request.stale!r}; valid: keep, rerun")
    if any(part in ("", ".", "..") or "/" in part for part in (request.run or request.profile,)):
        raise PlanError(f"run={request.run!r} is no folder name")


def headline(request: Request, plan: list[Run], jobs: int) -> str:
    sets = ", ".join(dict.fromkeys(str(run.settings.get("dataset", "?")) for run in plan))
    return f"profile {request.profile}: data set {sets}, {len(plan)} trials, JOBS={jobs}, results in {request.folder}"


class Batch:
    """One go at a plan: what was skipped, what ran and how it ended."""

    def __init__(self, request: Request, plan: list[Run], jobs: int, display: Display):
        self.request, self.plan, self.jobs, self.display = request, plan, jobs, display
        self.token = ""  # of the run folder's lock
        self.rows: dict[str, tuple[str, float | None, str]] = {}  # name -> (state, seconds, note)
        self.times: list[float] = []

    def run(self, alone: bool) -> None:
        """Works; `alone` in the run folder it also sweeps, before and after, and makes the summary."""
        try:
            if alone:
                sweep(self.request.folder)
            self.work()
            if alone:
                self.teach()
                self.summarise()
        finally:
            if alone:
                sweep(self.request.folder)
            tidy(self.request.folder, self.plan)

    def work(self) -> None:
        """Executes every run that is not done."""
        todo = [run for run in self.plan if self._decide(run)]
        if not todo:
            return
        request = self.request
        with make_executor(request.scheduler, self.jobs, request.worker_wait, request.folder, self.token) as executor:
            futures = {executor.submit(self._spec(run)): run for run in todo}
            self.jobs = executor.width()
            self._watch(futures, executor)

    def _decide(self, run: Run) -> bool:
        state = state_of(run, self.request.folder)
        if state.kind == "done" or (state.kind == "stale" and self.request.stale == "keep"):
            note = f"{state.reason}; STALE=rerun runs it again" if state.reason else "already there"
            self.rows[run.name] = ("skipped" if state.kind == "done" else "stale", state.info.get("seconds"), note)
            if state.info.get("diverged"):
                self.rows[run.name] = ("diverged", state.info.get("seconds"), diverged_note(state.info["diverged"]))
            return False
        if state.reason:
            self.display.line(f"{run.name}: {state.reason}; runs again, the old one goes to .replaced")
        return True

    def _spec(self, run: Run) -> dict:
        identity = {"study": run.study, "trial": run.trial, "settings": run.settings, "code": run.code}
        return {**self._common(run.notebook), "name": run.name, "parameters": run.parameters, "identity": identity}

    def _common(self, notebook: Path) -> dict:
        request = self.request
        return {
            "notebook": str(notebook),
            "results": str(request.folder),
            "root": str(Path(request.studies_file).absolute().parent),
            "data_dir": str(paths.data_dir()),
            "token": self.token,
            # By JOBS, however many trials are left: the number of threads may change the last bits of a history.
            "threads": max(1, cores() // self.jobs),
            "retries": request.retries,
            "cell_timeout": request.cell_timeout,
            "time_limit": request.time_limit,
            "record": True,
        }

    def _watch(self, futures: dict[Future, Run], executor) -> None:
        pending = set(futures)
        while pending:
            done, pending = wait_for(pending, 0.5 if self.display.live else 1, FIRST_COMPLETED)
            for future in done:
                self._finish(futures[future], outcome_of(future), len(pending))
            self._show([futures[future].name for future in pending])
            if pending and (trouble := executor.trouble()):
                raise PlanError(trouble)

    def _show(self, names: list[str]) -> None:
        beats = {name: heartbeat(self.request.folder, name) for name in names}
        running = {name: beat for name, beat in beats.items() if beat}
        lines = [describe(name, beat) for name, beat in running.items()]
        if names:
            waiting = len(names) - len(running)
            lines.append(f"{len(running)} running, {waiting} waiting, {self._eta(running, len(names))}".rstrip(", "))
        self.display.block(lines)

    def _eta(self, running: dict[str, dict], unfinished: int) -> str:
        typical = sum(self.times) / len(self.times) if self.times else None
        seconds = total_left(list(running.values()), unfinished - len(running), typical, self.jobs)
        return "" if seconds is None else f"about {duration(seconds)} left"

    def _finish(self, run: Run, outcome: dict, unfinished: int) -> None:
        seconds = outcome.get("seconds")
        place = f"[{len(self.plan) - unfinished:>{len(str(len(self.plan)))}}/{len(self.plan)}] {run.name}"
        if outcome["kind"] != "done":
            self.rows[run.name] = ("failed", seconds, outcome["reason"])
            self.display.line(f"{place}  FAILED after {duration(seconds)}: {outcome['reason']}")
            self._show_failure(outcome)
            return
        self.times.append(seconds or 0.0)
        bad = outcome.get("diverged")
        note = diverged_note(bad) if bad else outcome["reason"]
        self.rows[run.name] = ("diverged" if bad else "ran", seconds, note)
        eta = f", {self._eta({}, unfinished)}" if unfinished else ""
        self.display.line(f"{place}  ran in {duration(seconds)}{', ' + note if note else ''}{eta}")

    def _show_failure(self, outcome: dict) -> None:
        for line in outcome.get("log", []):
            self.display.line(f"    | {line}")
        if "notebook" in outcome:
            self.display.line(f"    notebook: {outcome['notebook']}")

    # --- the end ---

    def teach(self) -> None:
        """Executes the lessons: notebooks without a trial, which the whole plan alone includes."""
        if self.request.study or self.request.trial:
            return
        table = read_studies(Path(self.request.studies_file).absolute())
        settings = {**table["profiles"][self.request.profile], **self.request.overrides}
        for name, notebook in table.get("lessons", {}).items():
            self._aside(name, notebook, "dataset", {"dataset": settings["dataset"]})

    def summarise(self) -> None:
        """Executes notebooks/summary.ipynb over all trials of the studies at hand; a failed trial is no hindrance."""
        plan = json.dumps([run.name for run in self.request.plan(trial="")])
        self._aside("summary", "summary.ipynb", "results_dir", {"results_dir": str(self.request.folder), "plan": plan})

    def _aside(self, name: str, file: str, needed: str, parameters: dict) -> None:
        """Executes a notebook that leaves no record into the run folder."""
        notebook = Path(self.request.studies_file).absolute().parent / "notebooks" / file
        if not notebook.exists():
            return
        read_notebook(notebook, needed)
        target = self.request.folder / notebook.name
        spec = {**self._common(notebook), "name": name, "parameters": parameters, "identity": {}}
        spec |= {"record": False, "publish_to": str(target)}
        with ThreadPoolExecutor(1) as pool:
            outcome = outcome_of(pool.submit(attempt.execute, spec))
        folders.remove_empty(self.request.folder / ".work" / name, self.request.folder)
        if outcome["kind"] == "done":
            self.display.line(f"{name}: {target}")
            return
        self.rows[name] = ("failed", outcome.get("seconds"), outcome["reason"])
        self.display.line(f"{name} FAILED: {outcome['reason']}")
        self._show_failure(outcome)

    def stop(self, number: int) -> int:
        unfinished = [run.name for run in self.plan if run.name not in self.rows]
        name = signal.Signals(number).name
        self.display.line(f"interrupted by {name}; {len(unfinished)} trials unfinished, nothing finished is lost.")
        self.display.line("The same command goes on from the last epochs.")
        return 128 + number

    def report(self) -> int:
        """Prints the table; the exit code."""
        width = max(len(name) for name in [*self.rows, "trial"])
        self.display.line(f"\n{'trial':<{width}}  {'state':<8}  {'seconds':>7}  note")
        for name, (state, seconds, note) in self.rows.items():
            spent = "" if seconds is None else f"{seconds:.0f}"
            self.display.line(f"{name:<{width}}  {state:<8}  {spent:>7}  {first_line(note)}".rstrip())
        states = [state for state, _, _ in self.rows.values()]
        counts = ", ".join(f"{states.count(k)} {k}" for k in ("ran", "skipped", "stale", "diverged", "failed"))
        self.display.line(f"{len(states)} in all: {counts}")
        return 1 if "failed" in states else 0


def first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""


def diverged_note(bad: list[dict]) -> str:
    parts = [f"seed {entry['seed']} at epoch {entry['epoch']}, step {entry['step']}" for entry in bad]
    return "diverged: " + ", ".join(parts)


def outcome_of(future: Future) -> dict:
    try:
        return future.result()
    except Exception as error:  # Dask: a worker that died again and again, or could not import the package
        return {"kind": "infrastructure", "reason": f"{type(error).__name__}: {attempt.plain_text(str(error))}"}


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """Turns the first SIGINT, SIGTERM or SIGHUP into Interrupted; later ones are ignored while children end."""
    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

    def handler(number, _frame):
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        attempt.STOP.set()
        raise Interrupted(number)

    old = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)


def summary(request: Request) -> int:
    """Executes the summary notebook on what is there, even while a batch is at work."""
    check(request)
    batch = Batch(request, request.plan(), 1, Display())
    if not request.folder.is_dir():
        raise PlanError(f"{request.folder}: nothing has run yet")
    try:
        with signals():
            batch.summarise()
    except Interrupted as stop:
        return 128 + stop.number
    finally:
        folders.remove_empty(request.folder / ".work" / "summary", request.folder)
    return 1 if batch.rows else 0
