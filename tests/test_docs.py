"""README, docs/ and notebooks: every quoted number is the committed files', every committed file has a command."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from committed import EVIDENCE

from s6lib.report import __main__ as report
from s6lib.report import architecture, markers, pictures
from s6lib.report.values import VALUES, Evidence

ROOT = Path(__file__).parent.parent
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARKED = [path for path in markers.files() if any(markers.marked(path))]
NUMBERED = ("README.md", "results.md", "performance.md")  # where a stray number would be one of ours


def copied(path, tmp_path, change):
    """A copy of a text with `change` made to it, which must change it."""
    text = path.read_text(encoding="utf-8")
    assert change(text) != text
    copy = tmp_path / path.name
    copy.write_text(change(text), encoding="utf-8")
    return copy


def with_records(**changed):
    """The evidence with the record of one arm in the place of another's."""
    other = Evidence()
    other.__dict__["records"] = EVIDENCE.records | {arm: EVIDENCE.records[by] for arm, by in changed.items()}
    return other


# --- numbers ---------------------------------------------------------------------------------------


def test_every_quoted_number_is_current(capsys):
    assert report.main(["--check"]) == 0, capsys.readouterr().out


def test_a_difference_fails_the_check(tmp_path, monkeypatch, capsys):
    # exit code 1, and a word on how to mend it
    copy = copied(ROOT / "README.md", tmp_path, lambda text: text.replace(" points (", " point (", 1))
    monkeypatch.setattr(markers, "files", lambda: [copy])
    assert report.main(["--check"]) == 1
    assert "`make docs` writes the texts anew" in capsys.readouterr().err


def test_every_value_is_quoted_somewhere():
    # and every marker names one that exists; `value` says so where it does not
    quoted = {name.split()[0] for path in MARKED for name, _ in markers.marked(path)}
    assert quoted == set(VALUES)


@pytest.mark.parametrize("path", [p for p in TEXTS if p in MARKED], ids=lambda path: path.name)
def test_swapped_rows_are_found(path, tmp_path):
    # the first two rows of each table that code writes
    rows = re.compile(r"(<!--= [^>]+ -->\n\n.*\n.*\n)(\|.*\n)(\|.*\n)")
    if not rows.search(path.read_text(encoding="utf-8")):
        pytest.skip("no table written by code")
    copy = copied(path, tmp_path, lambda text: rows.sub(r"\1\3\2", text))
    found = markers.differences(copy, EVIDENCE.value)
    assert len(found) == len(rows.findall(path.read_text(encoding="utf-8")))


def test_swapped_numbers_are_found(tmp_path):
    values = [text for _, text in markers.marked(ROOT / "README.md")]
    a, b = (f" -->{value}<!--" for value in (values[0], values[-1]))
    swap = lambda text: text.replace(a, "@").replace(b, a).replace("@", b)  # noqa: E731
    assert len(markers.differences(copied(ROOT / "README.md", tmp_path, swap), EVIDENCE.value)) >= 2


@pytest.mark.parametrize(("old", "new"), [("99.46 | 0.05", "0.05 | 99.46"), ("0.01 points", "0.02 points")])
def test_a_changed_cell_or_number_is_found(old, new, tmp_path):
    copy = copied(ROOT / "docs" / "results.md", tmp_path, lambda text: text.replace(old, new))
    found = markers.differences(copy, EVIDENCE.value)
    assert found
    assert "results.md" in found[0]
    assert "<!--= " in found[0]
    assert repr(new)[1:-1] in found[0]
    assert repr(old)[1:-1] in found[0]


def test_a_changed_record_changes_the_text(tmp_path):
    other = with_records(**{"regularisers/gbn": "regularisers/bn_l1"})
    copy = copied(ROOT / "README.md", tmp_path, lambda text: text + "\n")
    assert markers.rewrite(copy, other.value)
    assert EVIDENCE.value("difference regularisers/gbn bn test_accuracy 3") not in copy.read_text(encoding="utf-8")
    assert other.value("difference regularisers/gbn bn test_accuracy 3") in copy.read_text(encoding="utf-8")


def test_a_changed_measurement_changes_the_text(tmp_path):
    shutil.copytree(ROOT / "results" / "bench", tmp_path / "bench")
    file = tmp_path / "bench" / "equivalence_bfloat16.json"
    file.write_text(file.read_text().replace('"margin": 0.05', '"margin": 0.5'))
    name = "number equivalence_bfloat16 verdict/margin g"
    assert (EVIDENCE.value(name), Evidence(tmp_path).value(name)) == ("0.05", "0.5")


@pytest.mark.parametrize(
    "name",
    [
        "means regularisers/gbn",
        "mean regularisers/nobody",
        "mean",
        "number nothing a d",
        "rung nosuch accuracy",
        "published regularisers/nosuch best",
        "number equivalence_bfloat16 verdict/margin x",
    ],
)
def test_a_marker_without_a_source_is_refused(name):
    with pytest.raises(ValueError, match=re.escape(f"<!--= {name} -->")):
        EVIDENCE.value(name)


@pytest.mark.parametrize("path", [p for p in TEXTS if p.name in NUMBERED], ids=lambda path: path.name)
def test_no_accuracy_or_ratio_stands_outside_markers(path):
    # 99.4 is the documents' aim; three last epochs of `gap` are quoted from its document
    text = markers.MARKED.sub("", path.read_text(encoding="utf-8")).replace("99.33, 99.37, 99.46 %", "")
    assert re.findall(r"\d+\.\d\d+ ?%|9\d\.\d\d|\d\.\d+ ?(?:x\b|times)|p = 0\.\d+", text) == []


