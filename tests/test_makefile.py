"""What the Makefile hands on, without running it (`make -n`)."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def make(*words):
    return subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("target", ["run-all", "status", "plan", "prune", "summary", "report", "decide"])
def test_every_target_works_in_the_folder_that_is_named(target):
    assert '--run "mine"' in make(target, "NAME=mine").stdout


def test_prune_deletes_only_when_told_so():
    assert "s6lib prune" in make("prune").stdout
    assert "--yes" not in make("prune").stdout
    assert "--yes" in make("prune", "YES=1").stdout


@pytest.mark.parametrize("words", [("run-all", "HOURS=3"), ("decide", "PROFILE=quick")])
def test_what_a_target_would_not_heed_is_refused(words):
    done = make(*words)
    assert done.returncode == 2
    assert f"{words[1]}: decide" in done.stderr


@pytest.mark.parametrize("word", ["no", "0", "yes", "true"])
def test_prune_refuses_another_word_than_1(word):
    done = make("prune", f"YES={word}")
    assert done.returncode == 2
    assert f"YES={word}; valid: 1" in done.stderr
