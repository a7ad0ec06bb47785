"""Where a benchmark leaves what it measured."""

import argparse
import json
from pathlib import Path

from s6lib.records import replace_file


def place(options: argparse.Namespace, name: str) -> Path:
    """`name`.json in the folder `options.out`, which is made; with --small small-`name`.json, no measurement."""
    options.out.mkdir(parents=True, exist_ok=True)
    return options.out / f"{'small-' if options.small else ''}{name}.json"


def write(options: argparse.Namespace, name: str, result: dict) -> Path:
    """Replaces what is in that place, which is never half-written."""
    path = place(options, name)
    replace_file(path, (json.dumps(result, indent=1) + "\n").encode())
    return path