@pytest.mark.parametrize("path", MARKED, ids=lambda path: path.name)
def test_no_line_of_prose_begins_with_a_marker(path):
    # Markdown takes a line that begins with a comment for HTML, and ends the paragraph there.
    assert not re.findall(r"^ *<!--= [^>]+ -->.+", path.read_text(encoding="utf-8"), re.MULTILINE)


# --- figures and files -----------------------------------------------------------------------------


def test_a_changed_record_outdates_its_figure():
    assert pictures.outdated(EVIDENCE) == []
    found = pictures.outdated(with_records(**{"regularisers/gbn": "regularisers/bn"}))
    assert [line.split(":")[0] for line in found] == ["regularisers.png", "sizes.png"]


def test_a_missing_figure_is_named(monkeypatch):
    monkeypatch.setattr(pictures, "pictures", lambda e: {Path("gone.png"): []})
    assert pictures.outdated(EVIDENCE)[0].startswith("gone.png: shows other numbers than the records hold")


def test_the_ladder_comes_from_records(tmp_path, monkeypatch):
    # written from records that hold what the committed ladder does, it is the committed ladder
    rungs = pictures.pictures(EVIDENCE)[ROOT / "results" / "bench" / "speedrun.png"]
    monkeypatch.setattr(report.records, "find", lambda folder: (rungs, []))
    monkeypatch.setattr(pictures, "draw", lambda e: [])
    shutil.copytree(ROOT / "results" / "bench", tmp_path / "bench")
    e = Evidence(tmp_path)
    assert report.speedrun(e, tmp_path) == 0
    for a, b in zip(e.measured("speedrun"), EVIDENCE.measured("speedrun"), strict=True):
        assert a["trial"]["name"] == b["trial"]["name"]
        assert {key: a[key] for key in a if key != "trial"} == {key: b[key] for key in a if key != "trial"}
    before = e.measured("speedrun")
    rungs[0].non_diverged, rungs[0].seeds = [*rungs[0].non_diverged, len(rungs[0].seeds)], [*rungs[0].seeds, 99]
    monkeypatch.setattr(report.records, "find", lambda folder: (rungs[:1], []))
    assert report.speedrun(e, tmp_path) == 0  # of others there is no record: they stay
    assert e.measured("speedrun")[0]["seeds"] == rungs[0].seeds
    assert e.measured("speedrun")[1:] == before[1:]
    rungs[1].seeds = rungs[1].seeds[:1]
    monkeypatch.setattr(report.records, "find", lambda folder: (rungs[1:2], []))
    assert report.speedrun(e, tmp_path) == 0  # fewer seeds than the ladder has: it stays
    assert e.measured("speedrun")[1:] == before[1:]
    monkeypatch.setattr(report.records, "find", lambda folder: ([], []))
    assert report.speedrun(e, tmp_path) == 2


def committed():
    """Committed files below results/ that lie in no record, relative to it."""
    done = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    names = [name.removeprefix("results/") for name in done.stdout.splitlines()]
    return [name for name in names if name.count("/") == 1]


def test_every_committed_result_has_a_command():
    rows = re.findall(r"^\| `([^`]+)` \|.*\|(.*)\|$", (ROOT / "results" / "README.md").read_text(), re.MULTILINE)
    made = dict(rows)
    assert set(committed()) <= set(made)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for cell in made.values():
        commands = re.findall(r"`((?:make|python) [^`]+)`", cell)
        assert commands, cell
        for command in commands:
            program, first = command.split()[:2]
            assert first in targets if program == "make" else first == "-m" or (ROOT / first).exists(), command


@pytest.mark.parametrize("path", [*TEXTS, ROOT / "results" / "README.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8"))
    assert not [link for link in links if not (path.parent / link).exists()]


def test_readme_is_short_and_its_first_screen_says_it_all():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    first = "\n".join(lines[:40])
    assert len(lines) < 120
    assert first.count("\n- ") == 4
    for part in ("results/reference/regularisers.png", "make run-all", "make test", "docs/results.md"):
        assert part in first


# --- the map of the code ---------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A package of three modules in which a imports b and, inside a function, c; b imports c."""
    texts = {
        "__init__": '"""A house.\n\n    b    the middle\n"""\n',
        "a": '"""Top."""\nfrom s6lib import b\n\ndef f():\n    from s6lib.c import x\n',
        "b": '"""Middle | of it."""\nimport s6lib.c\nif TYPE_CHECKING:\n    from s6lib import a\n',
        "c": '"""Bottom."""\n',
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(architecture, "PACKAGE", tmp_path)
    return tmp_path


def test_imports_are_read_wherever_they_stand(house):
    assert architecture.all_floors() == {"b": "the middle", "a": "", "c": ""}
    assert {floor: architecture.imported(floor) for floor in "abc"} == {"a": {"b", "c"}, "b": {"c"}, "c": set()}


def test_the_picture_leaves_out_what_is_implied_and_follows_the_code(house):
    assert architecture.floors().splitlines()[5:-1] == ["    b --> c", "    a --> b"]
    (house / "c.py").write_text('"""Bottom."""\nfrom s6lib import d\n')
    (house / "d.py").write_text('"""Cellar."""\n')
    assert "    c --> d" in architecture.floors()


def test_unknown_words_are_refused(capsys):
    assert report.main(["speed"]) == 2
    assert "--check" in capsys.readouterr().err
