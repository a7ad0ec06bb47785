"""The page as text: what stands in it, what never does, how large it gets."""

import base64
import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from pages import NAMES, many, one, page
from PIL import Image

from s6lib import data, paths, records
from s6lib.__main__ import main
from s6lib.batch import runner
from s6lib.batch.progress import Display
from s6lib.evidence import statistics
from s6lib.evidence.images import LABEL_ERRORS
from s6lib.evidence.verdicts import UNTESTED
from s6lib.plots import images as drawn
from s6lib.report.page import answers, build, claims, facts, images, marks, size

SECTIONS = ["answers", "claims", "leaderboard", "curves", "compare", "digits", "trials", "decided", "reproduce"]
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"


class Tags(HTMLParser):
    """(name, attributes) of every tag, and all text outside scripts and styles."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text, self.inside = [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        self.text += "" if self.inside in ("script", "style") else data


@pytest.fixture(scope="module")
def pair() -> str:
    return page(many(2))


def test_order_of_sections(pair):
    # as a reader asks
    assert [attrs["id"] for tag, attrs in Tags(pair).tags if tag == "section"] == SECTIONS


def test_nothing_from_a_network(pair):
    # no address that a browser would fetch, in tags or in styles
    for tag, attrs in Tags(pair).tags:
        fetched = {"src", "srcset", "data", "poster"} | ({"href"} if tag in ("link", "use", "image") else set())
        for name in fetched & set(attrs):
            assert attrs[name].startswith(("data:", "#")), (tag, attrs)
    style = pair.split("<style>")[1].split("</style>")[0]
    assert "@import" not in style
    assert all(part.startswith("data:") for part in style.split("url(")[1:])


def test_thirty_trials_of_thirty_seeds_fit_three_megabytes():
    assert len(page(many(30, seeds=30, epochs=25)).encode()) <= 3e6


def test_hostile_text_does_nothing(tmp_path):
    # data titles, provenance and left-out lines come from files: they are text and stay text
    record = one()
    record.dataset = {**record.dataset, "title": EVIL}
    record.provenance = {**record.provenance, "git_commit": EVIL, "processor": EVIL}
    text = page([record], (EVIL,), tmp_path)
    found = Tags(text)
    assert [tag for tag, _ in found.tags].count("script") == 3
    assert not [attrs for _, attrs in found.tags if "onerror" in attrs]
    assert EVIL in found.text


def test_hostile_trial_is_no_record(tmp_path):
    # a trial's name cannot hold markup: such a record is left out, and said so
    place = records.add(one(), tmp_path / "a")
    head = json.loads((place / "record.json").read_text())
    head["trial"]["name"] = EVIL
    (place / "record.json").write_text(json.dumps(head))
    build.write(tmp_path / "a")
    found = Tags((tmp_path / "a" / "report.html").read_text())
    assert "Nothing has run yet" in found.text
    assert "left out" in found.text.lower()
    assert "img" not in [tag for tag, _ in found.tags]


def test_run_without_records(tmp_path):
    # says that nothing has run, and needs no script
    build.write(tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "Nothing has run yet" in text
    assert "<script" not in text


def test_few_seeds_have_no_interval():
    # two seeds, as the quick profile has: marks and means, and the reason why nothing more
    text = page(many(2, seeds=2))
    assert 'class="whisker"' not in text
    assert "Too few seeds" in text


def test_weights_of_diverged_seeds_are_left_out():
    record = one()
    record.weights = {"layers.0.weight": np.full((5, 2, 1, 3, 3), 0.1, np.float32)}
    record.weights["layers.0.weight"][1] = np.nan
    record.diverged = [{"seed": 1, "epoch": 2, "step": 7}]
    found = facts.weight_sizes(record)
    assert (found["small"], sum(found["sizes"])) == (0.0, 4 * 18)


def test_diverged_seeds_are_said():
    # one seed of five left out; of another trial all
    some, none = many(2)
    some.diverged = [{"seed": 1, "epoch": 2, "step": 7}]
    none.diverged = [{"seed": seed, "epoch": 1, "step": 1} for seed in range(5)]
    found = Tags(page([some, none]))
    assert "4 of 5 seeds, 1 diverged" in found.text
    assert "6 diverged and left out" in found.text
    assert "seed 1 at epoch 2" in found.text
    assert "nan" not in found.text.lower().split()


def test_an_arm_whose_seeds_all_diverged_is_ranked_last(tmp_path):
    worse, lost, better = many(3)
    worse.history["test_accuracy"], better.history["test_accuracy"] = 98.0, 99.9
    lost.diverged = [{"seed": seed, "epoch": 1, "step": 1} for seed in range(5)]
    (group,) = build.contents([worse, lost, better], [], tmp_path)["groups"]
    assert [arm["record"] for arm in group["ranked"]] == [better, worse, lost]


def test_only_diverged_seeds():
    lost = one()
    lost.diverged = [{"seed": seed, "epoch": 1, "step": 1} for seed in range(5)]
    assert "Every seed diverged" in page([lost])


def test_deep_links_have_targets(pair):
    # a link for every section and every trial, and no id twice
    tags = Tags(pair).tags
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = {attrs["href"][1:] for tag, attrs in tags if tag == "a"}
    assert {f"{study}/{name}" for study, name in NAMES[:2]} <= links <= set(ids)


def test_same_trial_with_other_settings_has_its_own_place():
    text = page([one(), one(learning_rate=0.02)])
    assert {"regularisers/bn", "regularisers/bn~2"} <= {attrs.get("id") for _, attrs in Tags(text).tags}
    assert "learning_rate 0.02, not 0.03" in text


def test_leaderboard_as_table(tmp_path):
    # a row per record, numbers unrounded enough to compute with
    first, second = many(2)
    for record in (first, second):
        records.add(record, tmp_path)
    build.write(tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "leaderboard.csv").read_text())))
    assert [row["trial"] for row in rows] == [first.name, second.name]
    assert float(rows[0]["test_mean"]) == pytest.approx(first.last().test_accuracy.mean(), abs=1e-3)


def test_command_line(tmp_path, capsys):
    # python -m s6lib report --results ... --run ...; a run that is not there is refused with those that are
    records.add(one(), tmp_path / "mine")
    assert main(["report", "--results", str(tmp_path), "--run", "mine"]) == 0
    assert "report.html" in capsys.readouterr().out
    assert main(["report", "--results", str(tmp_path), "--run", "other"]) == 2
    assert "valid: mine" in capsys.readouterr().err


def test_verdicts_are_those_of_the_records(tmp_path):
    # as after a look: what an earlier verdicts.json says does not count, and it is written anew
    records.add(one(), tmp_path)
    (tmp_path / "verdicts.json").write_text('[{"study": "regularisers", "claim": "a", "verdict": "supported"}]')
    build.write(tmp_path)
    rows = json.loads((tmp_path / "verdicts.json").read_text())
    assert {row["verdict"] for row in rows if row["study"] == "regularisers"} == {"missing"}
    assert "0 are supported" in Tags((tmp_path / "report.html").read_text()).text


def test_boundaries_are_those_of_the_looks():
    # one look: the usual 1.96; several: each its own bound, falling, the last a little above one look's
    plans = claims.plans([{"planned_looks": [10]}, {"planned_looks": [10, 20, 30]}, {"planned_looks": [10]}])
    assert [plan["seeds"] for plan in plans] == [(10,), (10, 20, 30)]
    assert plans[0]["bounds"] == pytest.approx([1.96], abs=0.001)
    assert plans[1]["bounds"] == sorted(plans[1]["bounds"], reverse=True)
    assert 1.96 < plans[1]["bounds"][-1] < 2.05


def test_weakest_part_is_shown():
    # by its distance from the claimed side in widths of its interval, also where nothing was tested yet
    above = {"unit": "points", "relation": "above", "bound": 0.0}
    parts = [{**above, "estimate": e, "low": e - w, "high": e + w} for e, w in ((0.5, 0.1), (0.1, 0.2), (2, 5))]
    row = {"verdict": "undecided", "looks": [], "seeds": 5}
    found = claims.complete({**row, "parts": parts})
    assert found["weakest"]["estimate"] == 2
    equal = {**parts[0], "relation": "within", "bound": 0.05}
    assert claims.complete({**row, "parts": [parts[1], equal]})["weakest"]["bound"] == 0.05
    assert (found["words"], claims.complete({**row, "looks": [5], "parts": parts})["words"]) == (UNTESTED, "undecided")


def test_numbers_for_the_script_are_those_of_the_records():
    # what the browser compares with comes from the same statistics
    first, second = many(2)
    text = page([first, second]).split('id="data">')[1].split("</script>")[0]
    held = json.loads(text)
    assert held["arms"][1]["curves"]["test_accuracy"][3][-1] == pytest.approx(
        second.last().test_accuracy.iloc[3], abs=1e-3
    )
    gap = second.last().test_accuracy.mean() - first.last().test_accuracy.mean()
    assert held["pairs"]["1 0"][0] == pytest.approx(gap, abs=1e-3)
    assert held["arms"][0]["guesses"][2][0] == str((held["sets"][0]["labels"][0] + 1) % 10)


def test_images_of_the_run_itself_go_first(tmp_path):
    # hardest.npz beside a run's studies; it is used only where it is of the record's data set
    record = one()
    record.path = tmp_path / "regularisers" / record.name
    records.images.write(tmp_path, [record], np.full((len(record.labels), 28, 28), 7, np.uint8))
    assert sheet(record)[:28, :28].max() == 7
    record.dataset = {**record.dataset, "checksum": "another"}
    assert images.data_set([record])["sprite"] == ""
    assert "checksum" in images.data_set([record])["why"]


def test_an_image_that_is_not_kept_is_blank(tmp_path, monkeypatch):
    # beside those that are, where the data set cannot be had
    record = one()
    monkeypatch.setattr(images, "at_hand", lambda record, given, numbers: ({int(numbers[0]): WHITE}, "no files"))
    found = sheet(record)
    assert (found[:28, :28].min(), found[:28, 28:56].max()) == (255, 0)


WHITE = np.full((28, 28), 255, np.uint8)


def sheet(record):
    """The pixels of a page's sprite."""
    address = images.data_set([record])["sprite"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))


