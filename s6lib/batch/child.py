"""The process that executes one notebook, or trains one part.

`python -m s6lib.batch.child <attempt>/spec.json <pipe to answer through>`

papermill's metadata calls a notebook "completed" after a dead kernel or a time-out, so what happened is told by this
process: exit code 0 means every cell ran, and an answer through a pipe says what went wrong otherwise, for which even
a full disk has room.
"""

import json
import os
import sys
import traceback
from pathlib import Path

from s6lib.batch.chunks import train_part
from s6lib.processes import die_with_parent

KERNEL_DIES_TOO = "__import__('s6lib.processes').processes.die_with_parent()"


def main(spec_file: Path, answer: int) -> int:
    spec = json.loads(spec_file.read_text(encoding="utf-8"))
    die_with_parent(spec["parent"])
    kind, reason = train_part(spec["part"]) if spec["part"] else execute(spec)
    os.write(answer, json.dumps({"kind": kind, "reason": reason[:2000]}).encode())
    return 0 if kind == "ok" else 1


def execute(spec: dict) -> tuple[str, str]:
    """Runs the notebook; ("ok", "") or the kind of fault and one line about it."""
    # 0.85 s of building a grammar, for checks of web addresses that notebooks have no use for.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    paths = [spec[name].replace("{", "{{").replace("}", "}}") for name in ("notebook", "output")]  # papermill formats
    try:
        papermill.execute_notebook(*paths, spec["parameters"], **options(spec))
    except PapermillExecutionError as error:
        print(error)
        return "code", f"{error.ename}: {error.evalue}".strip()
    except CellTimeoutError:
        return "timeout", f"a cell ran longer than {spec['cell_timeout']} s"
    except DeadKernelError:
        return "infrastructure", "the kernel died (killed? most often because memory ran out)"
    except OSError as error:
        return "disk", f"{error.filename or spec['output']}: {error.strerror or error}"
    except Exception as error:
        traceback.print_exc()
        # jupyter_client has no class of its own for a kernel that does not start.
        unborn = isinstance(error, RuntimeError) and str(error).startswith(("Kernel died", "Kernel didn't"))
        return ("infrastructure" if unborn else "other"), f"{type(error).__name__}: {error}"
    return "ok", ""


def options(spec: dict) -> dict:
    """Kernels talk over sockets in a folder of their own: parallel TCP kernels fail to start about 1 time in 60."""
    from traitlets.config import Config

    manager = {"transport": "ipc", "ip": f"{spec['sockets']}/k"} if os.name == "posix" else {}
    return {
        "config": Config({"KernelManager": manager}),
        "extra_arguments": [f"--IPKernelApp.exec_lines={KERNEL_DIES_TOO}"],
        "progress_bar": False,
        "start_timeout": 30,
        "iopub_timeout": 60,
        "execution_timeout": spec["cell_timeout"],
        "autosave_cell_every": 30,
    }


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
