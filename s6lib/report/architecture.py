"""The picture of the code, read from its imports: no module is imported to draw it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def floors() -> str:
    """A mermaid diagram of what imports what; an arrow that two others imply is left out. A circle is a CycleError."""
    about = all_floors()
    imports = {floor: imported(floor) for floor in about}
    below: dict[str, set[str]] = {}  # everything a floor depends on
    for floor in TopologicalSorter(imports).static_order():
        below[floor] = imports[floor].union(*(below[other] for other in imports[floor]))
    boxes = [f'    {floor}["<b>{floor}</b><br>{text}"]' for floor, text in about.items()]
    direct = {floor: others.difference(*(below[other] for other in others)) for floor, others in imports.items()}
    drawn = [f"    {a} --> {b}" for a, others in direct.items() for b in sorted(others)]
    return "\n".join(["```mermaid", "flowchart TD", *boxes, *drawn, "```"])


def all_floors() -> dict[str, str]:
    """Modules and packages directly below s6lib with the words its docstring has for them; others last, without."""
    there = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    lines = (ast.get_docstring(_parsed(PACKAGE / "__init__.py"), clean=False) or "").splitlines()
    listed = dict(line.strip().partition(" ")[::2] for line in lines if line.startswith("    "))
    known = {floor: text.strip() for floor, text in listed.items() if floor in there}
    return known | dict.fromkeys(sorted(there - {"__init__", *known}), "")


def imported(floor: str) -> set[str]:
    """The floors that a floor imports, also inside functions; not what only type checkers read."""
    files = sorted((PACKAGE / floor).glob("*.py")) or [PACKAGE / f"{floor}.py"]
    return {name for file in files for name in _imports(_parsed(file))} & set(all_floors()) - {floor}


def _imports(tree: ast.AST) -> set[str]:
    if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.dump(tree.test):
        return set()
    if isinstance(tree, ast.ImportFrom) and tree.module == "s6lib":
        return {alias.name for alias in tree.names}
    if isinstance(tree, ast.ImportFrom) and tree.module and tree.module.startswith("s6lib."):
        return {tree.module.split(".")[1]}
    if isinstance(tree, ast.Import):
        return {alias.name.split(".")[1] for alias in tree.names if alias.name.startswith("s6lib.")}
    return {name for child in ast.iter_child_nodes(tree) for name in _imports(child)}


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))
