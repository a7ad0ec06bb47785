"""One trial, from a plain dict that describes it to a committed run: attempts in child processes, retries.

An attempt has a folder of its own, results/<run>/.work/<study>/<trial>/attempt-*, whose lock is held as long as someone
works there. The training in it adds parts and tells which it used; a run that used only whole parts is committed by one
rename. `execute` is what every executor calls: a thread here, a Dask worker, a task of an array job.
"""

import contextlib
import hashlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path
from typing import IO, Any

from s6lib import records
from s6lib.batch.folders import STALE, clear, locked, remove, remove_empty, socket_folder, work_folder
from s6lib.batch.plan import difference
from s6lib.batch.state import data_fingerprint, is_part, run_key
from s6lib.provenance import ALWAYS, PACKAGE, versions
from s6lib.records import RecordError, plain_text
from s6lib.records.files import commit_folder

STOP = threading.Event()  # set when this process is asked to end; runs elsewhere look for the stop file
SIGNS: dict[tuple[str, int], tuple[int, int]] = {}  # (runner, thread): its last sign of life, looks since then
GRACE = 5  # seconds between asking a child to end and killing it
LOOK = 0.2  # seconds between looks at the child, and at the runner's signs of life
LOG_LINES = 15


def execute(spec: dict, gpu: str | None = None) -> dict:
    """Runs the trial that `spec` describes; {"kind": "done" or a fault's kind, "reason": ..., ...}. Does not raise."""
    start, outcome = time.monotonic(), {}
    if other := difference(code_identity(), spec["software"]):
        reason = f"{socket.gethostname()} has other software than the runner: {other}; nothing was trained there"
        return {"kind": "software", "reason": reason, "seconds": 0.0}
    try:
        check_place(spec)
        for number in range(1, spec["retries"] + 2):
            outcome = attempt(spec, number, gpu)
            if outcome["kind"] != "infrastructure" or must_stop(spec):
                break
    except OSError as error:
        place = error.filename or spec["results"]
        outcome = {"kind": "disk", "reason": f"{place}: {error.strerror or error}"}
    return {**outcome, "seconds": round(time.monotonic() - start, 1)}


@cache
def code_identity() -> dict:
    """The training code and the package versions that numbers may depend on."""
    files = {PACKAGE / name for name in ALWAYS}
    files |= {file for folder in ("models", "studies", "training") for file in (PACKAGE / folder).glob("*.py")}
    digest = "".join(records.sha256(file) for file in sorted(files))
    code = hashlib.sha256(digest.encode()).hexdigest()[:12]
    return {"training code": code, "python": platform.python_version(), **versions()}


def check_place(spec: dict) -> None:
    """A worker on another machine must see the very folder that the runner has locked."""
    if not spec["token"]:  # a summary, which needs no lock
        return
    marker = Path(spec["results"]) / ".lock"
    try:
        shared = spec["token"] in marker.read_text()
    except OSError:
        shared = False
    if not shared:
        reason = f"not the runner's results folder as {socket.gethostname()} sees it; workers must share that folder"
        raise OSError(0, reason, str(marker))


def must_stop(spec: dict) -> bool:
    """Whether this process, or the runner on another machine, is ending."""
    if STOP.is_set() or not spec["token"]:
        return STOP.is_set()
    return Path(spec["results"], ".work", f"stop-{spec['token']}").exists() or runner_is_gone(spec)


def runner_is_gone(spec: dict) -> bool:
    """A runner's lock ends with it; one that was killed gives no sign of life any more.

    Looks without a new sign are counted, not seconds: clocks differ and are set, and machines sleep.
    """
    key = spec["token"], threading.get_ident()
    try:
        with Path(spec["results"], ".lock").open(encoding="utf-8") as handle:  # opening asks NFS for today's state
            sign, holders = os.fstat(handle.fileno()).st_mtime_ns, handle.read()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    last, looks = SIGNS.get(key, (0, 0))
    SIGNS[key] = sign, looks + 1 if sign == last else 0
    return spec["token"] not in holders or SIGNS[key][1] * LOOK > STALE


