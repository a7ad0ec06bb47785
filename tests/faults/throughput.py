"""What the runner itself costs: `python tests/faults/throughput.py [trials] [jobs]`.

Runs that many notebooks that do nothing but save a record, and says how long a trial took and whether any failed.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from batch_project import TRIVIAL, Project


def main(trials: int = 200, jobs: int = 2) -> None:
    project = Project(Path(tempfile.mkdtemp()) / "p", **{f"t{i:03d}": (TRIVIAL, {}) for i in range(trials)})
    start = time.monotonic()
    output = project.run("run", "--jobs", str(jobs), timeout=3600)
    seconds = time.monotonic() - start
    print(output.splitlines()[-1])
    print(f"{trials} trials, {jobs} at a time: {seconds:.0f} s, {jobs * seconds / trials:.2f} s of overhead per trial")
    start = time.monotonic()
    print(project.run("run", "--jobs", str(jobs)).splitlines()[-1], f"({time.monotonic() - start:.1f} s)")
    print("left over:", project.leftovers() or "nothing")
    project.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
