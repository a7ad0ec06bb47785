"""One trial, from a plain dict that describes it to a published directory: attempts in child processes, retries.

Everything of an attempt happens in a folder of its own, results/<run>/.work/<study>/<trial>/attempt-*, whose lock is
held as long as someone works there. Publishing is one rename: the first publisher wins, the loser's work is dropped.
`execute` is what every executor calls: a thread here, a Dask worker, a task of an array job.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

from s6lib import records
from s6lib.batch.folders import clear, locked, remove_empty, socket_folder, work_folder
from s6lib.batch.plan import data_fingerprint, is_stale, read_info
from s6lib.records import RecordError

STOP = threading.Event()  # set when this process is asked to end; runs elsewhere look for the stop file
GRACE = 5  # seconds between asking a child to end and killing it
LOG_LINES = 15


def execute(spec: dict, gpu: str | None = None) -> dict:
    """Runs the trial that `spec` describes; {"kind": "done" or a fault's kind, "reason": ..., ...}. Does not raise."""
    start, outcome = time.time(), {}
    try:
        check_place(spec)
        for number in range(1, spec["retries"] + 2):
            outcome = {**attempt(spec, number, gpu), "attempts": number}
            if outcome["kind"] != "infrastructure" or must_stop(spec):
                break
    except OSError as error:
        place = error.filename or spec["results"]
        outcome = {"kind": "disk", "reason": f"{place}: {error.strerror or error}"}
    return {**outcome, "name": spec["name"], "seconds": round(time.time() - start, 1)}


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
    return STOP.is_set() or (Path(spec["results"]) / ".work" / f"stop-{spec['token']}").exists()


def attempt(spec: dict, number: int, gpu: str | None) -> dict:
    work = work_folder(spec)
    work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="attempt-", dir=work))
    try:
        with locked(folder / "lock"):
            start = time.time()
            outcome = run_child(spec, folder, gpu)
            if outcome["kind"] == "ok":
                outcome = judge(spec, folder)
            if outcome["kind"] == "ok":
                info = {"attempt": number, "seconds": round(time.time() - start, 1), "host": socket.gethostname()}
                return publish(spec, folder, info)
            return keep_failure(spec, folder, outcome)
    finally:
        clear(folder)


# --- the child -----------------------------------------------------------------------------------


def run_child(spec: dict, folder: Path, gpu: str | None) -> dict:
    """Starts the child, waits for it, ends it when asked to or when its time is over; its outcome."""
    sockets = socket_folder(folder)
    sockets.mkdir(mode=0o700)
    parameters = {**spec["parameters"], **({"record_dir": str(folder / "record")} if spec["record"] else {})}
    task = {key: spec[key] for key in ("notebook", "cell_timeout")} | {"parameters": parameters, "parent": os.getpid()}
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
            child.wait(0.2)
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
        "S6_PREVIOUS": previous(spec),
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
    # Dask sets MALLOC_TRIM_THRESHOLD_ for its workers' sake; training would be slower with it.
    inherited = {key: value for key, value in os.environ.items() if key != "MALLOC_TRIM_THRESHOLD_"}
    return {**inherited, **new}


def previous(spec: dict) -> str:
    """Where the trial's older records are, if the training code that made them is what it was; seeds may be kept."""
    for folder in (Path(spec["results"], spec["name"]), Path(spec["results"], ".replaced", spec["name"])):
        with contextlib.suppress(RecordError):
            heads = [records.read_head(folder / name) for name in read_info(folder)["records"]]
            if not any(map(is_stale, heads)):
                return str(folder)
    return ""


# --- judging and publishing ----------------------------------------------------------------------


def judge(spec: dict, folder: Path) -> dict:
    """ "ok" only if every record in the attempt is there and whole; papermill's metadata has no say."""
    if not spec["record"]:
        return {"kind": "ok"}
    found = record_names(folder / "record")
    if not found:
        skipped = not_executed(folder / "notebook.ipynb")
        why = f"; cells that never ran: {skipped} (sys.exit in a cell?)" if skipped else ""
        return {"kind": "code", "reason": f"the notebook ended without saving a record{why}"}
    try:
        heads = [records.check(folder / "record" / name) for name in found]
    except RecordError as error:
        return {"kind": "code", "reason": str(error).replace(f"{folder}/", "")}
    bad = [entry for head in heads for entry in head["diverged"]]
    return {"kind": "ok", "records": found, "diverged": bad, "dataset": heads[0]["dataset"]}


