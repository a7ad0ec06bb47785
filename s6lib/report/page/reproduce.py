"""How a run came to be and how to make it again: commands, commits, machines; and how to cite it."""

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

import yaml

from s6lib import paths
from s6lib.records import Record
from s6lib.studies import STUDIES, find_arm


def command(record: Record) -> str:
    """The command that trains a record's trial anew: the entry of studies.toml that makes it, and all that is not its
    arm's own. The profile is the one of its data set."""
    trial, study = record.trial, STUDIES.get(record.trial.study)
    profile = "quick" if record.dataset["name"] == "digits" else "full"
    words = ["make", "run", f"PROFILE={profile}", f"STUDY={trial.study}"]
    words += [f"TRIAL={study.run(trial.name) if study else trial.name}"]
    words += [f"DATASET={record.dataset['name']}", f"SEEDS={max(record.seeds, default=0) + 1}"]
    usual = study.settings(trial.name)["epochs"] if study and find_arm(trial.study, trial.name) else trial.epochs
    if profile == "quick" or trial.epochs != usual:
        words.append(f"EPOCHS={trial.epochs}")
    if precision := record.provenance.get("precision"):
        words.append(f"PRECISION={precision}")
    return shlex.join(words)


def machines(found: Sequence[Record]) -> list[dict[str, str]]:
    """What made the records, each combination once: commit, machine, software; and how many parts it made."""
    sources = (source for record in found for source in record.sources)
    counts = Counter((commit(source), machine(source), software(source)) for source in sources)
    names = ("commit", "machine", "software")
    return [{**dict(zip(names, key, strict=True)), "parts": str(n)} for key, n in counts.items()]


def commit(source: dict[str, Any]) -> str:
    known = str(source.get("git_commit") or "unknown")
    return known + (", with local changes" if source.get("git_dirty") else "")


def machine(source: dict[str, Any]) -> str:
    parts = (source.get("processor"), source.get("device"), source.get("precision"), source.get("platform"))
    return ", ".join(str(part) for part in parts if part) or "unknown"


def software(source: dict[str, Any]) -> str:
    versions = source.get("versions") or {}
    return ", ".join([f"Python {source.get('python', 'unknown')}", *(f"{k} {v}" for k, v in versions.items())])


def bibtex() -> str:
    """CITATION.cff as BibTeX; "" where the package lies in no repository."""
    try:
        about = yaml.safe_load((paths.home() / "CITATION.cff").read_text(encoding="utf-8"))
        authors = " and ".join(
            f"{{{one['name']}}}" if "name" in one else f"{one['family-names']}, {one['given-names']}"
            for one in about["authors"]
        )
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        return ""
    fields = {
        "title": about.get("title"),
        "author": authors,
        "url": about.get("repository-code"),
        "version": about.get("version"),
    }
    fields["year"] = str(about.get("date-released", ""))[:4]
    lines = [f"  {key} = {{{value}}}," for key, value in fields.items() if value]
    return "\n".join(["@software{s6lib,", *lines, "}"])
