"""Many machines: the seeds of one trial as tasks, a part each, and its notebook once they are there.

A task trains what the trial's notebook would: the arm of the study with the run's settings. Were that ever another
trial, its parts would lie unused and the notebook would train its own: nothing wrong is read.
"""

import traceback
from collections.abc import Iterable

from s6lib.batch.plan import Run, trains_one_trial
from s6lib.studies import STUDIES

MOST = 16  # seeds of a task: more train no faster each, and are longer on one worker


def chunks(runs: Iterable[Run], width: int) -> dict[str, list[list[int]]]:
    """{run: its seeds in groups}, where that makes more than one task of it; sizes that keep `width` workers busy.

    By all of a run's seeds, also those that are there already: the same command, run again, groups them alike.
    """
    runs = [run for run in runs if can_be_split(run)]
    seeds = sum(run.settings["seeds"] for run in runs)
    size = max(1, min(MOST, -(-seeds // width)))
    made = {run.name: split(run.settings["seeds"], size) for run in runs}
    return {name: groups for name, groups in made.items() if len(groups) > 1}


def split(seeds: int, size: int) -> list[list[int]]:
    return [list(range(start, min(start + size, seeds))) for start in range(0, seeds, size)]


def can_be_split(run: Run) -> bool:
    arms = STUDIES[run.study].arms if run.study in STUDIES else {}
    return run.trial in arms and type(run.settings.get("seeds")) is int and trains_one_trial(run.notebook)


def part_of(run: Run, seeds: list[int]) -> dict:
    """What a task needs to know, JSON-plain."""
    return {"study": run.study, "trial": run.trial, "settings": run.settings, "seeds": seeds}


def train_part(part: dict) -> tuple[str, str]:
    """Trains the seeds of `part`, which adds them to the results; ("ok", "") or a kind of fault and a line about it."""
    from s6lib import data, training
    from s6lib.trial import FIELDS, make_trial

    try:
        settings = {name: value for name, value in part["settings"].items() if name in FIELDS}
        trial = make_trial(part["study"], part["trial"], **settings)
        images = data.load(part["settings"]["dataset"])
        training.train(trial, images, part["seeds"], precision=part["settings"].get("precision", "auto"))
    except OSError as error:
        return "disk", f"{error.filename}: {error.strerror or error}"
    except Exception as error:
        traceback.print_exc()
        return "code", f"{type(error).__name__}: {error}"
    return "ok", ""
