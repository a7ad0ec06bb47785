"""The table attack -> test of docs/reliability.md: `python tests/faults/table.py` writes it, a test compares it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
START, END = "<!-- attacks: written by tests/faults/table.py -->", "<!-- /attacks -->"
ATTACKS = {
    1: "a file is added to the data folder",
    2: "SEEDS 6, 2, 4 and EPOCHS one after the other",
    3: "a user's own notes in a trial's folder",
    4: "back to the first SEEDS and EPOCHS",
    5: "`nohup make run-all &`, terminal closed",
    6: "another data set tried in a notebook; a cell stopped",
    7: "a damaged checkpoint",
    8: "locks on NFS",
    9: "a Dask worker with other training code or packages",
    10: "Ctrl-C in the first `make`",
    11: "stdout closed, on a full disk, or in an encoding without some letters",
    12: "a folder in the way that cannot be removed, or is a link",
    13: "run.json with values of another type, escape codes",
    14: "validly signed odd records",
    15: "a worker that forges answers, or returns nothing",
    16: "the Dask scheduler killed",
    17: "`make clean` during a batch",
    18: "a file system without locks",
    19: "results among the sources",
    20: "`~` in a path, names that cannot be decoded",
    21: "2 MB that unpack to 2 GB",
    22: "symbolic links inside results",
    23: "a clock set back while a trial runs",
    24: "the laptop closed for an hour, clocks that differ",
    25: "`make prune YES=1` after `make decide`",
    26: "a full disk while README, docs or notebooks are rewritten",
    27: "an interrupted `make gallery`",
    28: "kill -9 while a notebook adds a part",
    29: "a copy of a trial's folder beside it",
    30: "folders that cannot be read, or are links",
    31: "many seeds of other settings or data in the run of `make decide`",
    32: "a quick run of the frontier",
    33: "`make clean`, then a look at verdicts.json",
    34: "HOURS=0, HOURS=nan, a time limit of nan",
    35: "SEEDS=1000000000, seed 2**63",
    36: "a record whose study is a path",
    37: "start-up hooks that print",
    38: "data sets of one's own",
    39: "a full disk while verdicts, pages or notes are written",
    40: "two processes that write one file",
    41: "arms and first seeds that diverged, in the interactive notebook",
    42: "a summary that failed or was interrupted after the training",
    43: "`make prune YES=1 TRIAL=...` where another trial uses the same part",
    44: "one study after another in the same run folder",
    45: "`make status` at the moment when a lock is taken",
}
TEST = re.compile(r"def (test_\w+)\([^)]*\)[^:]*:\n\s+(?:\"\"\"|# )Attacks? ([\d, and]+): (.*?)(?:\"\"\")?\n")


def table() -> str:
    """A row per attack: what was done, what holds now, the tests that show it."""
    rows = ["| # | attack | what holds | test |", "|---|---|---|---|"]
    found = shown_by()
    for number, attack in ATTACKS.items():
        names = ", ".join(f"`{file}::{name}`" for file, name, _ in found[number])
        rows.append(f"| {number} | {attack} | {found[number][0][2].rstrip('.')} | {names} |")
    return "\n".join(rows)


def shown_by() -> dict[int, list[tuple[str, str, str]]]:
    """{attack: (file, test, what holds) of its tests}."""
    found: dict[int, list[tuple[str, str, str]]] = {number: [] for number in ATTACKS}
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, numbers, text in TEST.findall(file.read_text(encoding="utf-8")):
            for number in re.findall(r"\d+", numbers):
                found[int(number)].append((file.relative_to(ROOT / "tests").as_posix(), name, text))
    return found


def page() -> str:
    """The whole page, with today's table between its marks."""
    before, rest = PAGE.read_text(encoding="utf-8").split(START)
    return f"{before}{START}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
