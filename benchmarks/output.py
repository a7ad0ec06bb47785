"""Where a benchmark leaves what it measured."""

import argparse
import json
from pathlib import Path

from s6lib.records import replace_file


def write(options: argparse.Namespace, name: str, result: dict) -> Path:
    """Writes `name`.json into the folder `options.out`; small-`name`.json with --small, which measures nothing."""
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{'small-' if options.small else ''}{name}.json"
    replace_file(path, (json.dumps(result, indent=1) + "\n").encode())
    return path
