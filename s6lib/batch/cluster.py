"""The batch on Dask distributed: `submit(spec) -> future` over the workers of a scheduler. Needs the extra `[cluster]`.

    tcp://host:port, tls://host:port    a scheduler that runs already
    local:N                             N worker processes on this machine, listening on 127.0.0.1 only
    slurm, slurm:file.toml              workers started through SLURM as cluster/slurm.toml says, TLS switched on

A worker executes `attempt.execute`, which starts a child process; the worker itself never trains. Whoever can connect
to a scheduler can run code on all its workers: cluster/README.md says how to close it off.
"""

import contextlib
import logging
import time
import tomllib
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from pathlib import Path

from s6lib.batch import attempt
from s6lib.batch.plan import PlanError


class Cluster:
    """Workers somewhere that share the results folder. A worker that dies has its trial run again elsewhere."""

    def __init__(self, scheduler: str, wait: float, folder: Path, token: str, gpus: list[str]):
        try:
            from distributed import Client
        except ImportError:
            raise PlanError("SCHEDULER needs Dask: pip install -e '.[cluster]'") from None
        self.wait, self.stop_file, self.futures = wait, folder / ".work" / f"stop-{token}", list[Future]()
        self.alone_since: float | None = None
        self.owned = start(scheduler, folder, gpus)
        self.address = self.owned.scheduler_address if self.owned else scheduler
        for name in ("distributed", "distributed.client"):  # what is lost, the runner says in a line
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            self.client = Client(self.owned or self.address, timeout=min(wait, 10), set_as_default=False)
            self.client.wait_for_workers(expected(scheduler), timeout=wait)
        except (OSError, TimeoutError, TypeError) as error:  # TypeError: tls:// without certificates
            self.close()
            reason = str(error).partition("\n")[0] or type(error).__name__
            said = f"no worker at {self.address} after {wait:g} s ({reason})"
            raise PlanError(f"{said}; see cluster/README.md") from error
        kinds = [worker["resources"] for worker in self.client.scheduler_info(-1)["workers"].values()]
        resources = {"GPU": 1} if any("GPU" in kind for kind in kinds) else None
        self.executor = self.client.get_executor(pure=False, resources=resources)

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, kind, *_) -> None:
        if kind:  # workers are not told of a cancelled task that runs already: they look for this file
            with contextlib.suppress(OSError):
                self.stop_file.parent.mkdir(parents=True, exist_ok=True)
                self.stop_file.touch()
            for future in self.futures:
                future.cancel()
            wait_for(self.futures, 1)
            time.sleep(attempt.GRACE if self.trouble() is None else 0)
        self.close()

    def close(self) -> None:
        for part in (getattr(self, "client", None), self.owned):
            if part:
                with contextlib.suppress(OSError, TimeoutError):
                    part.close()

    def submit(self, spec: dict) -> Future:
        future = self.executor.submit(attempt.execute, spec)
        self.futures.append(future)
        return future

    def width(self) -> int:
        """How many trials can run at a time."""
        with contextlib.suppress(OSError, TimeoutError):
            return max(1, sum(self.client.nthreads().values()))  # the last worker may be gone
        return 1

    def trouble(self) -> str | None:
        """What is wrong if all workers have been gone for too long, or the scheduler for good."""
        if self.client.status in ("closing", "closed"):
            return f"the end of the scheduler at {self.address}"
        with contextlib.suppress(OSError, TimeoutError):
            if self.client.status == "running" and self.client.scheduler_info(-1)["workers"]:
                self.alone_since = None
                return None
        self.alone_since = self.alone_since or time.monotonic()
        if time.monotonic() - self.alone_since < self.wait:
            return None
        return f"no worker left at {self.address} for {self.wait:g} s"


def expected(scheduler: str) -> int:
    """The workers to wait for: all of our own on this machine, elsewhere the first."""
    return int(scheduler.removeprefix("local:")) if scheduler.startswith("local:") else 1


def start(scheduler: str, folder: Path, gpus: list[str]):
    """The cluster that `scheduler` asks us to start; None if it is an address."""
    kind, _, rest = scheduler.partition(":")
    if kind in ("tcp", "tls"):
        return None
    if kind == "local" and rest.isdigit() and int(rest) > 0:
        return local(int(rest), gpus)
    if kind == "slurm":
        return slurm(Path(rest or "cluster/slurm.toml"), folder)
    raise PlanError(f"unknown SCHEDULER={scheduler!r}; valid: tcp://host:port, tls://host:port, local:N, slurm[:file]")


def local(count: int, gpus: list[str]):
    """`count` worker processes on the loopback interface, each with one GPU of its own where there are any."""
    from distributed import Nanny, Scheduler, SpecCluster

    def options(i: int) -> dict:
        common = {"nthreads": 1, "host": "127.0.0.1", "silence_logs": 40}
        if gpus:
            common |= {"env": {"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]}, "resources": {"GPU": 1}}
        return common

    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}}
    return SpecCluster({i: {"cls": Nanny, "options": options(i)} for i in range(count)}, scheduler, silence_logs=40)


def slurm(file: Path, folder: Path):
    """Workers as batch jobs: `jobs` of them, everything else in the file goes to dask_jobqueue.SLURMCluster."""
    from dask_jobqueue import SLURMCluster

    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        jobs = table.pop("jobs")
        table["interface"]
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        reason = "must name jobs and interface" if isinstance(error, KeyError) else error
        raise PlanError(f"{file}: {reason}; cluster/slurm.toml is an example") from error
    folder.joinpath(".work").mkdir(parents=True, exist_ok=True)
    safe = {"security": True, "shared_temp_directory": str(folder / ".work")}
    try:
        cluster = SLURMCluster(**{**safe, **table})
    except (ImportError, TypeError, ValueError) as error:  # no `cryptography`, unknown or missing keys
        raise PlanError(f"{file}: {error}") from error
    cluster.scale(jobs=jobs)
    return cluster
