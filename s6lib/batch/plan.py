"""What a batch has to do: studies.toml and the notebooks -> runs, checked before anything starts.

No torch and no papermill here, so `plan` answers at once.
"""

import ast
import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from s6lib.paths import DATASETS
from s6lib.records import MOST_SEEDS, PRECISIONS
from s6lib.records.files import digest_of
from s6lib.studies import STUDIES

KINDS: dict[str, Any] = {
    "int": int,
    "float": (int, float),
    "str": str,
    "bool": bool,
    "list": list,
    "tuple": list,
    "dict": dict,
    "None": type(None),
}


class PlanError(Exception):
    """A request that cannot be met as it stands; the message names what is wrong and what would be valid."""


@dataclass(frozen=True)
class Run:
    """One notebook with the parameters it will get. `settings` are those and the notebook's own defaults."""

    study: str
    trial: str
    notebook: Path
    parameters: dict
    settings: dict
    code: str  # hash of the notebook's code cells, apart from the parameters

    @property
    def name(self) -> str:
        return f"{self.study}/{self.trial}"


# --- from studies.toml to runs -------------------------------------------------------------------


def make_plan(
    studies_file: Path, profile: str, studies: str = "", trials: str = "", overrides: dict | None = None
) -> list[Run]:
    """The runs that a profile asks for, all checked; `studies` and `trials` (comma-separated) narrow them down."""
    table = read_studies(studies_file)
    one_of("profile", profile, table["profiles"])
    wanted = list(dict.fromkeys(names(studies))) or list(table["studies"])
    for study in wanted:
        one_of("study", study, table["studies"])
    chosen = [(s, t) for s in wanted for t in table["studies"][s] if t not in table["profiles"]]
    if trials:
        asked = [find_trial(name, chosen) for name in names(trials)]
        chosen = [pair for pair in chosen if pair in asked]
    notebooks = studies_file.parent / "notebooks"
    return [make_run(notebooks, table, profile, study, trial, overrides or {}) for study, trial in chosen]


def find_trial(name: str, pairs: list[tuple[str, str]]) -> tuple[str, str]:
    """The (study, trial) that `name`, a trial or study/trial, stands for. Raises PlanError where none or several do."""
    found = [pair for pair in pairs if name in (pair[1], "/".join(pair))]
    if len(found) > 1:
        raise PlanError(f"trial {name!r} is in several studies; say which: {', '.join(map('/'.join, found))}")
    if not found:
        one_of("trial", name, [f"{study}/{trial}" if "/" in name else trial for study, trial in pairs])
    return found[0]


def read_studies(path: Path) -> dict:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror}); run this in the folder that holds it") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: {error}") from error
    if not {"profiles", "studies"} <= set(table):
        raise PlanError(f"{path}: needs tables [profiles.<name>] and [studies.<study>.<trial>]")
    for where, value in tables_of(table):
        if not isinstance(value, dict):
            raise PlanError(f"{path}: {where} = {json.dumps(value, default=str)}; expected a table {{...}}")
    return table


def tables_of(table: dict) -> Iterator[tuple[str, object]]:
    """What must be tables in studies.toml, each before those within it."""
    for kind in ("profiles", "studies", "tutorials"):
        yield kind, table.get(kind, {})
    yield from ((f"profiles.{name}", value) for name, value in table["profiles"].items())
    for study, entries in table["studies"].items():
        yield f"studies.{study}", entries
        for trial, entry in entries.items():
            yield f"studies.{study}.{trial}", entry
            inner = entry.keys() & {"parameters", *table["profiles"]}
            yield from ((f"studies.{study}.{trial}.{name}", entry[name]) for name in sorted(inner))


def make_run(notebooks: Path, table: dict, profile: str, study: str, trial: str, overrides: dict) -> Run:
    """Later wins: notebook, profile, the study's own for that profile, the trial, its own for the profile, the call."""
    arms = table["studies"][study]
    entry, name = arms[trial], f"{study}/{trial}"
    where = f"studies.toml: {study}.{trial}"
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        raise PlanError(f"{where}: names become folders; only letters, digits, _, - and . inside are allowed")
    unknown = set(entry) - {"notebook", "parameters", *table["profiles"]}
    if unknown or not isinstance(entry.get("notebook"), str):
        raise PlanError(
            f"{where}: expected notebook = ..., parameters = {{...}}; found {', '.join(entry) or 'nothing'}"
        )
    parameters = {**table["profiles"][profile], **arms.get(profile, {}), **entry.get("parameters", {})}
    parameters |= {**entry.get(profile, {}), **overrides}
    path = notebooks / entry["notebook"]
    declared, code = read_notebook(path)
    for parameter, value in parameters.items():
        check_parameter(name, parameter, value, declared)
    settings = {parameter: default for parameter, (_, default) in declared.items()} | parameters
    check_ranges(name, settings)
    return Run(study, trial, path.resolve(), parameters, settings, code)