def test_images_that_are_not_at_hand(monkeypatch):
    # placeholders with the label, and the reason
    def missing(record):
        raise data.DataError("no files")

    monkeypatch.setattr(drawn, "images_of", missing)
    text = page([one()])
    assert "not available: no files" in text
    assert 'class="digit none"' in text


def test_label_errors_are_of_the_given_labels(mnist):
    # the list counts images as our test set does
    given = {947: 8, 1621: 0, 1901: 9, 2130: 4, 2462: 2, 2597: 5, 2654: 6, 3520: 6}
    given |= {3558: 5, 5937: 5, 6651: 0, 6783: 1, 8527: 4, 9679: 6, 9729: 5}
    assert {number: int(mnist.test_labels[number]) for number in LABEL_ERRORS} == given


@pytest.fixture(scope="module")
def mnist() -> data.Dataset:
    try:
        return data.load("mnist")
    except data.DataError as error:
        pytest.skip(str(error))


def test_leader_is_sure_only_against_arms_it_is_shown_to_beat():
    # b is a point behind, c on par: the leader beats b alone
    def arm(name, values):
        return {"name": name, "test": np.array(values), "accuracy": {"mean": np.mean(values), "n": len(values)}}

    found = answers.leader([arm("a", [99, 99.1, 99.2, 99.1, 99]), arm("b", [98, 98.1, 98.2, 98.1, 98])])
    assert (found["arm"]["name"], found["tied"], found["word"]) == ("a", [], "clear")
    arms = [
        arm("a", [99, 99.1, 99.2, 99.1, 99]),
        arm("b", [98, 98.1, 98.2, 98.1, 98]),
        arm("c", [99, 99, 99.2, 99.1, 99]),
    ]
    assert [one["name"] for one in answers.leader(arms)["tied"]] == ["c"]


