"""Text between markers, which code writes.

In `<!--= mean regularisers/gbn -->99.47<!--/-->` the first comment names one of `values.VALUES` and its arguments.
HTML comments show neither on GitHub nor on PyPI nor in a notebook. A table stands on lines of its own; in a notebook,
which is JSON, there is room for one line only.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from s6lib import paths
from s6lib.records import replace_file

MARKED = re.compile(r"(<!--= ([^>]+?) -->)(.*?)(<!--/-->)", re.DOTALL)
PLACES: tuple[str, ...] = ("*.md", "docs/*.md", "results/README.md", "notebooks/**/*.ipynb")
PLACES += ("*/reference/*.ipynb", "docs/gallery/*.ipynb")  # executed copies hold the notebooks' text as well
Value = Callable[[str], str]


def files() -> list[Path]:
    """Every file that may hold markers."""
    return [path for pattern in PLACES for path in sorted(paths.home().glob(pattern))]


def marked(path: Path) -> Iterator[tuple[str, str]]:
    """Each expression of a file and the text that stands there."""
    return ((found[2], found[3]) for found in MARKED.finditer(path.read_text(encoding="utf-8")))


def differences(path: Path, value: Value) -> list[str]:
    """A line for each marked text of a file that is not what `value` of its expression gives."""
    pairs = [(name, text, _framed(value(name), path)) for name, text in marked(path)]
    return [f"{path.name}: <!--= {name} -->: {_first(a, b)}" for name, a, b in pairs if a != b]


def rewrite(path: Path, value: Value) -> bool:
    """Fills every marked text of a file; True where something changed."""
    source = path.read_text(encoding="utf-8")
    filled = MARKED.sub(lambda found: found[1] + _framed(value(found[2]), path) + found[4], source)
    if filled != source:
        replace_file(path, filled.encode())
    return filled != source


def _framed(value: str, path: Path) -> str:
    if path.suffix == ".ipynb":
        return json.dumps(value, ensure_ascii=False)[1:-1]
    return f"\n\n{value}\n\n" if "\n" in value else value


def _first(found: str, expected: str) -> str:
    """The first line that differs."""
    a, b = found.strip("\n").split("\n"), expected.strip("\n").split("\n")
    a, b = a + [""] * (len(b) - len(a)), b + [""] * (len(a) - len(b))
    x, y = next((x, y) for x, y in zip([*a, found], [*b, expected], strict=True) if x != y)
    return f"found {x!r}, the committed files give {y!r}"
