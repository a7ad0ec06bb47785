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
    11: "stdout closed, full, or of few letters",
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
