"""A batch: plan -> execute notebooks side by side -> commit; what is there and whole is skipped, nothing is replaced.

    results/<run>/<study>/<trial>/seeds-*     parts: what was trained (s6lib.records)
    results/<run>/<study>/<trial>/run.*       an executed notebook, and run.json: its settings and the parts it used
    results/<run>/<study>/<trial>/notebook.ipynb    a link to the one that ran last
    results/<run>/summary.ipynb, report.html  made after every batch that ran something
    results/<run>/asked.json, batch.log       what the last batch asked for, and what batches have said
    results/<run>/.failed/...                 the last failed attempt of a trial, until it succeeds
    results/<run>/.work/...                   attempts and checkpoints of unfinished trials

One runner at a time works on a run folder; a second one waits. Knows papermill only through `child`, not torch.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import replace
from pathlib import Path

import pandas as pd

from s6lib import paths
from s6lib.batch import OVERRIDES, attempt, folders
from s6lib.batch.chunks import chunks, part_of
from s6lib.batch.folders import remove_finished_checkpoints, remove_stale_attempts, run_lock
from s6lib.batch.plan import PlanError, Run, read_notebook, read_studies
from s6lib.batch.pool import make_executor
from s6lib.batch.progress import Display, describe, duration, heartbeat, remaining, total_left
from s6lib.batch.request import Request, check, check_reach, headline, trials_at_a_time, workers_each
from s6lib.batch.state import State, state_of
from s6lib.processes import cores
from s6lib.records import counted, plain_text
from s6lib.records.reading import ASKED, write_asked
from s6lib.report.page import PAGE

OUTCOMES = ("done", "infrastructure", "disk", "timeout", "code", "other", "stopped", "software", "lost")
SUMMARY = "summary.ipynb"
PAGE_LIMIT = 600.0  # seconds that making the page may take


class Lost(Exception):
    """The scheduler, or the last worker, is gone."""


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
    plan, display = request.plan(), Display(log=request.folder / "batch.log")
    if index is not None and not 0 <= index < len(plan):
        raise PlanError(f"--index {index} is out of range; valid: 0 to {len(plan) - 1}")
    chosen = plan if index is None else [plan[index]]
    check_reach(request, chosen)
    check_auxiliary(request)
    display.line(headline(request, chosen))
    batch = Batch(request, chosen, trials_at_a_time(request, chosen), display)
    try:
        with signals(), run_lock(request.folder, index is not None, display.line) as batch.token:
            batch.run(alone=index is None)
    except Interrupted as stop:
        return batch.stop(signal.Signals(stop.number).name, 128 + stop.number)
    except Lost as lost:
        return batch.stop(str(lost), 1)
    return batch.report()


def check_auxiliary(request: Request) -> None:
    """Raises PlanError where a notebook that follows the trials is missing or takes no parameters."""
    folder = request.root / "notebooks"
    for file in read_studies(request.studies_file.absolute()).get("tutorials", {}).values():
        read_notebook(folder / str(file))
    if (folder / SUMMARY).exists():
        read_notebook(folder / SUMMARY, "results_dir")


class Batch:
    """One execution of a plan: what was skipped, what ran and how it ended."""

    def __init__(self, request: Request, plan: list[Run], jobs: int, display: Display):
        self.request, self.plan, self.jobs, self.display = request, plan, jobs, display
        self.token = ""  # of the run folder's lock
        self.rows: dict[str, tuple[str, float, str, str]] = {}  # name -> (state, seconds, accuracy, note)
        self.times: list[float] = []
        self.parts: dict[str, tuple[int, int]] = {}  # name -> parts that are still to come, of how many
        self.ran = False  # whether anything was executed

    def run(self, alone: bool) -> None:
        """Works; `alone` in the run folder it also clears up, before and after, and makes the summary."""
        try:
            if alone:
                remove_stale_attempts(self.request.folder)
            self.work()
            if alone:
                self.run_tutorials()
                self.summarise()
        finally:
            if alone:
                remove_stale_attempts(self.request.folder)
            remove_finished_checkpoints(self.request.folder, self.plan)

    def work(self) -> None:
        """Executes every run that is not done."""
        todo = [run for run in self.plan if self._decide(run)]
        if not todo:
            return
        request, self.ran = self.request, True
        with make_executor(request.scheduler, self.jobs, request.worker_wait, request.folder, self.token) as executor:
            self.jobs = executor.width()
            self._watch(self._submit(todo, executor), executor)

    def _submit(self, todo: list[Run], executor) -> dict[Future, Run]:
        """Hands everything over; on many machines a trial's parts come first, and its notebook when they are there."""
        groups = chunks(todo, self.jobs) if self.request.scheduler else {}
        futures: dict[Future, Run] = {}
        for run in todo:
            specs = [{**self._spec(run), "part": part_of(run, seeds)} for seeds in groups.get(run.name, [])]
            self.parts[run.name] = len(specs), len(specs)
            futures |= {executor.submit(spec): run for spec in specs or [self._spec(run)]}
        return futures

    def _decide(self, run: Run) -> bool:
        state = state_of(run, self.request.folder)
        if state.kind == "done" or (state.kind == "stale" and self.request.stale == "keep"):
            note = f"{state.reason}; STALE=rerun runs it again" if state.reason else "already there"
            self._note("skipped" if state.kind == "done" else "stale", run, state, state.info["seconds"], note)
            return False
        if state.reason:
            self.display.line(f"{run.name}: {state.reason}; runs again, and what is there is kept")
        return True

    def _note(self, kind: str, run: Run, state: State, seconds: float, note: str) -> None:
        if state.diverged:
            kind, note = "diverged", state.diverged
        self.rows[run.name] = (kind, seconds, accuracy(state, self.request.folder), note)

    def _spec(self, run: Run) -> dict:
        identity = {"study": run.study, "trial": run.trial, "settings": run.settings, "code": run.code}
        return {**self._common(run.notebook), "name": run.name, "parameters": run.parameters, "identity": identity}

    def _common(self, notebook: Path) -> dict:
        request = self.request
        return {
            "notebook": str(notebook),
            "results": str(request.folder),
            "root": str(request.root),
            "data_dir": str(paths.data_dir()),
            "token": self.token,
            "software": attempt.code_identity(),
            "threads": max(1, cores() // self.jobs),
            # On another machine, where a worker of Dask has its own cores, as many as it has threads.
            "workers": request.workers or (0 if request.scheduler else workers_each(request, self.jobs)),
            "retries": request.retries,
            "cell_timeout": request.cell_timeout,
            "time_limit": request.time_limit,
            "target": "",  # where an auxiliary notebook goes, which leaves no record
            "part": None,
        }

    def _watch(self, futures: dict[Future, Run], executor) -> None:
        pending = set(futures)
        while pending:
            done, pending = wait_for(pending, 0.5 if self.display.live else 1, FIRST_COMPLETED)
            for future in done:
                run, names = futures[future], {futures[other].name for other in pending}
                if self._notebook_follows(run, outcome_of(future), len(names)):
                    follower = executor.submit(self._spec(run))
                    futures[follower] = run
                    pending.add(follower)
            self._show(list(dict.fromkeys(futures[future].name for future in pending)))
            if pending and (trouble := executor.trouble()):
                raise Lost(trouble)

    def _notebook_follows(self, run: Run, outcome: dict, unfinished: int) -> bool:
        """Whether what has ended was the last of a trial's parts, and all went well. Takes note of any other end."""
        left, parts = self.parts[run.name]
        self.parts[run.name] = left - 1, parts
        if run.name in self.rows:  # a part of it failed: this one is there, or failed likewise
            return False
        if left > 0 and outcome["kind"] == "done":
            return left == 1
        self._finish(run, outcome, unfinished)
        return False

    def _show(self, names: list[str]) -> None:
        beats = {name: heartbeat(self.request.folder, name) for name in names}
        running = {name: beat for name, beat in beats.items() if beat}
        lines = [describe(self._label(name), beat) for name, beat in running.items()]
        if names:
            waiting = len(names) - len(running)
            lines.append(f"{len(running)} running, {waiting} waiting, {self._eta(running, len(names))}".rstrip(", "))
        self.display.block(lines)

    def _label(self, name: str) -> str:
        left, parts = self.parts[name]
        return f"{name}, {parts - left} of {parts} parts" if left > 0 else name

    def _eta(self, running: dict[str, dict], unfinished: int) -> str:
        typical = sum(self.times) / len(self.times) if self.times else None
        seconds = total_left(list(running.values()), unfinished - len(running), typical, self.jobs)
        return remaining(seconds, running.values())

    def _finish(self, run: Run, outcome: dict, unfinished: int) -> None:
        """Believes an executor only what the disk says: a run counts when its parts are there and whole."""
        seconds, state = outcome["seconds"], state_of(run, self.request.folder)
        place = f"[{len(self.plan) - unfinished:>{len(str(len(self.plan)))}}/{len(self.plan)}] {run.name}"
        if outcome["kind"] == "lost":
            raise Lost(outcome["reason"])
        if outcome["kind"] == "done" and state.kind not in ("done", "stale"):
            reason = f"said to be done, but is {state.kind} on disk {state.reason}".strip()
            outcome = {"kind": "other", "reason": reason, "seconds": seconds}
        if outcome["kind"] != "done":
            self._fail(run.name, outcome, f"{place}  FAILED after {duration(seconds)}")
            return
        self.times.append(seconds)
        self._note("ran", run, state, seconds, "")
        note = self.rows[run.name][3]
        eta = f", {self._eta({}, unfinished)}" if unfinished else ""
        self.display.line(f"{place}  ran in {duration(seconds)}{', ' + note if note else ''}{eta}")

    def _fail(self, name: str, outcome: dict, said: str) -> None:
        self.rows[name] = ("failed", outcome["seconds"], "", outcome["reason"])
        self.display.line(f"{said}: {outcome['reason']}")
        for line in outcome.get("log", []):
            self.display.line(f"    | {line}")
        if "notebook" in outcome:
            self.display.line(f"    notebook: {outcome['notebook']}")

    # --- the end ---

    def run_tutorials(self) -> None:
        """Executes the tutorials: notebooks without a trial, which the whole plan alone includes."""
        if self.request.study or self.request.trial:
            return
        table = read_studies(self.request.studies_file.absolute())
        settings = {**table["profiles"][self.request.profile], **self.request.overrides}
        parameters = {"dataset": settings["dataset"]} if "dataset" in settings else {}
        for name, notebook in table.get("tutorials", {}).items():
            self._run_auxiliary_notebook(name, notebook, parameters)

    def summarise(self) -> None:
        """Executes notebooks/summary.ipynb over all trials of the studies at hand; a failed trial is no hindrance."""
        states = self._states()
        parts = [part for state in states.values() for part in state.info.get("parts", [])]
        try:
            write_asked(self.request.folder, parts)
        except OSError as error:
            self._fail("summary", {"reason": f"{error.filename}: {error.strerror}", "seconds": 0.0}, "summary FAILED")
            return
        undone = [name for name, state in states.items() if state.kind not in ("done", "stale")]
        plan = json.dumps(undone)  # those that are done are not missing, whatever their records are called
        parameters = {"results_dir": str(self.request.folder), "plan": plan}
        newest = max((folder.stat().st_mtime for state in states.values() if (folder := state.folder)), default=0.0)
        newest = max(newest, (self.request.folder / ASKED).stat().st_mtime)
        self._run_auxiliary_notebook("summary", SUMMARY, parameters, newest)
        self.make_page(newest)

    def _states(self) -> dict[str, State]:
        """How far all trials of the studies at hand are: those of this call as it asks for them, the others with those
        of its overrides that every notebook takes."""
        own = {run.name: run for run in self.plan}
        shared = {name: value for name, value in self.request.overrides.items() if name in OVERRIDES}
        every = replace(self.request, overrides=shared).plan(trial="")
        return {run.name: state_of(own.get(run.name, run), self.request.folder) for run in every}

    def _is_up_to_date(self, target: Path, newest: float = 0.0) -> bool:
        """Whether nothing has run since `target` was made, now or at the time `newest`."""
        return not self.ran and target.exists() and target.stat().st_mtime >= newest

    def make_page(self, newest: float = 0.0) -> None:
        """Makes report.html in a process of its own, which has torch; a page that cannot be made fails no batch."""
        if os.environ.get("S6_PAGE") == "no" or self._is_up_to_date(self.request.folder / PAGE, newest):
            return
        command = [sys.executable, "-m", "s6lib", "report", "--results", str(self.request.folder.parent)]
        command += ["--run", self.request.folder.name, "--studies", str(self.request.studies_file.absolute())]
        try:
            made = subprocess.run(command, capture_output=True, text=True, timeout=PAGE_LIMIT, check=False)
            said = (made.stderr if made.returncode else made.stdout).strip().splitlines()
            last = plain_text(said[-1] if said else f"exit code {made.returncode}")
            self.display.line(f"report: not made: {last}" if made.returncode else last)
        except (OSError, subprocess.TimeoutExpired) as error:
            self.display.line(f"report: not made: {plain_text(str(error))}")

    def _run_auxiliary_notebook(self, name: str, file: str, parameters: dict, newest: float = 0.0) -> None:
        """Executes a notebook that leaves no record into the run folder, unless nothing has run since it was made."""
        notebook = self.request.root / "notebooks" / file
        target = self.request.folder / notebook.name
        if not notebook.exists() or self._is_up_to_date(target, newest):
            return
        named = {"name": name, "parameters": parameters, "identity": {}, "target": str(target)}
        with ThreadPoolExecutor(1) as pool:
            outcome = outcome_of(pool.submit(attempt.execute, self._common(notebook) | named))
        folders.remove_empty(self.request.folder / ".work" / name, self.request.folder)
        if outcome["kind"] == "done":
            self.display.line(f"{name}: {target}")
            return
        self._fail(name, outcome, f"{name} FAILED")

    def stop(self, why: str, code: int) -> int:
        unfinished = [run.name for run in self.plan if run.name not in self.rows]
        left = counted(len(unfinished), "trial")
        self.display.line(f"interrupted by {why}; {left} unfinished, nothing that was finished is lost.")
        if code == 1:
            self.display.line("unfinished: " + ", ".join(unfinished))
        self.display.line("The same command continues from the last epochs.")
        return code

    def report(self) -> int:
        """Prints the table; the exit code."""
        width = max(len(name) for name in [*self.rows, "trial"])
        self.display.line(f"\n{'trial':<{width}}  {'state':<8}  {'seconds':>7}  {'test %':>6}  note")
        for name, (state, seconds, percent, note) in self.rows.items():
            line = f"{name:<{width}}  {state:<8}  {seconds:>7.0f}  {percent:>6}  {note}"
            self.display.line(line.partition("\n")[0].rstrip())
        states = [state for state, *_ in self.rows.values()]
        counts = ", ".join(f"{states.count(k)} {k}" for k in ("ran", "skipped", "stale", "diverged", "failed"))
        self.display.line(f"{len(states)} in all: {counts}")
        return 1 if "failed" in states else 0


def accuracy(state: State, results: Path) -> str:
    """Mean test accuracy after the last epoch, where a run has one trial; "" for sweeps."""
    if len({(head["trial"]["study"], head["trial"]["name"]) for head in state.heads}) != 1:
        return ""
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
        tables = [pd.read_csv(results / name / "history.csv") for name in state.info["parts"]]
        rows = pd.concat(tables).drop_duplicates(["seed", "epoch"])
        if type(asked := state.info["settings"].get("seeds")) is int:
            rows = rows[rows.seed < asked]
        return f"{rows[rows.epoch == rows.epoch.max()].test_accuracy.mean():.2f}"
    return ""


def outcome_of(future: Future) -> dict:
    """What an executor answered; an answer that is none of `attempt.execute`'s is an error."""
    try:
        answer = future.result()
    except CancelledError:
        return {"kind": "lost", "reason": "the scheduler's end", "seconds": 0.0}
    except Exception as error:  # Dask: a worker that died again and again, or could not import the package
        reason = f"{type(error).__name__}: {plain_text(str(error))}"
        return {"kind": "infrastructure", "reason": reason, "seconds": 0.0}
    fine = isinstance(answer, dict) and answer.get("kind") in OUTCOMES and isinstance(answer.get("reason"), str)
    if not fine or type(answer.get("seconds")) not in (int, float):
        return {"kind": "other", "reason": plain_text(f"malformed answer of a worker: {answer!r:.200}"), "seconds": 0.0}
    return {**answer, "reason": plain_text(answer["reason"])}


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """Turns the first SIGINT, SIGTERM or SIGHUP into Interrupted; later ones are ignored while children end."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        numbers.append(signal.SIGHUP)

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
    batch.ran = True
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
