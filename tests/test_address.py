"""The repository's address stands in one place's worth of text: it can be replaced everywhere at once."""

import shutil

import pytest

from s6lib import paths
from s6lib.report import address

NEW = "https://github.com/somebody/s6lib"


@pytest.fixture
def copy(tmp_path, monkeypatch):
    for name in ("pyproject.toml", "CITATION.cff", "notebooks"):
        source = paths.home() / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    monkeypatch.setattr(paths, "home", lambda: tmp_path)
    return tmp_path


def test_publish_replaces_the_address_everywhere(copy):
    old, files = address.current(), address.files()
    assert all(old in file.read_text(encoding="utf-8") for file in files)
    assert address.publish(NEW) == files
    assert address.current() == NEW
    assert not any(old in file.read_text(encoding="utf-8") for file in files)


@pytest.mark.parametrize("wrong", ["", "github.com/a/b", "https://github.com", 'https://x/y"; rm'])
def test_publish_refuses_what_is_no_address(copy, wrong):
    with pytest.raises(ValueError, match="is not an address such as"):
        address.publish(wrong)
    assert address.current() != wrong


def test_colab_stops_at_the_placeholder(copy):
    # pip would fail on it, and the notebook would go on without the library
    for file in address.files()[2:]:
        text = file.read_text(encoding="utf-8")
        assert text.index('assert \\"your-name\\" not in REPOSITORY') < text.index("%pip install")
