"""The whole plan runs the tutorials and then the summary; a part of it runs the summary alone."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from s6lib.batch import runner as batch

STUDIES = Path(__file__).parent.parent / "studies.toml"


@pytest.mark.parametrize(("trial", "expected"), [("", ["by_hand", "summary"]), ("gbn", ["summary"])])
def test_tutorials_belong_to_the_whole_plan(trial, expected, tmp_path, monkeypatch):
    # names and parameters of the auxiliary notebooks, nothing being executed
    ran = {}
    monkeypatch.setattr(batch.Batch, "work", lambda self: None)
    monkeypatch.setattr(
        batch.Batch, "_run_auxiliary_notebook", lambda self, name, file, values, *_: ran.update({name: values})
    )
    monkeypatch.setattr(batch, "signals", nullcontext)
    request = batch.Request(STUDIES, trial=trial, results=tmp_path)
    assert batch.run(request) == 0
    assert list(ran) == expected
    assert ran.get("by_hand", {"dataset": "digits"}) == {"dataset": "digits"}
