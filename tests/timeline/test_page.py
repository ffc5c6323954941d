"""The HTML page, in a real Chromium."""

from __future__ import annotations

import itertools
import time
from datetime import datetime, timezone

import pytest

from dspy_parallel import Timeline
from tests.timeline.chromium import Chromium, find_chromium
from tests.timeline.making import large, timeline

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(find_chromium() is None, reason="needs Chromium on the path, or in $CHROMIUM"),
]

LM_GREEN = [95, 184, 120]
EVIL = "<script>alert('name')</script><img src=x onerror=alert(1)>"
ROWS = (
    (0, 4, None, "module", "Program"),
    (0.1, 1.9, 0, "predictor", "summarize"),
    (0.2, 1.8, 1, "lm", "openai/small", {"requests": 1}),
    (0.5, 0.7, None, "blocked", "app.py:12 in read"),
    (2, 3.9, 0, "predictor", EVIL),
    (2.1, 3.8, 4, "lm", "openai/large", {"note": "</script><b>bold</b>"}),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = find_chromium()
    assert found is not None
    running = Chromium(found, tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture
def page(browser, tmp_path):
    browser.problems.clear()
    timeline(*ROWS).save(tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    yield browser
    assert browser.problems == []


def middle_of(page, span):
    """Where on the page a span is drawn."""
    box = page.run("(({left, top}) => [left, top])(canvas.getBoundingClientRect())")
    x = page.run(f"x(start[{span}] + length[{span}] / 2)")
    y = page.run(f"TOP + row[{span}] * ROW - scroll.scrollTop + ROW / 2 + 3")
    return box[0] + x, box[1] + y


def pixel(page, span):
    """The colour beside the middle of a span, where there is no text."""
    return page.run(
        f"[...pen.getImageData((x(start[{span}]) + 0.9 * (x(start[{span}] + length[{span}]) - x(start[{span}]))) * "
        f"devicePixelRatio, (TOP + row[{span}] * ROW - scroll.scrollTop + ROW / 2) * devicePixelRatio, 1, 1).data]"
    )[:3]


def test_spans_are_drawn_in_the_colour_of_their_kind(page):
    assert pixel(page, 2) == LM_GREEN
    assert pixel(page, 5) == LM_GREEN
    assert pixel(page, 3) == [224, 96, 94]
    assert "parallelism" in page.run("element('figures').textContent")


def test_the_mouse_over_a_span_tells_what_it_is(page):
    page.mouse("mouseMoved", *middle_of(page, 2))
    assert page.run("element('hint').hidden") is False
    assert page.run("element('hint').innerText") == "openai/small\nlm · 1.600 s · at 200.0 ms"


def test_a_name_is_text_whatever_is_in_it(page):
    page.mouse("mouseMoved", *middle_of(page, 4))
    assert EVIL in page.run("element('hint').innerText")
    page.click(*middle_of(page, 4))
    assert page.run("element('details').querySelector('h2').textContent") == EVIL
    assert page.run("document.querySelectorAll('img, script').length") == 2  # the page's own data and script
    page.click(*middle_of(page, 5))
    assert "</script><b>bold</b>" in page.run("element('details').innerText")
    assert page.run("document.querySelectorAll('b').length") <= 1  # that of the hint


def test_the_wheel_zooms_where_the_mouse_is(page):
    x, y = middle_of(page, 2)
    before = page.run("[view.from, view.to, time(100)]")
    at = page.run("start[2] + length[2] / 2")
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-600, modifiers=2)
    after = page.run("[view.from, view.to]")
    assert after[1] - after[0] < (before[1] - before[0]) * 0.5
    assert (
        abs(page.run("x(start[2] + length[2] / 2)") - (x - page.run("canvas.getBoundingClientRect().left"))) < 4
    )  # whole pixels, magnified
    assert after[0] < at < after[1]
    assert pixel(page, 2) == LM_GREEN
    page.run("element('fit').click()")
    assert page.run("[view.from, view.to]") == before[:2]


def test_dragging_moves_the_picture(page):
    page.run("zoom(0.25)")
    page.settle()
    x, y = page.run("[canvas.getBoundingClientRect().left + 300, canvas.getBoundingClientRect().top + 200]")
    before = page.run("view.from")
    page.mouse("mousePressed", x, y, button="left")
    page.mouse("mouseMoved", x + 100, y, button="left")
    page.mouse("mouseReleased", x + 100, y, button="left")
    assert page.run("view.from") < before


def test_keys_zoom_and_open_the_search(page):
    before = page.run("view.to - view.from")
    page.press("+")
    assert page.run("view.to - view.from") < before
    page.press("/")
    assert page.run("document.activeElement.id") == "search"


def test_up_and_down_go_from_one_to_the_next(page):
    for key, selected in (("ArrowDown", 0), ("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1), ("Escape", -1)):
        page.press(key)
        assert page.run("view.selected") == selected


def test_light_and_dark(page):
    light = page.run("style('--ground')"), pixel(page, 2)
    page.press("d")
    assert (page.run("style('--ground')"), pixel(page, 2)) == ("#16181d", [63, 145, 89])
    page.run("element('theme').click()")
    page.settle()
    assert (page.run("style('--ground')"), pixel(page, 2)) == light


def test_marks_have_one_unit_and_room(page):
    for zoom in (1, 0.3, 0.01, 1e-4):
        page.run(f"(zoom({zoom}), 0)")
        page.settle()
        texts = [mark for mark in page.run("marks()") if mark[1]]
        assert len({text.partition(" ")[2] for _, text, _ in texts}) == 1
        assert all(end < at for (_, _, end), (at, _, _) in itertools.pairwise(texts))
        assert texts[-1][2] <= page.run("width")


def test_what_ran_and_when(browser, tmp_path):
    began = datetime(2026, 5, 4, 3, 2, 1, tzinfo=timezone.utc)
    made = Timeline(lambda: timeline(*ROWS).spans, "<agent>.py", began)
    made.save(tmp_path / "made.json")
    Timeline.load(tmp_path / "made.json").save(tmp_path / "page.html")
    browser.open(tmp_path / "page.html")
    assert browser.run("document.title") == "<agent>.py · timeline"
    assert browser.run("document.querySelector('h1').innerText") == "<agent>.py2026-05-04 03:02:01 UTC"


def test_search_counts_and_goes_from_one_to_the_next(page):
    page.run("element('search').focus()")
    page.type("openai")
    assert page.run("element('found').textContent") == "2 of 6"
    assert pixel(page, 1) != pixel(page, 2)  # what is not found is dimmed
    page.press("Enter")
    assert page.run("view.selected") == 2
    page.press("Enter")
    assert page.run("view.selected") == 5
    assert page.run("element('details').querySelector('h2').textContent") == "openai/large"
    page.run("element('search').select()")
    page.type("nothing like it")
    assert page.run("element('found').textContent") == "0 of 6"
    page.press("Escape")
    assert page.run("view.matches") is None


def test_the_critical_path_is_marked(page):
    assert page.run("[...isCritical]") == [1, 1, 1, 0, 1, 1]
    under = "[...pen.getImageData((x(start[2]) + 20) * devicePixelRatio, (TOP + row[2] * ROW + ROW - 3) * "
    under += "devicePixelRatio, 1, 1).data].slice(0, 3)"
    marked = page.run(under)
    page.run("element('path').click()")
    page.settle()
    assert page.run(under) != marked


def test_in_a_notebook_it_is_a_frame_that_reaches_nothing(browser, tmp_path):
    browser.problems.clear()
    (tmp_path / "notebook.html").write_text(f"<!doctype html>{timeline(*ROWS)._repr_html_()}", encoding="utf-8")
    browser.open(tmp_path / "notebook.html")
    assert browser.run("document.querySelectorAll('iframe').length") == 1
    assert browser.run("document.querySelector('iframe').contentDocument") is None  # another origin
    assert browser.problems == []


def test_an_empty_timeline_has_a_page(browser, tmp_path):
    browser.problems.clear()
    timeline().save(tmp_path / "empty.html")
    browser.open(tmp_path / "empty.html")
    assert browser.run("count") == 0
    assert browser.problems == []


@pytest.mark.bench
def test_100_000_spans_are_there_in_under_5_seconds(browser, tmp_path):
    browser.problems.clear()
    large(100_000).save(tmp_path / "large.html")
    started = time.perf_counter()
    browser.open(tmp_path / "large.html")
    seconds = time.perf_counter() - started
    print(f"100,000 spans: {seconds:.2f} s, of which script {browser.run('document.documentElement.dataset.ready')} ms")
    assert browser.run("count") == 100_000
    assert pixel(browser, 0) != [255, 255, 255]
    assert seconds < 5
    frame = browser.run("(() => { const at = performance.now(); zoom(0.5); draw(); return performance.now() - at; })()")
    print(f"one more picture: {frame:.0f} ms")
    assert frame < 500
    started = time.perf_counter()
    browser.run("search('classify')")
    browser.settle()
    assert browser.run("element('found').textContent") == "20,000 of 100,000"
    assert time.perf_counter() - started < 2
    assert browser.problems == []