def names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def one_of(kind: str, name: str, valid: Iterable[str]) -> None:
    valid = list(dict.fromkeys(valid))
    if name not in valid:
        close = closest(name, valid)
        hint = f"did you mean {close!r}? " if close else ""
        raise PlanError(f"unknown {kind} {name!r}: {hint}valid: {', '.join(valid) or 'none'}")


def closest(name: str, valid: list[str]) -> str:
    """The most similar valid name: one with the same letters first; "" where none is similar."""
    swapped = [word for word in valid if sorted(word) == sorted(name)]
    return next(iter([*swapped, *difflib.get_close_matches(name, valid, 1)]), "")


# --- notebooks and their parameters --------------------------------------------------------------


@cache
def read_notebook(path: Path, needed: str = "dataset") -> tuple[dict[str, tuple[str, object]], str]:
    """{parameter: (annotation, default)} of the cell tagged `parameters`, and a hash of all other code cells."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = [(source(cell), cell["metadata"].get("tags", [])) for cell in cells if cell["cell_type"] == "code"]
        tagged = [text for text, tags in code if "parameters" in tags]
        declared = declarations(tagged[0]) if len(tagged) == 1 else {}
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, SyntaxError) as error:
        raise PlanError(f"{path}: not a notebook with plain literals as parameters ({error})") from error
    if needed not in declared:
        raise PlanError(f"{path}: needs one cell tagged `parameters`, with {needed} among them")
    rest = [text.rstrip() for text, tags in code if "parameters" not in tags]
    return declared, digest_of(rest)[:16]


# Each of these once: what the cells say that all trial notebooks share.
TRIAL_CELLS = (
    r"^images = \w+\.load\(dataset\)$",
    r"^trial = make_trial\(",
    r"^record = training\.\w+\(trial, images, seeds, precision=precision\b.*\)$",
)


@cache
def trains_one_trial(path: Path) -> bool:
    """Whether a notebook trains one trial and nothing else, on the whole data, as the trial notebooks do."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join(source(cell) for cell in cells if cell["cell_type"] == "code")
    once = all(len(re.findall(line, code, re.MULTILINE)) == 1 for line in TRIAL_CELLS)
    return once and len(re.findall(r"make_trial\(|train\w*\(", code)) == 2


def source(cell: dict) -> str:
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def declarations(text: str) -> dict[str, tuple[str, object]]:
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.AnnAssign | ast.Assign) and node.value is not None:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            default = json.loads(json.dumps(ast.literal_eval(node.value)))  # as JSON has it: tuples are lists
            kind = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else type(default).__name__
            found[ast.unparse(target)] = (kind, default)
    return found


def check_parameter(where: str, name: str, value: object, declared: dict[str, tuple[str, object]]) -> None:
    """Raises PlanError unless the notebook declares `name` and `value` is JSON-plain and of the declared type."""
    try:
        one_of("parameter", name, declared)
    except PlanError as error:
        raise PlanError(f"{where}: {error}") from None
    if not is_plain(value):
        raise PlanError(f"{where}: {name}={value!r} is not plain JSON (numbers, strings, booleans, lists, tables)")
    if not fits(value, kind := declared[name][0]):
        raise PlanError(f"{where}: {name}={value!r} is a {type(value).__name__}; expected {kind}")


def is_plain(value: object) -> bool:
    try:
        return json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError):
        return False


def fits(value: object, annotation: str) -> bool:
    kinds = {part.split("[")[0].strip() for part in annotation.split("|")}
    if isinstance(value, bool):
        return "bool" in kinds
    return any(isinstance(value, KINDS.get(kind, object)) for kind in kinds)


def check_ranges(where: str, settings: dict) -> None:
    """What is cheap to refuse here; everything else is refused by the notebook's own trial cell."""
    for name in ("seeds", "epochs"):
        if isinstance(settings.get(name), int) and settings[name] < 1:
            raise PlanError(f"{where}: {name}={settings[name]} is out of range; valid: 1 or more")
    if empty := [name for name, value in settings.items() if value == []]:
        raise PlanError(f"{where}: {empty[0]}=[] is empty; valid: a list of one or more")
    if isinstance(settings.get("seeds"), int) and settings["seeds"] > MOST_SEEDS:
        raise PlanError(f"{where}: seeds={settings['seeds']} is out of range; valid: {MOST_SEEDS:,} at most")
    if "dataset" in settings:
        one_of("dataset", settings["dataset"], DATASETS)
    if "precision" in settings:
        one_of("precision", settings["precision"], PRECISIONS)


def arm_differences(run: Run) -> str:
    """Which settings of a run are not those of its arm; "" for a trial that is no arm of its study."""
    if run.study not in STUDIES or run.trial not in STUDIES[run.study].arms:
        return ""
    arm = json.loads(json.dumps(STUDIES[run.study].settings(run.trial)))
    shared = [name for name in arm if name in run.settings]
    return difference({name: arm[name] for name in shared}, {name: run.settings[name] for name in shared})


def difference(old: dict, new: dict) -> str:
    """What differs, in words: "epochs 2 -> 3, l1 0.0 -> 1e-05"."""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return ", ".join(f"{key} {json.dumps(old.get(key))} -> {json.dumps(new.get(key))}" for key in keys)
