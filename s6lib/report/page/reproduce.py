"""How a run came to be and how to make it again: commands, commits, machines; and how to cite it."""

import dataclasses
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

import yaml

from s6lib import paths
from s6lib.records import Record
from s6lib.studies import STUDIES, find_arm
from s6lib.trial import Trial, make_trial


def command(record: Record) -> str:
    """What trains a record's trial anew: of an arm, a command for make; of any other trial, a line of Python; "" where
    its data, or the soft labels it learned from, are not those that s6lib loads."""
    if record.dataset["name"] not in paths.DATASETS or record.trial.distillation:
        return ""
    return for_make(record) if is_arm(record.trial) and has_entry(record) else for_python(record)


def is_arm(trial: Trial) -> bool:
    """Whether a trial has all settings of an arm, but perhaps the number of epochs."""
    known = find_arm(trial.study, trial.name)
    return known is not None and trial == make_trial(trial.study, trial.name, epochs=trial.epochs)


def has_entry(record: Record) -> bool:
    """Whether an entry of studies.toml trains this: a notebook of several arms may do so at its own budget only."""
    study, name = STUDIES[record.trial.study], record.trial.name
    as_planned = record.dataset["name"] != "digits" and record.trial.epochs == study.settings(name)["epochs"]
    return as_planned or study.run(name) == name


def for_python(record: Record) -> str:
    """Every setting that is not the default, whatever studies and notebooks there are."""
    defaults = {field.name: field.default for field in dataclasses.fields(Trial)}
    settings = {name: value for name, value in vars(record.trial).items() if value != defaults[name]}
    trial = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    options = f"{record.seeds}, precision={record.provenance.get('precision', 'auto')!r}"
    imports = "from s6lib import data, training; from s6lib.trial import Trial"
    train = f"training.train(Trial({trial}), data.load({record.dataset['name']!r}), {options})"
    return shlex.join([".venv/bin/python", "-c", f"{imports}; {train}"])


def for_make(record: Record) -> str:
    """The entry of studies.toml that makes it, in the profile of its data set, and all that is not its arm's own."""
    trial, study = record.trial, STUDIES[record.trial.study]
    profile = "quick" if record.dataset["name"] == "digits" else "full"
    words = ["make", "run", f"PROFILE={profile}", f"STUDY={trial.study}"]
    words += [f"TRIAL={study.run(trial.name)}"]
    words += [f"DATASET={record.dataset['name']}", f"SEEDS={max(record.seeds, default=0) + 1}"]
    if profile == "quick" or trial.epochs != study.settings(trial.name)["epochs"]:
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
