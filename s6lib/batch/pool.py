"""Where runs are executed: threads on this machine that start child processes, or a Dask cluster."""

import os
import re
import shutil
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from s6lib.batch import attempt
from s6lib.processes import cores


def make_executor(scheduler: str, jobs: int, wait: float, folder: Path, token: str):
    """What `submit(spec) -> future` goes to: threads on this machine, or a Dask cluster."""
    if not scheduler:
        return LocalPool(jobs)
    from s6lib.batch.cluster import Cluster

    return Cluster(scheduler, wait, folder, token, gpus())


class LocalPool:
    """`submit(spec) -> future` on this machine: threads that start child processes, one GPU each if there are any."""

    def __init__(self, jobs: int):
        self.slots: SimpleQueue[str | None] = SimpleQueue()
        self.slots_made = jobs
        devices: list[str] | list[None] = gpus() or [None]
        for i in range(jobs):
            self.slots.put(devices[i % len(devices)])
        self.pool = ThreadPoolExecutor(jobs)

    def __enter__(self) -> "LocalPool":
        return self

    def __exit__(self, kind, *_) -> None:
        if kind:
            attempt.STOP.set()
        self.pool.shutdown(cancel_futures=True)

    def submit(self, spec: dict) -> Future:
        return self.pool.submit(self._execute, spec)

    def _execute(self, spec: dict) -> dict:
        gpu = self.slots.get()
        try:
            return attempt.execute(spec, gpu)
        finally:
            self.slots.put(gpu)

    def width(self) -> int:
        return self.slots_made

    def trouble(self) -> str | None:
        return None


def default_jobs() -> int:
    """One trial per GPU; without GPUs one per core, four at most."""
    return len(gpus()) or min(cores(), 4)


def gpus() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them; no torch needed."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [part for part in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if part not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return re.findall(r"^GPU (\d+):", answer.stdout, re.MULTILINE)  # MIG devices are listed below theirs
