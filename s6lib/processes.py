"""Processes: the cores and the memory that this one may use, and children that end with their parent.

`python -m s6lib.processes <parent's id> <module>` runs a module that ends with its parent from its first moment, long
before it has imported what it needs.
"""

import contextlib
import ctypes
import math
import os
import runpy
import signal
import sys
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # limits of a container, where it has some


def cores() -> int:
    """The processors this process may use: those it is bound to, or fewer where a container grants less time."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return max(1, min(bound, math.ceil(int(quota) / int(period))))
    return bound


def memory() -> int:
    """Bytes of this machine or container, used or not: the same answer today and tomorrow. 8 GB where unknown."""
    found = [8 << 30]
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError, ValueError):
        found.append(int((CGROUP / "memory.max").read_text()))
    return min(found)


def die_with_parent(parent: int | None = None) -> None:
    """Asks Linux to kill this process when its parent dies; elsewhere another watch has to do."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if parent is not None and os.name == "posix" and os.getppid() != parent:  # it died before we asked
        os._exit(1)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    runpy.run_module(sys.argv[2], run_name="__main__")