def attempt(spec: dict, number: int, gpu: str | None) -> dict:
    work = work_folder(spec)
    work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="attempt-", dir=work))
    try:
        with locked(folder / "lock"):
            start = time.monotonic()
            outcome = run_child(spec, folder, gpu)
            if outcome["kind"] == "ok" and not spec["target"]:
                outcome = validate_output(spec, folder)
            if outcome["kind"] != "ok":
                return keep_failure(spec, folder, outcome)
            if spec["target"]:
                (folder / "notebook.ipynb").replace(spec["target"])
                forget(spec)
            elif not spec["part"]:  # a part has added itself
                about = {"attempt": number, "seconds": round(time.monotonic() - start, 1), "host": socket.gethostname()}
                commit(spec, folder, {**outcome, **about})
            return {"kind": "done", "reason": ""}
    finally:
        clear(folder, Path(spec["results"]))


# --- the child -----------------------------------------------------------------------------------


def run_child(spec: dict, folder: Path, gpu: str | None) -> dict:
    """Starts the child, waits for it, ends it when asked to or when its time is over; its outcome."""
    sockets = socket_folder(folder)
    sockets.mkdir(mode=0o700)
    task = {key: spec[key] for key in ("notebook", "cell_timeout", "parameters", "part")} | {"parent": os.getpid()}
    task |= {"output": str(folder / "notebook.ipynb"), "sockets": str(sockets)}
    (folder / "spec.json").write_text(json.dumps(task), encoding="utf-8")
    around = environment(spec, folder, sockets, gpu)
    with (folder / "log.txt").open("wb") as log:
        child, answer = start_child(folder / "spec.json", around, spec["root"], log)
        with answer:
            return wait(child, spec) or child_outcome(child.returncode, answer.read())


def start_child(task: Path, around: dict, root: str, log: IO) -> tuple[subprocess.Popen, IO]:
    """The process, and the pipe through which it will answer. A session of its own: a Ctrl-C in the terminal reaches
    the runner alone, which then ends its children."""
    listen, answer = os.pipe()
    command = [sys.executable, "-m", "s6lib.batch.child", str(task), str(answer)]
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
    try:
        child = subprocess.Popen(command, env=around, cwd=root, start_new_session=True, pass_fds=[answer], **streams)
    finally:
        os.close(answer)
    return child, os.fdopen(listen, "rb")


def wait(child: subprocess.Popen, spec: dict) -> dict | None:
    deadline = time.monotonic() + (spec["time_limit"] or float("inf"))
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(LOOK)
            return None
        if must_stop(spec):
            end(child)
            return {"kind": "stopped", "reason": "stopped"}
        if time.monotonic() > deadline:
            end(child)
            return {"kind": "timeout", "reason": f"the notebook ran longer than {spec['time_limit']:g} s"}


def end(child: subprocess.Popen) -> None:
    child.terminate()
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def child_outcome(code: int, answer: bytes) -> dict:
    if code < 0:
        return {"kind": "infrastructure", "reason": f"the notebook's process was ended by {signal.Signals(-code).name}"}
    try:
        outcome = json.loads(answer)
    except ValueError:
        return {"kind": "other", "reason": f"the notebook's process ended with exit code {code}; see its log"}
    return {**outcome, "reason": plain_text(outcome["reason"])}


