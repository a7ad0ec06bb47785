"""The page's commands: each is one that make takes, and trains what it stands under."""

import re
import shlex
from pathlib import Path

import pytest
from pages import NAMES, one

from s6lib.batch.plan import make_plan
from s6lib.report.page import reproduce
from s6lib.studies import STUDIES
from s6lib.trial import Trial

ROOT = Path(__file__).parents[2]


def given(text: str) -> dict[str, str]:
    """The variables of a command for make."""
    words = shlex.split(text)
    assert words[:2] == ["make", "run"]
    return dict(word.split("=", 1) for word in words[2:])


@pytest.mark.parametrize("place", range(len(NAMES)), ids=["/".join(name) for name in NAMES])
def test_every_arm_has_a_command_that_trains_it(place):
    # arms of sweeps and progressions have no entry of their own in studies.toml: a notebook trains several, which need
    # not be so many epochs as it is told; at another budget than their own they have a line of Python
    record = one(place, seeds=5, epochs=4)
    if STUDIES[NAMES[place][0]].run(NAMES[place][1]) != NAMES[place][1]:
        assert trial_of(reproduce.command(record)) == record.trial
        record = one(place, seeds=5, epochs=STUDIES[NAMES[place][0]].settings(NAMES[place][1])["epochs"])
        record.dataset = {**record.dataset, "name": "mnist"}
        options = given(reproduce.command(record))
        assert (options["PROFILE"], options["TRIAL"]) == ("full", STUDIES[NAMES[place][0]].run(NAMES[place][1]))
        assert "EPOCHS" not in options
        return
    options = given(reproduce.command(record))
    known = re.search(r"^KNOWN +:= (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert set(options) <= set(known)
    profile, study, trial = (options.pop(name) for name in ("PROFILE", "STUDY", "TRIAL"))
    asked = {name.lower(): int(value) if value.isdigit() else value for name, value in options.items()}
    (run,) = make_plan(ROOT / "studies.toml", profile, study, trial, asked)
    found = [run.settings[name] for name in ("dataset", "seeds", "epochs")]
    assert (profile, found) == ("quick", ["digits", 5, 4])
    assert study == NAMES[place][0]


def trial_of(text: str) -> Trial:
    """The trial in a command for Python."""
    program = shlex.split(text)[2]
    return eval(re.search(r"train\((Trial\(.*\)), data\.load", program)[1])


@pytest.mark.parametrize("changed", [{"l1": 3e-5}, {"name": "mine"}, {"widths": [3, 4, 5, 6, 6]}])
def test_other_trials_have_a_line_of_python(changed):
    # make's entries train arms; a sweep's own value, or another setting, is in none of them
    place = NAMES.index(("frontier", "p3k"))
    record = one(place)
    settings = {**record.trial.settings(), **changed}
    record.trial = Trial(**settings)
    assert trial_of(reproduce.command(record)) == record.trial
    assert f"{record.seeds}, precision='auto'" in shlex.split(reproduce.command(record))[2]


def test_data_that_cannot_be_loaded_have_no_command():
    record = one(0)
    record.dataset = {**record.dataset, "name": "mine"}
    assert reproduce.command(record) == ""


def test_epochs_are_said_where_they_are_not_the_arms_own():
    record = one(0, epochs=4)
    record.dataset = {**record.dataset, "name": "mnist"}
    options = given(reproduce.command(record))
    assert (options["PROFILE"], options["EPOCHS"]) == ("full", "4")
