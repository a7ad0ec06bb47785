"""Provenance: what produced a record, and a fingerprint of the training code that its trial uses."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from s6lib import provenance
from s6lib.models.norms import NORMALISERS
from s6lib.studies import NETWORKS


def test_provenance_fields():
    # Everything a reader needs to repeat it; all of it JSON-plain.
    found = json.loads(json.dumps(provenance.provenance("batch", "gap")))
    fields = {"git_commit", "git_dirty", "source", "python", "versions", "platform", "processor"}
    assert set(found) >= fields
    assert {"torch", "torchvision", "numpy"} <= set(found["versions"])
    assert re.fullmatch(r"[0-9a-f]{16}", found["source"])


def test_provenance_without_git(monkeypatch):
    # Neither a repository nor git: unknown, not an error.
    monkeypatch.setenv("PATH", "/nowhere")
    found = provenance.provenance("batch", "gap")
    assert found["git_commit"] is None
    assert found["git_dirty"] is None


@pytest.fixture
def package(tmp_path, monkeypatch) -> Iterator[Path]:
    """A copy of the library whose fingerprints are taken."""
    folder = tmp_path / "s6lib"
    shutil.copytree(provenance.PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", folder)
    yield folder
    forget()


def forget() -> None:
    for cached in (provenance.source_fingerprint, provenance._source, provenance._parse):
        cached.cache_clear()


def fingerprints() -> dict[tuple[str, str], str]:
    forget()
    pairs = [(normaliser, "gap") for normaliser in NORMALISERS] + [("batch", network) for network in NETWORKS]
    return {pair: provenance.source_fingerprint(*pair) for pair in pairs}


def changed(package: Path, file: str, old: str, new: str) -> set[tuple[str, str]]:
    """The normalisers and networks whose fingerprint changes with `old` -> `new` in a file."""
    before, path = fingerprints(), package / file
    assert old in path.read_text(encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    after = fingerprints()
    return {pair for pair in before if before[pair] != after[pair]}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("models/norms.py", "# weight of the newest batch", "# the weight of the newest batch"),
        ("models/norms.py", '    """[C] as [C, 1, 1], to broadcast over [N, C, H, W]."""\n', ""),
        ("models/norms.py", "return values.view(-1, 1, 1)", "return values.view(\n        -1, 1, 1\n    )"),
        ("records/parts.py", "import json", "import abc\nimport json"),
        ("studies/regularisers.py", '"batch norm, L1"', '"batch norm with L1"'),
    ],
)
def test_comments_layout_and_labels_change_nothing(package, file, old, new):
    # Blind to comments, docstrings, layout and code that no number depends on.
    assert changed(package, file, old, new) == set()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("training/trainer.py", "losses.sum().backward()", "losses.mean().backward()"),
        ("training/optim.py", "trial.l2", "2 * trial.l2"),
        ("streams.py", "epoch]", "epoch + 1]"),
        ("data.py", "ANGLE_STEP = 0.02", "ANGLE_STEP = 0.01"),
    ],
)
def test_code_that_trains_changes_every_fingerprint(package, file, old, new):
    assert len(changed(package, file, old, new)) == len(NORMALISERS) + len(NETWORKS) - 1


def test_a_normaliser_changes_only_its_own_trials(package):
    found = changed(package, "models/norms.py", "parts.square().mean(", "parts.square().sum(")
    assert {normaliser for normaliser, _ in found} == {"rms"}
    found = changed(package, "models/norms.py", "self.weight - mean)", "self.weight + mean)")
    assert {normaliser for normaliser, _ in found} == {"group_ws"}


def test_a_network_changes_only_its_own_trials(package):
    found = changed(package, "studies/regularisers.py", "net.conv(8)", "net.conv(9)")
    assert {network for _, network in found} == {"regularisers"}


def test_layers_that_one_network_imports_change_only_its_trials(package):
    found = changed(package, "models/views.py", "x.unflatten(0, (self.views, -1)).mean(0)", "x[: len(x) // self.views]")
    assert {network for _, network in found} == {"frontier_views"}


def test_a_new_normaliser_changes_no_fingerprint(package):
    # One class and one line: the records of all other trials stay fresh.
    line = '    "none": None,\n'
    assert changed(package, "models/norms.py", line, line + '    "toy": lambda context: Toy(),\n') == set()
    text = "class RMSNorm2d"
    assert changed(package, "models/norms.py", text, f"class Toy(nn.Module):\n    pass\n\n\n{text}") == set()


def test_fingerprint_covers_what_training_imports():
    # Every module that the trainer imports, directly or not, counts, but for those no number depends on.
    harmless = {"s6lib.records", "s6lib.provenance", "s6lib.paths", "s6lib.training.checkpoint", "s6lib.studies.base"}
    harmless |= {f"s6lib.records.{name}" for name in ("answers", "files", "head", "parts", "reading", "record")}
    harmless |= {"s6lib.models.describe", "s6lib.models.replicas", "s6lib.studies"}
    covered = {"s6lib." + name.removesuffix(".py").replace("/", ".") for name in provenance.ALWAYS}
    covered |= {"s6lib.models.norms", "s6lib.models.views"} | {f"s6lib.studies.{path.stem}" for path in studies()}
    assert imported("s6lib.training.trainer") <= covered | harmless


def studies() -> list[Path]:
    return [path for path in (provenance.PACKAGE / "studies").glob("*.py") if path.stem not in ("base", "__init__")]


FACES = {"s6lib", "s6lib.models", "s6lib.training"}  # packages that only pass names on


def imported(start: str) -> set[str]:
    """Modules of this package that `start` imports at its top, and what those import."""
    found, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        path = provenance.PACKAGE.parent / (name.replace(".", "/") + ".py")
        path = path if path.exists() else path.with_suffix("") / "__init__.py"
        if name not in found | FACES and path.exists():
            found.add(name)
            text = path.read_text(encoding="utf-8")
            for module, names in re.findall(r"^from (s6lib[\w.]*) import (.+)", text, re.M):
                waiting += [module, *(f"{module}.{part.split()[0]}" for part in names.split(","))]
    return found
