"""Full and read-only disks, and awkward paths: a message with the path, an exit code, earlier records unharmed."""

import shutil

import pytest
from arena import FULL, Mount
from batch_project import TRIVIAL, Project

from s6lib import records

pytestmark = pytest.mark.slow


def check_parts(project: Project, trial: str) -> None:
    """The trial has parts, and every one of them is whole."""
    parts = [part for part in project.parts() if part.startswith(f"{trial}/")]
    assert parts
    for part in parts:
        records.check(project.results / part)


@pytest.fixture
def disk(tmp_path):
    """A project whose results are on a tmpfs of 4 MB."""
    project = Project(tmp_path / "p", first=(TRIVIAL, {}), second=(TRIVIAL, {}))
    mount = Mount(project.path / "results", "4m")
    yield project, mount
    mount.close()
    project.close()


def test_disk_fills_while_a_notebook_writes(disk):
    project, _ = disk
    project.run("run", "--trial", "first")
    output = project.run("run", "--trial", "second", "-p", "behaviour=fill", code=1)
    assert "No space left on device" in output
    check_parts(project, "s/first")
    assert project.finished() == ["s/first"]
    project.run("run", "--trial", "first,second")  # the parameters are others now, and the ballast is swept up
    assert project.finished() == ["s/first", "s/second"]


@pytest.mark.parametrize("free", [0, 4, 8, 12, 16, 24, 32, 48] if FULL else [0, 12])
def test_disk_full_at_any_moment(disk, free):
    """With `free` kB left a trial fails with a path, or succeeds; with room again, the same command completes it."""
    project, mount = disk
    project.run("run", "--trial", "first")
    ballast = mount.path / "ballast"
    with ballast.open("wb", buffering=0) as file:
        room = shutil.disk_usage(mount.path).free - 1024 * free
        file.write(bytes(max(room, 0)))
    output = project.run("run", code=None)
    check_parts(project, "s/first")
    if "s/second" in project.finished():
        check_parts(project, "s/second")
    else:
        assert "No space left on device" in output
        assert str(project.results) in output
    assert "Traceback" not in output.split("    | ")[0]
    ballast.unlink()
    project.run("run")
    assert project.finished() == ["s/first", "s/second"]
    assert [path for path in project.leftovers() if "/.failed" not in path] == []


def test_read_only_results(disk):
    project, mount = disk
    project.run("run", "--trial", "first")
    mount.option("ro")
    output = project.run("run", code=2)
    assert f"error: {project.results}" in output
    assert "Read-only file system" in output
    assert "s/first   done" in project.run("status")
    check_parts(project, "s/first")


def test_results_is_a_file(tmp_path):
    project = Project(tmp_path / "p", first=(TRIVIAL, {}))
    (project.path / "results").write_text("in the way")
    assert "cannot be written (Not a directory)" in project.run("run", code=2)
    project.close()


def test_awkward_paths(tmp_path):
    """Spaces, quotes, non-ASCII letters, braces (papermill fills them in) and well over 100 characters."""
    folder = tmp_path / "Ünï cödé 試験" / "it's {seeds} $HOME" / ("long " * 20).strip()
    project = Project(folder, first=(TRIVIAL, {}))
    project.run("run")
    assert project.finished() == ["s/first"]
    assert project.leftovers() == []
    assert "1 skipped" in project.run("run")
    project.close()
