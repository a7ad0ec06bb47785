"""Fixtures of the fault suite."""

import random

import pytest
from arena import TRIALS
from batch_project import TRIVIAL, Project


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """{trial: history} of an undisturbed batch, and how long it took to publish both trials."""
    project = Project(tmp_path_factory.mktemp("reference") / "p", **TRIALS)
    project.run("run", "--jobs", "2")
    histories = {name: project.history(name) for name in TRIALS}
    project.close()
    return histories


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path / "p", **TRIALS)
    yield made
    made.close()


@pytest.fixture
def dice(request):
    """Random moments, the same ones in every run of the suite."""
    return random.Random(request.node.name)


@pytest.fixture
def one(tmp_path):
    """A batch of one trial that trains nothing."""
    made = Project(tmp_path / "p", one=(TRIVIAL, {}))
    yield made
    made.close()