def test_leader_was_picked_by_its_mean():
    # p = .022 against each of the others: doubled it is below .05, times the three pairs of arms it is not
    wave = np.array([-1, 1, -1, 1, 0, 0, 0, 0, 0, 0])
    arms = [
        {"name": name, "test": (test := mean + 0.1 * wave), "accuracy": {"mean": test.mean(), "n": 10}}
        for name, mean in (("a", 99.075), ("b", 99.0), ("c", 99.0))
    ]
    p = statistics.difference(arms[0]["test"], arms[1]["test"]).p
    assert 2 * p < 0.05 < 3 * p
    assert [one["name"] for one in answers.leader(arms)["tied"]] == ["b", "c"]


def group(name, word, rivals=1, lead=0.5):
    """A comparison as `answers` reads it: its leader, and `rivals` others, tied where the word is not "clear"."""
    arms = [{"name": f"{name}_{k}", "label": f"norm {k}" if k < 2 else "long " * 9} for k in range(rivals + 1)]
    tied = {"clear": [], "not clear": arms[1:], "too few seeds": None}[word]
    led = {"arm": arms[0], "others": arms[1:], "tied": tied, "word": word, "lead": {"mean": lead, "arm": arms[1]}}
    return {"name": name, "leader": led}


def test_leaders_are_named_in_the_order_of_studies():
    # those without a clear leader together, where the first of them stands; labels beside names
    first, last = [group("a", "not clear", lead=0.1), group("b", "clear")], [group("c, d", "not clear")]
    assert answers.who_leads([*first, *last, group("e", "clear", 2)]) == (
        "In a and c/d no arm is shown to beat all others; the largest lead is 0.50 points of test accuracy. "
        "In b, b_0 (norm 0) beats b_1 (norm 1) by 0.50 points of test accuracy. "
        "In e, e_0 (norm 0) beats both others, the next, e_1 (norm 1), by 0.50 points of test accuracy."
    )
    assert answers.named({"name": "x", "label": "long " * 9}) == "x"
    assert answers.who_leads([group("a", "too few seeds")]) == ""


