"""What produced a record: commit, versions, machine, and a fingerprint of the training code that its trial uses."""

import ast
import hashlib
import platform
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).parent
# What every training's numbers depend on, whole; of the normalisers and networks only the one a trial uses counts.
ALWAYS = (
    "streams.py",
    "data.py",
    "trial.py",
    "models/layers.py",
    "models/builder.py",
    "training/average.py",
    "training/optim.py",
    "training/trainer.py",
)
REGISTRY = "NORMALISERS"


def provenance(normaliser: str, network: str) -> dict:
    """Commit, dirty flag, versions and machine; what is unknown is None."""
    status = _git("status", "--porcelain")
    return {
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if status is None else bool(status),
        "source": source_fingerprint(normaliser, network),
        "python": platform.python_version(),
        "versions": versions(),
        "platform": platform.platform(),
        "processor": _processor(),
    }


def versions() -> dict[str, str]:
    """Of the packages that numbers may depend on."""
    return {name: metadata.version(name) for name in ("torch", "torchvision", "numpy", "pandas", "papermill")}


def _git(*words: str) -> str | None:
    command = ["git", "-C", str(PACKAGE), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@cache
def source_fingerprint(normaliser: str, network: str) -> str:
    """A hash of the code that training with this normaliser and network runs, blind to comments and docstrings.

    A new normaliser or network leaves the fingerprints of all others as they were.
    """
    parts = [_source(PACKAGE / name) for name in ALWAYS]
    parts += _normaliser_source(normaliser) + _network_source(network)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _normaliser_source(name: str) -> list[str]:
    module = _parse(PACKAGE / "models" / "norms.py")
    return _reachable(
        module, ["make_norm", *_names([_factory(module, name)])], f"{name}: {_text(_factory(module, name))}"
    )


def _factory(module: ast.Module, name: str) -> ast.AST | None:
    """The value of NORMALISERS[name] in the module's source; None for a name that it does not have."""
    for node in module.body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == REGISTRY:
            assert isinstance(node.value, ast.Dict)
            entries = zip(node.value.keys, node.value.values, strict=True)
            return next((value for key, value in entries if isinstance(key, ast.Constant) and key.value == name), None)
    return None


def _network_source(name: str) -> list[str]:
    for file in sorted((PACKAGE / "studies").glob("*.py")):
        module = _parse(file)
        if any(isinstance(node, ast.FunctionDef) and node.name == name for node in module.body):
            parts = _reachable(module, [name], "")
            return parts + _imported(parts)
    return []


def _imported(parts: Iterable[str]) -> list[str]:
    """The whole source of every module that a network's own code names in `from s6lib.… import`, for layers that no
    other network has; not of what that module imports."""
    nodes = [node for part in parts for node in ast.walk(ast.parse(part)) if isinstance(node, ast.ImportFrom)]
    modules = [node.module.split(".") for node in nodes if node.module]
    return [_source(PACKAGE.joinpath(*path).with_suffix(".py")) for package, *path in modules if package == "s6lib"]


def _reachable(module: ast.Module, start: Iterable[str], head: str) -> list[str]:
    """`head`, and the source of every definition of a module that `start` leads to, in the module's order."""
    defined = {name: node for node in module.body for name in _defines(node) if name != REGISTRY}
    found, waiting = set(), list(start)
    while waiting:
        name = waiting.pop()
        if name in defined and name not in found:
            found.add(name)
            waiting += _names([defined[name]])
    return [head, *(ast.unparse(node) for name, node in defined.items() if name in found)]


def _defines(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _names(nodes: Iterable[ast.AST | None]) -> list[str]:
    return [part.id for node in nodes if node for part in ast.walk(node) if isinstance(part, ast.Name)]


def _text(node: ast.AST | None) -> str:
    return ast.unparse(node) if node else ""


@cache
def _source(file: Path) -> str:
    return ast.unparse(_parse(file))


@cache
def _parse(file: Path) -> ast.Module:
    """A module's syntax tree without docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree
