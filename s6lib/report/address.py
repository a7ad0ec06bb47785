"""Where the repository lives: one address, written into the package's metadata, the citation and every notebook."""

import re
import tomllib
from pathlib import Path

from s6lib import paths
from s6lib.records import replace_file


def files() -> list[Path]:
    root = paths.home()
    copies = ("notebooks/**/*.ipynb", "tests/reference/*.ipynb", "results/reference/*.ipynb", "docs/gallery/*.ipynb")
    notebooks = [path for pattern in copies for path in sorted(root.glob(pattern))]
    return [root / "pyproject.toml", root / "CITATION.cff", *notebooks]


def current() -> str:
    text = (paths.home() / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"]["urls"]["Repository"]


def publish(address: str) -> list[Path]:
    """Replaces the address everywhere; the files that changed. Raises ValueError for what is no address."""
    if not re.fullmatch(r"https://[\w.-]+(/[\w.-]+)+", address):
        raise ValueError(f"URL={address!r} is not an address such as https://github.com/<name>/s6lib")
    old, changed = current(), []
    for file in files():
        text = file.read_text(encoding="utf-8")
        if old in text and old != address:
            replace_file(file, text.replace(old, address).encode())
            changed.append(file)
    return changed
