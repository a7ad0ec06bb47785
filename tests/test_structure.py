"""The house: every import goes down a floor, and the command line answers without torch."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import s6lib

PACKAGE = Path(s6lib.__file__).parent
FLOORS = re.findall(r"^    (\w+) {2,}", s6lib.__doc__, re.M)  # highest first


def modules() -> dict[str, Path]:
    """Module name -> file, for every module of the package."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = file
    return found


def imports(file: Path) -> set[str]:
    """Modules of this package that a file imports anywhere: at its top, inside functions, for type checkers."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return {name for name in found if name.startswith("s6lib.")}


MODULES = modules()


def floor(module: str) -> str:
    return module.split(".")[1]


def test_every_floor_is_listed():
    # the docstring of the package is the map
    assert {floor(name) for name in MODULES if "." in name} == set(FLOORS)


@pytest.mark.parametrize("module", [name for name in MODULES if "." in name])
def test_imports_go_downwards(module):
    own = FLOORS.index(floor(module))
    assert [name for name in imports(MODULES[module]) if FLOORS.index(floor(name)) < own] == []


def test_no_circles():
    # between modules either: each can be understood after those it imports
    graph = {name: imports(file) for name, file in MODULES.items()}
    done: list[str] = []
    while ready := [name for name in graph if name not in done and graph[name] - {name} <= set(done)]:
        done += ready
    assert [name for name in graph if name not in done] == []


@pytest.mark.parametrize("words", [["--help"], ["plan"], ["status"]])
def test_command_line_needs_no_torch(words, tmp_path):
    # help, plan and status answer without loading torch, matplotlib or papermill
    code = "import sys, runpy; sys.argv = ['s6lib', *sys.argv[1:]]\n"
    code += "try: runpy.run_module('s6lib', run_name='__main__')\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'papermill', 'matplotlib'} & set(sys.modules)))"
    extra = [] if words == ["--help"] else ["--results", str(tmp_path)]
    command = [sys.executable, "-c", code, *words, *extra]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