def environment(spec: dict, folder: Path, sockets: Path, gpu: str | None) -> dict:
    """What the child and its kernel see. Jupyter's, IPython's and temporary files are private to the attempt."""
    new = {
        "S6_QUIET": "1",
        "S6_CHECKPOINTS": str(work_folder(spec) / "checkpoints"),
        "S6_LAB": spec["results"],
        "S6_CLAIMS": str(folder / "claims"),
        "S6_HEARTBEAT": str(folder / "heartbeat.json"),
        "S6_DATA_DIR": spec["data_dir"],
        "IPYTHONDIR": str(sockets / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(sockets / "runtime"),
        "TMPDIR": str(sockets),  # so that nothing is left in /tmp by who is killed
        "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel, whatever the user has installed beside it
        "PYTHONUNBUFFERED": "1",
    }
    if gpu is not None:
        new["CUDA_VISIBLE_DEVICES"] = gpu
    threads = os.environ.get("OMP_NUM_THREADS") or str(spec["threads"])  # what the user has set stays
    new |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    new["S6_WORKERS"] = str(spec["workers"] or threads.partition(",")[0].strip())  # OpenMP's "4,2": per nesting level
    # Dask sets MALLOC_TRIM_THRESHOLD_ for its workers' sake; training would be slower with it.
    inherited = {key: value for key, value in os.environ.items() if key != "MALLOC_TRIM_THRESHOLD_"}
    return {**inherited, **new}


# --- validating and committing -------------------------------------------------------------------


def validate_output(spec: dict, folder: Path) -> dict:
    """ "ok" only if every part that the notebook used or made is on disk and whole; papermill's metadata has no say."""
    parts = claimed(folder / "claims", Path(spec["results"]))
    if not parts:
        skipped = not_executed(folder / "notebook.ipynb")
        why = f"; cells that never ran: {skipped} (sys.exit in a cell?)" if skipped else ""
        return {"kind": "code", "reason": f"the notebook ended without saving a record{why}"}
    if odd := [name for name in parts if not is_part(name)]:
        return {"kind": "code", "reason": plain_text(f"{odd[0]!r} is not the name of a part below {spec['results']}")}
    try:
        heads = [records.check(Path(spec["results"], name)) for name in parts]
    except RecordError as error:
        return {"kind": "code", "reason": str(error)}
    bad = [entry for head in heads for entry in head["diverged"]]
    return {"kind": "ok", "parts": parts, "diverged": bad}


def claimed(file: Path, results: Path) -> list[str]:
    """The parts that a notebook says it used, each once, below the results folder."""
    with contextlib.suppress(OSError, ValueError):
        parts = [Path(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
        return sorted({str(part.relative_to(results)) for part in parts})
    return []


def not_executed(notebook: Path) -> int:
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError):
        return 0
    return sum(cell["cell_type"] == "code" and not cell["execution_count"] for cell in cells)


def commit(spec: dict, folder: Path, facts: dict) -> None:
    """Moves the executed notebook, and run.json that says what it was, to a folder of the run's own in one rename."""
    info = {**spec["identity"], "parameters": spec["parameters"], **{k: v for k, v in facts.items() if k != "kind"}}
    dataset = spec["identity"]["settings"].get("dataset", "")
    info |= {"data": data_fingerprint(dataset, spec["data_dir"]), "finished": timestamp()}
    made = folder / "run"
    made.mkdir()
    Path(folder, "notebook.ipynb").rename(made / "notebook.ipynb")
    Path(made, "run.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    trial = Path(spec["results"], spec["name"])
    trial.mkdir(parents=True, exist_ok=True)
    point_to(trial / "notebook.ipynb", commit_folder(made, trial / f"run.{run_key(info['settings'])}"))
    forget(spec)


def point_to(link: Path, run: Path) -> None:
    """Lets <trial>/notebook.ipynb be the notebook that ran last; a file of that name that is no link of ours stays."""
    if link.exists() and not link.is_symlink():
        return
    temporary = link.with_name(f".{link.name}.{os.getpid()}.{threading.get_ident()}")
    with contextlib.suppress(OSError):  # a file system without links
        temporary.symlink_to(Path(run.name, "notebook.ipynb"))
        temporary.replace(link)


def forget(spec: dict) -> None:
    """Removes what a finished trial needs no more: checkpoints, and the last failure of the same trial."""
    top = Path(spec["results"])
    remove(work_folder(spec) / "checkpoints", top)
    failed = Path(top, ".failed", spec["name"])
    remove(failed, top)
    remove_empty(failed.parent, top)


def keep_failure(spec: dict, folder: Path, outcome: dict) -> dict:
    """Moves a failed attempt's notebook and log to results/<run>/.failed/<study>/<trial>, and quotes the log's end."""
    lines = plain_text(Path(folder, "log.txt").read_bytes()[-100_000:].decode(errors="replace")).splitlines()
    outcome = {**outcome, "log": [line for line in lines if line.strip()][-LOG_LINES:]}
    if outcome["kind"] == "stopped":
        return outcome
    target = Path(spec["results"], ".failed", spec["name"])
    target.mkdir(parents=True, exist_ok=True)
    for name in ("notebook.ipynb", "log.txt"):
        if (folder / name).exists():
            (folder / name).replace(target / name)
    about = {**spec["identity"], "kind": outcome["kind"], "reason": outcome["reason"], "finished": timestamp()}
    with contextlib.suppress(OSError):  # a full disk: the reason is printed all the same
        Path(target, "failure.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return outcome if spec["part"] else {**outcome, "notebook": str(target / "notebook.ipynb")}


def timestamp() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