@pytest.mark.parametrize(
    ("always", "errors", "end"),
    [
        (1, 0, "1 of 10,000 test images of MNIST is missed by every seed of every arm"),
        (1, 1, " is missed by every seed of every arm, a confirmed label error"),
        (3, 1, " are missed by every seed of every arm, 1 of them a confirmed label error"),
        (3, 2, " are missed by every seed of every arm, 2 of them confirmed label errors"),
    ],
)
def test_one_image_or_several(always, errors, end):
    one = {"always": always, "always_errors": errors, "test_images": 10_000, "title": "MNIST"}
    assert answers.unread(one).endswith(end)


def test_digits_that_fail_in_words():
    # rates by digit, confusions by image; the page says it of its own records
    found = np.diag([100.0] * 10)
    found[4, 9], found[9, 4], found[1, 7] = 4, 2, 1
    text = answers.which_fail(found)
    assert "percent of their images: 4 (3.8), 9 (2.0) and 1 (1.0)" in text
    assert "images per network: 4 taken for 9 (4.0), 9 taken for 4 (2.0) and 1 taken for 7 (1.0)" in text
    assert answers.which_fail(np.eye(10)) == ""
    assert "Digits missed most" in page([one()])


def test_published_curves_are_explained_where_there_are_any():
    known = one(NAMES.index(("normalisers", "gn_l1")))
    assert "otted" not in Tags(page([known])).text
    known.dataset = {**known.dataset, "name": "mnist"}
    assert Tags(page([known])).text.count("otted") == 2  # beside the chart and below its drawing


def mnist_point(study: str, name: str):
    record = one(NAMES.index((study, name)))
    record.dataset = {**record.dataset, "name": "mnist"}
    return record


def test_accuracy_against_size_is_shown_of_the_frontier_on_mnist():
    point, other = mnist_point("frontier", "p10k"), mnist_point("regularisers", "bn_l1")
    found = Tags(page([point, other, mnist_point("progression", "gap")]))
    chart = {attrs.get("href") for tag, attrs in found.tags if tag == "a"}
    assert "Accuracy against size" in found.text
    assert "frontier/p10k: mean of 5 seeds, last of 4 epochs" in found.text
    assert "progression/gap: mean of 5 seeds" in found.text
    assert "regularisers/bn_l1: mean of" not in found.text  # not among the networks that sizes.SMALL names
    assert "JoshWarn/Parameter-Efficient-MNIST: 99.03 %, best of about 700 networks, 697 parameters" in found.text
    assert {"#frontier/p10k", "#sizes"} <= chart


def test_accuracy_against_size_needs_a_point_on_mnist():
    assert "Accuracy against size" not in page(
        [mnist_point("progression", "gap"), one(NAMES.index(("frontier", "p1k")))]
    )


def test_scale_of_sizes_is_logarithmic_each_way():
    plane = size.Plane([(1_000, 99.0), (10_000, 99.6)])
    assert plane.x(4_000) - plane.x(2_000) == pytest.approx(plane.x(8_000) - plane.x(4_000), abs=0.2)
    errors = [plane.y(100.05 - error) for error in (0.4, 0.8, 1.6)]  # the scale adds .05 to the error
    assert errors[1] - errors[0] == pytest.approx(errors[2] - errors[1], abs=0.2)


def test_scale_of_effects_is_alike_each_way():
    scale = marks.Effects([0.3, -2.0])
    assert scale.x(0) == scale.width / 2
    assert scale.x(0.3) - scale.x(0) == pytest.approx(scale.x(0) - scale.x(-0.3), abs=0.11)
    assert scale.x(50) == scale.width


def test_page_that_cannot_be_made_fails_no_batch(tmp_path, monkeypatch, capsys):
    # the batch's last line says why; it has no other effect
    monkeypatch.delenv("S6_PAGE", raising=False)
    monkeypatch.setattr(runner.sys, "executable", "/bin/false")
    batch = runner.Batch(runner.Request(results=tmp_path, run="x"), [], 1, Display())
    batch.make_page()
    assert "report: not made: exit code 1" in capsys.readouterr().out
    assert batch.rows == {}


@pytest.mark.slow
def test_batch_makes_the_page(tmp_path, monkeypatch, capsys):
    # also where the table of studies lies elsewhere
    monkeypatch.delenv("S6_PAGE", raising=False)
    monkeypatch.chdir(tmp_path)
    records.add(one(), tmp_path / "x")
    request = runner.Request(studies_file=paths.home() / "studies.toml", results=tmp_path, run="x")
    runner.Batch(request, [], 1, Display()).make_page()
    assert "report: " in capsys.readouterr().out
    assert (tmp_path / "x" / "report.html").stat().st_size > 1e5
    assert not list(Path(tmp_path / "x").glob(".*"))
