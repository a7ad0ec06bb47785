"""How large a run's page is, how long it takes to make, and how soon a browser shows it.

    python benchmarks/page.py --run reference

Writes results/bench/page.json. Making is all of `python -m s6lib report`, imports included; showing is the time
from opening the file to its text being there, in the system's Chromium with the network off, the median of five.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from s6lib import paths, records
from s6lib.provenance import provenance

SHOWN = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd / 1000"


def make(run: Path, folder: Path) -> tuple[Path, float]:
    """The page of a copy of the run, and the seconds it took."""
    shutil.copytree(run, folder / run.name)
    start = time.perf_counter()
    command = [sys.executable, "-m", "s6lib", "report", "--results", str(folder), "--run", run.name]
    subprocess.run(command, check=True)
    return folder / run.name / "report.html", time.perf_counter() - start


def show(page: Path, times: int = 5) -> float:
    """Seconds until the text of the page is there; each time in a fresh window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        seconds = []
        for _ in range(times):
            view = browser.new_context(offline=True).new_page()
            view.goto(page.as_uri())
            seconds.append(view.evaluate(SHOWN))
        browser.close()
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="reference", help="a folder below results/")
    parser.add_argument("--out", type=Path, default=paths.home() / "results" / "bench")
    arguments = parser.parse_args()
    run = paths.home() / "results" / arguments.run
    found = records.find(run)[0]
    with tempfile.TemporaryDirectory() as folder:
        page, seconds = make(run, Path(folder))
        about = {"run": arguments.run, "trials": len(found), "seeds": max(len(record.seeds) for record in found)}
        numbers = {"megabytes": page.stat().st_size / 1e6, "seconds_to_make": seconds, "seconds_to_show": show(page)}
    text = json.dumps({**about, **numbers, "provenance": provenance("batch", "regularisers")}, indent=1)
    (arguments.out / "page.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
