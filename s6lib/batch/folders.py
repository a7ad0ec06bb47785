"""The run folder while someone works in it: locks, attempts, and removing what was left by those that were killed."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from s6lib.batch.plan import PlanError, Run
from s6lib.batch.state import state_of
from s6lib.records.parts import remove_dead_partials

try:
    import fcntl
except ImportError:  # Windows: leases only
    fcntl = None  # type: ignore[assignment]

BEAT, STALE = 5, 30  # seconds between signs of life of a lock's holder, and after which it counts as dead


# --- locks -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def run_lock(folder: Path, shared: bool, say: Callable[[str], None], wait: bool = True) -> Iterator[str]:
    """The lock on a run folder, as a token that workers must find there. It ends with its holder, however that ends."""
    token, path = secrets.token_hex(8), folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = acquire(path, shared, say, wait)
        write_lease(handle, shared, token)
    except OSError as error:
        raise PlanError(f"{error.filename or folder}: cannot be written ({error.strerror})") from error
    try:
        with beating(path):
            yield token
    finally:
        release(handle, path)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """An attempt's lock: nobody competes for it, others only ask whether it is held."""
    with path.open("a+", encoding="utf-8") as handle, beating(path):
        while not take(handle, shared=False):  # who asks holds it for a moment
            time.sleep(0.05)
        write_lease(handle, shared=False)
        yield


def acquire(path: Path, shared: bool, say: Callable[[str], None], wait: bool = True) -> IO:
    busy = 0
    while True:
        handle = path.open("a+", encoding="utf-8")
        free = take(handle, shared, (lambda _: None) if busy else say)
        if free and path.exists() and os.fstat(handle.fileno()).st_ino == path.stat().st_ino:
            return handle
        holder = describe_holder(handle)
        handle.close()
        if free:
            continue
        busy += 1
        if busy == 2:  # who only asks, such as `make status`, holds it for a moment
            if not wait:
                raise PlanError(f"{path.parent} is in use by {holder}")
            say(f"{path.parent} is in use by {holder}; waiting until it is done")
        time.sleep(0.3)


def take(handle: IO, shared: bool, say: Callable[[str], None] = lambda _: None) -> bool:
    """Locks a file that is open for writing, as NFS wants it; where it has no locks, a fresh lease counts as one."""
    if fcntl:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.ENOLCK:
                say(
                    f"{handle.name}: no locks on this file system ({error.strerror}); going on with a lease. "
                    "On NFS start the lock service, or mount with local_lock=flock if one machine works there"
                )
    time.sleep(0.05)  # whoever writes at the same moment shall have written
    holder = lease(handle)
    return not holder_lives(holder, handle) or (shared and bool(holder.get("shared")))


def write_lease(handle: IO, shared: bool, token: str = "") -> None:
    """Notes who holds a lock. Array tasks share one, so theirs are added."""
    if not shared:
        handle.truncate(0)
    about = {"token": token, "host": socket.gethostname(), "pid": os.getpid(), "boot": boot_id(), "shared": shared}
    handle.write(json.dumps(about) + "\n")
    handle.flush()


def lease(handle: IO) -> dict:
    """What the last holder wrote."""
    handle.seek(0)
    with contextlib.suppress(ValueError, IndexError):
        about = json.loads(handle.read().splitlines()[-1])
        return about if isinstance(about, dict) else {}
    return {}


def describe_holder(handle: IO) -> str:
    about = lease(handle)
    return f"process {about.get('pid')} on {about.get('host')}" if about else "another process"


def holder_lives(about: dict, handle: IO) -> bool:
    """A process of this machine is asked for; of another machine only its signs of life are known."""
    if not about:
        return False
    if about.get("host") == socket.gethostname() and about.get("boot") == boot_id() and isinstance(about["pid"], int):
        return about["pid"] != os.getpid() and exists(about["pid"])
    return time.time() - os.fstat(handle.fileno()).st_mtime < STALE


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def boot_id() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


@contextlib.contextmanager
def beating(path: Path) -> Iterator[None]:
    """Touches a lock every few seconds: other machines can see that its holder lives."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(path)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def release(handle: IO, path: Path) -> None:
    with contextlib.suppress(OSError):
        if not take(handle, shared=False):  # of shared holders, the last removes it
            return handle.close()
        path.unlink()
        path.parent.rmdir()  # succeeds only where nothing was made
    handle.close()


def in_use(path: Path) -> bool:
    """Whether some process holds the lock file `path`."""
    try:
        with path.open("r+", encoding="utf-8") as handle:
            return not take(handle, shared=False)
    except FileNotFoundError:
        return False
    except OSError:  # not ours to write, or a read-only file system
        with contextlib.suppress(OSError), path.open(encoding="utf-8") as handle:
            return holder_lives(lease(handle), handle)
    return False


def alive(folder: Path) -> bool:
    """Whether someone works on an attempt; a new one has a moment to take its lock."""
    with contextlib.suppress(OSError):
        if not (folder / "lock").exists():
            return time.time() - folder.stat().st_mtime < 2
    return in_use(folder / "lock")


# --- removing ----------------------------------------------------------------------------------------


def remove(path: Path, top: Path) -> None:
    """Removes a folder below `top`, but nothing that is, or is reached through, a symbolic link."""
    if path.resolve() == top.resolve() / path.relative_to(top):
        shutil.rmtree(path, ignore_errors=True)


def remove_stale_attempts(folder: Path) -> None:
    """Removes what killed attempts left behind; those that someone still works on are left alone."""
    for path in [*folder.glob(".work/*/attempt-*"), *folder.glob(".work/*/*/attempt-*")]:
        if path.resolve() == folder.resolve() / path.relative_to(folder) and not alive(path):
            clear(path, folder)
            for torn in path.with_name("checkpoints").glob(".*"):
                torn.unlink(missing_ok=True)
    for path in folder.glob(".work/stop-*"):
        path.unlink(missing_ok=True)
    remove_dead_partials(folder)


def remove_finished_checkpoints(folder: Path, plan: list[Run]) -> None:
    """Removes the work folders of trials that are done, and those that are empty."""
    for run in plan:
        work = folder / ".work" / run.name
        checkpoints = work / "checkpoints"
        if checkpoints.exists() and not list(work.glob("attempt-*")) and state_of(run, folder).kind == "done":
            remove(checkpoints, folder)
        remove_empty(work, folder)
    remove_empty(folder / ".work" / "summary", folder)


def work_folder(spec: dict) -> Path:
    return Path(spec["results"], ".work", spec["name"])


def socket_folder(attempt_folder: Path) -> Path:
    """A short path, known from the attempt's own: sockets allow about 100 characters, and it must be found again."""
    base = tempfile.gettempdir() if len(tempfile.gettempdir()) < 40 else "/tmp"
    return Path(base, "s6-" + hashlib.sha256(str(attempt_folder).encode()).hexdigest()[:12])


def clear(folder: Path, top: Path) -> None:
    """Removes an attempt; a dying child may still write a file while we do."""
    sockets = socket_folder(folder)
    end_processes(sockets)
    for path, root in ((sockets, sockets.parent), (folder, top)):
        for _ in range(5):
            remove(path, root)
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
