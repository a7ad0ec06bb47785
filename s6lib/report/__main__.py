"""`python -m s6lib.report [--check | figures | gallery | ...]`: see the package's docstring."""

import sys
from pathlib import Path

from s6lib import data, paths, records
from s6lib.report import __doc__ as usage
from s6lib.report import address, gallery, markers, pictures
from s6lib.report.values import Evidence


def main(words: list[str]) -> int:
    e = Evidence()
    if words == ["--check"]:
        return check(e)
    if words == ["figures"]:
        print(*[f"drawn: {paths.relative_to_home(path)}" for path in pictures.draw(e)], sep="\n")
        return 0
    if words == ["gallery"]:
        return make_gallery(e)
    if len(words) == 2 and words[0] == "speedrun":
        return speedrun(e, Path(words[1]))
    if len(words) == 2 and words[0] == "url":
        return publish(words[1])
    if words:
        print(usage, file=sys.stderr)
        return 2
    changed = [path for path in markers.files() if markers.rewrite(path, e.value)]
    print(*[f"written: {paths.relative_to_home(path)}" for path in changed] or ["nothing to change"], sep="\n")
    return 0


def check(e: Evidence) -> int:
    found = [line for path in markers.files() for line in markers.differences(path, e.value)] + pictures.outdated(e)
    found += gallery.outdated(e)
    print(*found or ["every quoted number is what the committed files give"], sep="\n")
    if found:
        print("`make docs` writes the texts anew", file=sys.stderr)
    return int(bool(found))


def make_gallery(e: Evidence) -> int:
    """Needs MNIST, so that the digits show; exit code 2 where it cannot be had."""
    try:
        data.load("mnist")
    except data.DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in gallery.make(e):
        print(f"made anew: {paths.relative_to_home(path)}", flush=True)
    markers.rewrite(paths.home() / "docs" / "gallery.md", e.value)
    return 0


def publish(url: str) -> int:
    try:
        changed = address.publish(url)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    e = Evidence()
    for path in markers.files():  # the badges
        markers.rewrite(path, e.value)
    print(f"{url} written into {len(changed)} files")
    return 0


def speedrun(e: Evidence, folder: Path) -> int:
    """Replaces the rungs that the folder has records of; exit code 2 where it has none."""
    found = [record for record in records.find(folder)[0] if record.trial.study == "speedrun"]
    if not found:
        print(f"error: {folder} holds no record of study speedrun", file=sys.stderr)
        return 2
    print(f"written: {paths.relative_to_home(pictures.write_ladder(e, found))}")
    pictures.draw(e)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
