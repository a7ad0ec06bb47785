"""The map of the code, read from its imports: no module is imported to draw it."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def floors() -> str:
    """A mermaid diagram of what imports what; an arrow that two others imply is left out."""
    imports = {floor: imported(floor) for floor in all_floors()}
    drawn = [f"    {a} --> {b}" for a, others in imports.items() for b in sorted(others - _implied(others, imports))]
    return "\n".join(["```mermaid", "flowchart TD", *drawn, "```"])


def modules() -> str:
    """A table of all modules by floor, each with the first sentence of its docstring."""
    rows = [f"| `{_path(file)}` | {_sentence(file)} |" for floor in all_floors() for file in _files(floor)]
    return "\n".join(["| module | what it holds |", "|---|---|", *rows])


def all_floors() -> list[str]:
    """Modules and packages directly below s6lib, in the order in which its docstring lists them, then by name."""
    there = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    listed = [line.split()[0] for line in _docstring(PACKAGE / "__init__.py").splitlines() if line.startswith("    ")]
    return [floor for floor in listed if floor in there] + sorted(there - {"__init__", *listed})


def imported(floor: str) -> set[str]:
    """The floors that a floor imports, also inside functions; not what only type checkers read."""
    found = {name for file in _files(floor) for name in _imports(ast.parse(file.read_text(encoding="utf-8")))}
    return found & set(all_floors()) - {floor}


def _imports(tree: ast.AST) -> set[str]:
    if isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.dump(tree.test):
        return set()
    if isinstance(tree, ast.ImportFrom) and tree.module == "s6lib":
        return {alias.name for alias in tree.names}
    if isinstance(tree, ast.ImportFrom) and (tree.module or "").startswith("s6lib."):
        return {tree.module.split(".")[1]}
    if isinstance(tree, ast.Import):
        return {alias.name.split(".")[1] for alias in tree.names if alias.name.startswith("s6lib.")}
    return {name for child in ast.iter_child_nodes(tree) for name in _imports(child)}


def _implied(others: set[str], imports: dict[str, set[str]]) -> set[str]:
    return {below for other in others for below in _reach(other, imports) - {other}}


def _reach(floor: str, imports: dict[str, set[str]]) -> set[str]:
    """Everything a floor depends on, itself included. A circle would be an error of the code and ends here too."""
    seen, todo = set(), [floor]
    while todo:
        if (here := todo.pop()) not in seen:
            seen.add(here)
            todo += imports[here]
    return seen


def _files(floor: str) -> list[Path]:
    return sorted((PACKAGE / floor).glob("*.py")) or [PACKAGE / f"{floor}.py"]


def _path(file: Path) -> str:
    return file.relative_to(PACKAGE.parent).as_posix()


def _docstring(file: Path) -> str:
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def _sentence(file: Path) -> str:
    return " ".join(_docstring(file).split("\n\n")[0].split()).replace("|", "\\|")
