"""The page in a real browser, the system's Chromium, with the network off: what a reader can do with it."""

import shutil

import pytest
from pages import one, page

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """A page of three trials and two of another study, five seeds each, opened from disk."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(page([one(place) for place in (2, 3, 5, 9, 10)]), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """`visit()` opens the page in a fresh window without a network; every console line and request is kept."""
    contexts = []

    def open_page(hash="", **options):
        contexts.append(browser.new_context(offline=True, viewport={"width": 1100, "height": 900}, **options))
        view = contexts[-1].new_page()
        view.said, view.asked = [], []
        view.on("console", lambda message: view.said.append(message.text))
        view.on("pageerror", lambda error: view.said.append(str(error)))
        view.on("request", lambda request: view.asked.append(request.url))
        view.goto(address + hash)
        return view

    yield open_page
    for context in contexts:
        assert [line for view in context.pages for line in view.said] == []
        context.close()


def drawn(view) -> None:
    view.locator("#curves").scroll_into_view_if_needed()
    view.wait_for_selector("#chart[data-drawn] canvas")
    view.evaluate("document.getElementById('chart').scrollIntoView({ block: 'center' })")


def ink(view) -> int:
    """How much is drawn in the chart: the size of its picture."""
    return int(view.evaluate("document.querySelector('#chart canvas').toDataURL().length"))


def test_asks_for_nothing_but_itself(visit, address):
    view = visit()
    drawn(view)
    view.locator("#reproduce").scroll_into_view_if_needed()
    assert [url for url in view.asked if not url.startswith(("data:", "blob:"))] == [address]


def test_readable_in_two_seconds(visit):
    # the browser's own clock; measured far below, so that a busy machine does not matter
    view = visit()
    timing = view.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    assert timing < 2000


def test_hover_says_arm_seed_epoch_and_value(visit):
    view = visit()
    drawn(view)
    box = view.locator("#chart canvas").bounding_box()
    for share in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        view.mouse.move(box["x"] + box["width"] * 0.65, box["y"] + box["height"] * share)
        if view.locator("#tip").is_visible():
            break
    assert view.locator("#tip").inner_text().count(",") == 2
    assert "epoch" in view.locator("#tip").inner_text()
    view.mouse.move(1, 1)
    assert not view.locator("#tip").is_visible()


def test_arms_are_toggled(visit):
    # by mouse and by keyboard; switched off, an arm's curves are gone
    view = visit()
    drawn(view)
    before = ink(view)
    view.locator("#legend input").first.click()
    view.locator("#legend input").nth(1).focus()
    view.keyboard.press("Space")
    view.wait_for_selector("#chart[data-shown='1']")
    view.wait_for_timeout(150)
    assert ink(view) < before
    view.locator("#no-arms").click()
    view.wait_for_selector("#chart[data-shown='0']")
    view.locator("#all-arms").click()
    view.wait_for_selector("#chart[data-shown='3']")


def test_other_measure_and_comparison(visit):
    view = visit()
    drawn(view)
    view.locator("#curve-measure").select_option("test_loss")
    view.wait_for_selector("#chart[data-drawn='regularisers test_loss']")
    view.locator("#curve-group").select_option("1")
    view.wait_for_selector("#chart[data-drawn='normalisers test_loss']")
    lines = view.locator("#legend path")
    dashes = [lines.nth(k).get_attribute("stroke-dasharray") for k in range(lines.count())]
    assert dashes == ["6 4", "8 3 2 3"]  # as the curves of ln_l1 and gn_l1


def test_any_two_arms_are_compared(visit):
    # one minus the other is the negative of the other minus the one
    view = visit()
    view.locator("#arm-a").select_option(label="regularisers/bn_l2")
    view.locator("#arm-b").select_option(label="regularisers/gbn")
    there = view.locator("#comparison b").first.inner_text()
    view.locator("#arm-a").select_option(label="regularisers/gbn")
    view.locator("#arm-b").select_option(label="regularisers/bn_l2")
    back = view.locator("#comparison b").first.inner_text()
    assert there.split(": ")[0] == "bn_l2 − gbn"
    assert there.split(": ")[1] == back.split(": ")[1].replace("+", "~").replace("−", "+").replace("~", "−")
    assert view.locator("#comparison .bars .pair").count() == 10
    assert view.locator("#comparison .tile").count() > 0
    assert "studies" not in view.locator("#comparison p").first.inner_text()


ACROSS = "#compare/regularisers/gbn/normalisers/gn_l1"  # both green, both with triangles


def test_arms_of_different_studies_are_told_apart(visit):
    # the same colour in two studies: two fills, full names, and a word of caution
    view = visit(ACROSS)
    bars = view.locator("#comparison .bars .pair").first.locator("i")
    fills = [bars.nth(k).evaluate("one => getComputedStyle(one, '::before').background") for k in (0, 1)]
    assert fills[0] != fills[1]
    text = view.locator("#comparison p").first.inner_text()
    assert text.startswith("regularisers/gbn − normalisers/gn_l1: ")
    assert "Different studies: network, optimiser or epochs may differ too." in text


def test_comparison_is_in_the_address(visit):
    # chosen in the menus and read at load
    view = visit()
    view.locator("#arm-a").select_option(label="regularisers/gbn")
    view.locator("#arm-b").select_option(label="normalisers/gn_l1")
    assert view.url.endswith(ACROSS)
    there = view.locator("#comparison p").first.inner_text()
    assert visit(ACROSS).locator("#comparison p").first.inner_text() == there


def test_digit_tells_who_misses_it(visit):
    # the three images that every seed misses stand first; a click names arms and what each seed took it for
    view = visit()
    view.locator("#digits .tile").first.click()
    assert view.locator("#digit").is_visible()
    assert view.locator("#digit tbody tr").count() == 5
    assert view.locator("#digit td", has_text="5 of 5").count() == 5
    assert view.locator("#digit .wrong").count() == 25
    view.keyboard.press("Escape")
    assert not view.locator("#digit").is_visible()


def test_digit_is_in_the_address(visit):
    # while it is open; the address opens it again
    view = visit("#regularisers/gbn")
    view.locator("#digits .tile").nth(1).click()
    title, hash = view.locator("#digit-title").inner_text(), view.evaluate("location.hash")
    assert title.startswith(f"Test image {hash.removeprefix('#digits/')} ")
    view.keyboard.press("Escape")
    view.wait_for_function("location.hash === '#regularisers/gbn'")
    assert visit(hash).locator("#digit-title").inner_text() == title


def test_back_closes_a_digit(visit):
    # and leaves the page where it was; forward opens it again, closing an address that began with it shows the digits
    view = visit("#regularisers/gbn")
    view.locator("#digits .tile").first.click()
    title, hash, place = (
        view.evaluate(one) for one in ("document.getElementById('digit-title').textContent", "location.hash", "scrollY")
    )
    view.go_back()
    view.wait_for_function("!document.getElementById('digit').open")
    assert view.evaluate("location.hash") == "#regularisers/gbn"
    view.wait_for_function(f"scrollY === {place}")
    view.go_forward()
    view.wait_for_function("document.getElementById('digit').open")
    assert view.locator("#digit-title").inner_text() == title
    view = visit(hash)
    view.keyboard.press("Escape")
    view.wait_for_function("location.hash === '#digits'")


@pytest.mark.parametrize("id", ["regularisers/<img src=x>", "compare/regularisers/gbn/no", "digits/99999", "100%"])
def test_unknown_address_is_said(visit, id):
    # as text; gone once another is chosen
    view = visit("#" + id)
    assert view.locator("#nowhere").inner_text().startswith("no such ")
    assert view.locator("#nowhere").inner_text().endswith(": " + id)
    view.evaluate("location.hash = '#claims'")
    view.wait_for_function("document.getElementById('nowhere').textContent === ''")


def test_deep_link_opens_a_trial(visit):
    view = visit("#regularisers/gbn")
    assert view.locator("[id='regularisers/gbn']").is_visible()
    assert view.evaluate("document.activeElement.id") == "regularisers/gbn"
    assert view.evaluate("scrollY") > 500
    assert view.locator("#arm-a option:checked").inner_text() == "regularisers/gbn"


def test_copies_a_command(visit):
    view = visit()
    button = view.locator("#reproduce [data-copy]").first
    button.click()
    assert button.inner_text() == "copied"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_barrier(visit, theme):
    # axe-core: names, roles, contrast, focus; with a claim and a digit open
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    view = visit(color_scheme=theme)
    drawn(view)
    view.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    found = axe.run(view).response["violations"]
    view.locator("#digits .tile").first.click()
    found += axe.run(view, "#digit").response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in serious] == []


def test_dark(visit):
    # ground and ink change places, in the chart as well
    colours = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    light, dark = visit(color_scheme="light").evaluate(colours), visit(color_scheme="dark").evaluate(colours)
    brightness = [[sum(map(int, text[4:-1].split(","))) for text in one] for one in (light, dark)]
    assert brightness[0][0] > 600 > 200 > brightness[0][1]
    assert brightness[1][0] < 200 < 600 < brightness[1][1]


@pytest.mark.parametrize("width", [380, 900, 1400])
def test_fits_the_window(visit, width):
    # tables scroll by themselves, the page never sideways
    view = visit()
    view.set_viewport_size({"width": width, "height": 800})
    drawn(view)
    assert view.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [380, 700, 800, 1000, 1250])
def test_leaderboard_shows_whole_plots(visit, width):
    # at any width, with no part of a row out of sight
    view = visit()
    view.set_viewport_size({"width": width, "height": 800})
    plots = view.locator("#leaderboard svg.dots")
    assert min(plots.nth(k).bounding_box()["width"] for k in range(plots.count())) >= 190
    over = "[...document.querySelectorAll('#leaderboard .scroll')].map((one) => one.scrollWidth - one.clientWidth)"
    assert set(view.evaluate(over)) == {0}


def test_digit_tells_all_on_a_phone(visit):
    view = visit()
    view.set_viewport_size({"width": 380, "height": 800})
    view.locator("#digits .tile").first.click()
    assert view.locator("#digit .scroll").evaluate("one => one.scrollWidth <= one.clientWidth")
    assert view.locator("#digit .seeds").first.is_visible()


def test_without_javascript(visit):
    # text, tables, figures and digits are there; what needs a script is not shown
    view = visit(java_script_enabled=False)
    assert view.locator("#leaderboard table").count() == 2
    assert view.locator("figure.fallback svg").first.is_visible()
    assert view.locator("#digits .tile").last.is_visible()
    assert view.locator("#claims summary").first.is_visible()
    assert not view.locator("#chart-figure").is_visible()
    assert not view.locator("#arm-a").is_visible()


def test_prints_static_curves(visit):
    view = visit()
    view.emulate_media(media="print")
    assert view.locator("figure.fallback svg").first.is_visible()
    assert not view.locator("nav").is_visible()
