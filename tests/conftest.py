"""What all tests share: one thread, a quiet library, and a data set small enough to train on in a moment."""

import os
import tempfile

os.environ["S6_QUIET"] = "1"  # no progress bars, in child processes neither
os.environ["S6_LAB"] = tempfile.mkdtemp(prefix="s6lab-")  # what session fixtures train

import hypothesis
import pytest
import torch

from s6lib import data

torch.set_num_threads(1)  # the networks are tiny, and several test processes may share the machine

# The same examples on every run, and none stored: a failure in CI is a failure here.
hypothesis.settings.register_profile("repeatable", derandomize=True, database=None, deadline=None, max_examples=30)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _fixed_global_seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_results(tmp_path_factory, monkeypatch):
    """Every test trains anew and leaves nothing in results/lab."""
    monkeypatch.setenv("S6_LAB", str(tmp_path_factory.mktemp("lab")))


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture(scope="session")
def tiny(digits) -> data.Dataset:
    """24 training and 10 test images: with batches of 8, three steps an epoch."""
    return data.limit(digits, 24, 10)
