"""The house: rooms import downwards only, and the command line answers without torch."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import s6lib

PACKAGE = Path(s6lib.__file__).parent
ROOMS = re.findall(r"`(\w+)`", s6lib.__doc__)


def rooms_imported(file: Path) -> set[str]:
    """Rooms that a file imports when it is imported itself: not those inside functions or for type checkers."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "s6lib":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("s6lib."):
            found.add(node.module.split(".")[1])
    return found - {"__version__"}


def files_of(room: str) -> list[Path]:
    return sorted((PACKAGE / room).glob("*.py")) or [PACKAGE / f"{room}.py"]


def test_every_room_is_listed():
    there = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert there - {"__init__"} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_downwards(room):
    for file in files_of(room):
        for other in rooms_imported(file) - {room}:
            assert ROOMS.index(other) > ROOMS.index(room), f"{file.name} imports {other}"


@pytest.mark.parametrize("words", [["--help"], ["plan"], ["status"]])
def test_command_line_needs_no_torch(words, tmp_path):
    # help, plan and status answer without loading torch, pandas' plotting or papermill
    code = "import sys, runpy; sys.argv = ['s6lib', *sys.argv[1:]]\n"
    code += "try: runpy.run_module('s6lib', run_name='__main__')\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'papermill', 'matplotlib'} & set(sys.modules)))"
    extra = [] if words == ["--help"] else ["--results", str(tmp_path)]
    command = [sys.executable, "-c", code, *words, *extra]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
