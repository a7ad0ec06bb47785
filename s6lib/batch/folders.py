"""The run folder while someone works in it: locks that end with their holders, attempts, and sweeping up after them."""

import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from s6lib.batch.plan import PlanError, Run, state_of

try:
    import fcntl
except ImportError:  # Windows: no locks, so one runner at a time is the user's to keep
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def run_lock(folder: Path, shared: bool, say: Callable[[str], None]) -> Iterator[str]:
    """The lock on a run folder, as a token that workers must find there. It ends with its holder, however that ends."""
    token, path = secrets.token_hex(8), folder / ".lock"
    with unwritable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = acquire(path, shared, say)
        if not shared:
            handle.truncate(0)
        handle.write(f"{token} process {os.getpid()} on {os.uname().nodename}\n" if hasattr(os, "uname") else token)
        handle.flush()
    try:
        yield token
    finally:
        release(handle, path)


def acquire(path: Path, shared: bool, say: Callable[[str], None]) -> IO:
    kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) if fcntl else 0
    while True:
        handle = path.open("a+", encoding="utf-8")
        try:
            if fcntl:
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = " ".join(handle.read().split()[1:]) or "another runner"
            say(f"{path.parent} is in use by {holder}; waiting until it is done")
            fcntl.flock(handle, kind)
        if path.exists() and os.fstat(handle.fileno()).st_ino == path.stat().st_ino:
            return handle
        handle.close()  # its last holder has removed the file


def release(handle: IO, path: Path) -> None:
    with contextlib.suppress(OSError):
        if fcntl:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of shared holders, the last removes it
        path.unlink()
        path.parent.rmdir()  # succeeds only where nothing was made
    handle.close()


@contextlib.contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PlanError(f"{error.filename or folder}: cannot be written ({error.strerror})") from error


def sweep(folder: Path) -> None:
    """Removes what killed attempts left behind; those that someone still works on are left alone."""
    for path in [*folder.glob(".work/*/attempt-*"), *folder.glob(".work/*/*/attempt-*")]:
        if not alive(path):
            clear(path)
            for torn in path.with_name("checkpoints").glob(".*"):
                torn.unlink(missing_ok=True)
    for path in folder.glob(".work/stop-*"):
        path.unlink(missing_ok=True)


def tidy(folder: Path, plan: list[Run]) -> None:
    """Removes the work folders of trials that are published, and those that are empty."""
    for run in plan:
        work = folder / ".work" / run.name
        checkpoints = work / "checkpoints"
        if checkpoints.exists() and not list(work.glob("attempt-*")) and state_of(run, folder).kind == "done":
            shutil.rmtree(checkpoints, ignore_errors=True)
        remove_empty(work, folder)
    remove_empty(folder / ".work" / "summary", folder)


# --- attempts --------------------------------------------------------------------------------------


def work_folder(spec: dict) -> Path:
    return Path(spec["results"], ".work", spec["name"])


def socket_folder(attempt_folder: Path) -> Path:
    """A short path, known from the attempt's own: sockets allow about 100 characters, and the sweep must find it."""
    base = tempfile.gettempdir() if len(tempfile.gettempdir()) < 40 else "/tmp"
    return Path(base, "s6-" + hashlib.sha256(str(attempt_folder).encode()).hexdigest()[:12])


def clear(folder: Path) -> None:
    """Removes an attempt; a dying child may still write a file while we do."""
    end_processes(socket_folder(folder))
    for path in (socket_folder(folder), folder):
        for _ in range(5):
            shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                break
            time.sleep(0.1)


def end_processes(sockets: Path) -> None:
    """Ends a kernel that was just being born when its parent died, too early to have asked to die with it."""
    mark = b"TMPDIR=" + os.fsencode(sockets) + b"\0"
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in file.read_bytes():
                os.kill(int(file.parent.name), signal.SIGKILL)


def remove_empty(folder: Path, top: Path) -> None:
    """Removes `folder` and its parents below `top` as far as they are empty."""
    with contextlib.suppress(OSError):
        while folder != top:
            folder.rmdir()
            folder = folder.parent


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        if fcntl:
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def alive(folder: Path) -> bool:
    """Whether someone works on an attempt; a new one has a moment to take its lock."""
    with contextlib.suppress(OSError):
        if not (folder / "lock").exists():
            return time.time() - folder.stat().st_mtime < 2
    return in_use(folder / "lock")


def in_use(path: Path) -> bool:
    """Whether some process holds the lock file `path`."""
    if not fcntl:
        return False
    try:
        with path.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
