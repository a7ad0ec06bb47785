"""What the command line asks for, and whether it can be met: refused before anything runs or is written."""

import socket
from dataclasses import dataclass, field
from pathlib import Path

from s6lib import paths
from s6lib.batch.plan import PlanError, Run, make_plan
from s6lib.batch.pool import default_jobs, gpus
from s6lib.batch.state import state_of
from s6lib.processes import cores
from s6lib.records import counted

MIRROR = ("ossci-datasets.s3.amazonaws.com", 443)
LEAST = {"jobs": 1, "workers": 1, "cell_timeout": 1, "retries": 0, "time_limit": 0, "worker_wait": 0}


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
    workers: int | None = None
    scheduler: str = ""
    stale: str = "keep"
    retries: int = 1
    cell_timeout: int | None = None
    time_limit: float | None = 24 * 3600.0
    worker_wait: float = 60.0

    @property
    def folder(self) -> Path:
        return self.results.absolute() / (self.run or self.profile)

    @property
    def root(self) -> Path:
        return self.studies_file.absolute().parent

    def plan(self, trial: str | None = None) -> list[Run]:
        trials = self.trial if trial is None else trial
        return make_plan(self.studies_file.absolute(), self.profile, self.study, trials, self.overrides)


def check(request: Request) -> None:
    for name, least in LEAST.items():
        if (value := getattr(request, name)) is not None and not value >= least:  # nor nan
            option = name.upper().replace("_", "-")
            raise PlanError(f"{option}={value} is out of range; valid: {least} or more")
    if request.stale not in ("keep", "rerun"):
        raise PlanError(f"unknown STALE={request.stale!r}; valid: keep, rerun")
    if (name := request.run or request.profile) in ("", ".", "..") or "/" in name:
        raise PlanError(f"run={request.run!r} is not a valid folder name")
    check_folder(request)


def results_folder(text: str) -> Path:
    """The folder that `text` names, ~ filled in. Raises PlanError."""
    if "://" in text:
        raise PlanError(f"{text}: results must be a folder, on this machine or shared between all workers")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise PlanError(f"RESULTS={text}: no such user's home; give the folder's full path") from None


def check_folder(request: Request) -> None:
    """Results never go where sources lie, nor where their names cannot be written down."""
    try:
        str(request.folder).encode()
    except UnicodeEncodeError:
        raise PlanError(f"RESULTS={str(request.results)!a}: not a valid folder name, it cannot be decoded") from None
    folder, root = request.folder.resolve(), request.root.resolve()
    sources = [root / name for name in ("notebooks", "s6lib", "tests")]
    if folder in (root, *root.parents) or folder.parent == root or any(folder.is_relative_to(one) for one in sources):
        raise PlanError(
            f"RESULTS: {folder} is among the sources of {root}; valid: a folder of its own, such as results"
        )


def check_reach(request: Request, plan: list[Run]) -> None:
    """What every trial would otherwise find out by itself, after its kernel has started: scheduler and data files."""
    if request.scheduler.startswith(("tcp://", "tls://")):
        host, _, port = request.scheduler.split("://", 1)[1].rpartition(":")
        if not port.isdigit() or not answers(host.strip("[]"), int(port)):
            raise PlanError(f"SCHEDULER={request.scheduler}: nothing answers there; see cluster/README.md")
    todo = [one for one in plan if state_of(one, request.folder).kind not in ("done", "stale")]
    for name in dict.fromkeys(str(one.settings.get("dataset", "digits")) for one in todo):
        folder = paths.raw_folder(name)
        if folder and not any(folder.glob("*-ubyte")) and not answers(*MIRROR):
            raise PlanError(
                f"DATASET={name}: no files in {folder}, and no network to fetch them. Put them there, or set "
                f"S6_DATA_DIR to the folder that holds {paths.DATASETS[name]}/raw; DATASET=digits needs no files"
            )


def answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 1.0).close()
    except (OSError, ValueError, OverflowError):
        return False
    return True


def trials_at_a_time(request: Request, plan: list[Run]) -> int:
    """JOBS, as far as there are trials; by default so many that a core is busy with one seed at least, or with WORKERS.

    By the plan, however many of its trials are left: the number of workers may change the last bits of a history, and
    the same command, run again, must go on as it began.
    """
    if request.jobs:
        return max(1, min(request.jobs, len(plan)))
    seeds = [number for run in plan if type(number := run.settings.get("seeds")) is int]
    jobs = default_jobs() if gpus() else max(default_jobs(), cores() // max(seeds, default=1))
    return max(1, min(jobs, cores() // (request.workers or 1), len(plan)))


def workers_each(request: Request, jobs: int) -> int:
    """The processes that share a trial's seeds, where `jobs` trials share the cores."""
    return request.workers or max(1, cores() // jobs)


def headline(request: Request, plan: list[Run]) -> str:
    sets = ", ".join(dict.fromkeys(str(run.settings.get("dataset", "?")) for run in plan))
    jobs, shared = trials_at_a_time(request, plan), ""
    if not request.scheduler and not gpus():
        shared = f" of up to {counted(workers_each(request, jobs), 'worker')} on {counted(cores(), 'core')}"
    head = f"profile {request.profile}: data set {sets}, {counted(len(plan), 'trial')}, JOBS={jobs}{shared}"
    return f"{head}, results in {request.folder}"