def record_names(folder: Path) -> list[str]:
    """Where the records below `folder` are: ["."] for one, the names of subdirectories for a sweep's."""
    return sorted(str(file.parent.relative_to(folder)) for file in folder.rglob("record.json"))


def not_executed(notebook: Path) -> int:
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError):
        return 0
    return sum(cell["cell_type"] == "code" and not cell["execution_count"] for cell in cells)


def publish(spec: dict, folder: Path, info: dict) -> dict:
    """Moves the attempt's record, notebook and run.json to results/<run>/<study>/<trial> in one rename."""
    if not spec["record"]:
        Path(folder, "notebook.ipynb").replace(spec["publish_to"])
        return {"kind": "done", "reason": ""}
    verdict, record = judge(spec, folder), folder / "record"
    facts = {key: verdict[key] for key in ("records", "diverged", "dataset")}
    identity = spec["identity"]
    info = {**identity, "parameters": spec["parameters"], **facts, **info}
    info |= {"data": data_fingerprint(spec["identity"]["settings"].get("dataset", "")), "finished": timestamp()}
    Path(folder, "notebook.ipynb").rename(record / "notebook.ipynb")
    Path(record, "run.json").write_text(json.dumps(info, indent=1) + "\n", encoding="utf-8")
    flush(record)
    target = Path(spec["results"], spec["name"])
    won = move_in(record, target, Path(spec["results"], ".replaced", spec["name"]), identity)
    forget(spec)
    return {
        "kind": "done",
        "reason": "" if won else "another attempt had published first",
        "diverged": facts["diverged"],
    }


def move_in(source: Path, target: Path, older: Path, identity: dict) -> bool:
    """Renames `source` to `target`, an unlike record there to `older` first. False if another attempt was faster."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        if published(target, identity):
            return False
        shutil.rmtree(older, ignore_errors=True)
        older.parent.mkdir(parents=True, exist_ok=True)
        target.rename(older)
    try:
        source.rename(target)
    except OSError:
        if not target.exists():
            raise
        return False
    return True


def published(target: Path, identity: dict) -> bool:
    """Whether a whole record of the very same settings and code is at `target`."""
    try:
        info = read_info(target)
        heads = [records.check(target / name) for name in info["records"]]
    except RecordError:
        return False
    return not any(map(is_stale, heads)) and all(info.get(key) == value for key, value in identity.items())


def flush(folder: Path) -> None:
    """Has the disk hold the files before the rename that makes them count."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


def forget(spec: dict) -> None:
    """Removes what a published trial needs no more: checkpoints, and the last failure of the same trial."""
    shutil.rmtree(work_folder(spec) / "checkpoints", ignore_errors=True)
    failed = Path(spec["results"], ".failed", spec["name"])
    shutil.rmtree(failed, ignore_errors=True)
    remove_empty(failed.parent, Path(spec["results"]))


def keep_failure(spec: dict, folder: Path, outcome: dict) -> dict:
    """Moves a failed attempt's notebook and log to results/<run>/.failed/<study>/<trial>, and quotes the log's end."""
    lines = plain_text(Path(folder, "log.txt").read_bytes()[-100_000:].decode(errors="replace")).splitlines()
    outcome = {**outcome, "log": [line for line in lines if line.strip()][-LOG_LINES:]}
    if outcome["kind"] == "stopped":
        return outcome
    target = Path(spec["results"], ".failed", spec["name"])
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in ("notebook.ipynb", "log.txt"):
        if (folder / name).exists():
            (folder / name).rename(target / name)
    about = {**spec["identity"], "kind": outcome["kind"], "reason": outcome["reason"], "finished": timestamp()}
    with contextlib.suppress(OSError):  # a full disk: the reason is printed all the same
        Path(target, "failure.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return {**outcome, "notebook": str(target / "notebook.ipynb")}


def plain_text(text: str) -> str:
    """Without terminal escapes and control characters, which a notebook could use to forge lines."""
    text = re.sub(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|.)", "", text)
    return "".join(c for c in text if c in "\n\t" or c.isprintable())


def timestamp() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
