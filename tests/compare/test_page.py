"""The page that `compare --html` writes, in a real Chromium."""

from __future__ import annotations

import pytest

from dspy_parallel.compare.comparison_report import as_html
from dspy_parallel.compare.differences import Difference
from dspy_parallel.compare.two_runs import Comparison, Run
from tests.timeline.chromium import Chromium, find_chromium
from tests.timeline.making import timeline

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(find_chromium() is None, reason="needs Chromium on the path, or in $CHROMIUM"),
]

EVIL = "<script>alert('name')</script><img src=x onerror=alert(1)>"
GREEN = """
(async () => {
  const picture = new Image();
  picture.src = "data:image/png;base64,%s";
  await picture.decode();
  const pen = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
  pen.drawImage(picture, 0, 0);
  const { data } = pen.getImageData(0, 0, picture.width, picture.height);
  let found = 0;
  for (let at = 0; at < data.length; at += 4)
    if (Math.abs(data[at] - 95) < 4 && Math.abs(data[at + 1] - 184) < 4 && Math.abs(data[at + 2] - 120) < 4) found++;
  return found;
})()
"""
"""How much of a picture has the colour of LM calls."""


def green_in(browser, number):
    """Pixels of LM calls in a frame, which cannot be asked: it is of another origin."""
    box = browser.run(
        f"(({{x, y, width, height}}) => ({{x, y, width, height}}))"
        f"(document.querySelectorAll('iframe')[{number}].getBoundingClientRect())"
    )
    shot = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip={**box, "scale": 1})
    return browser.run(GREEN % shot["data"])


def test_both_timelines_are_drawn_and_can_do_nothing_else(tmp_path):
    before = timeline((0, 4, None, "module", EVIL), (0, 2, 0, "lm", EVIL), (2, 4, 0, "lm", "m", {"note": "</iframe>"}))
    after = timeline((0, 2, None, "module", EVIL), (0, 2, 0, "lm", EVIL), (0, 2, 0, "lm", "m"))
    different = [Difference("['a']", EVIL, "b")]
    compared = Comparison(Run("f()", 4.0, [], before), Run(f"await {EVIL}", 2.0, [], after), different)
    (tmp_path / "page.html").write_text(as_html(EVIL, compared), encoding="utf-8")
    found = find_chromium()
    assert found is not None
    browser = Chromium(found, tmp_path / "profile")
    try:
        browser.open(tmp_path / "page.html")
        browser.settle()
        frames = "[...document.querySelectorAll('iframe')]"
        assert browser.run(f"{frames}.map(frame => [frame.title, frame.contentDocument])") == [
            ["as it is", None],
            ["parallelised", None],
        ]
        # A frame of another origin may be drawn later than the page around it: else, the test's own timeout ends this.
        for number in (0, 1):
            while green_in(browser, number) <= 2000:
                browser.settle()
        assert browser.run("document.querySelector('h1').textContent") == EVIL
        assert browser.run("document.querySelectorAll('img, script').length") == 0
        assert browser.problems == []
    finally:
        browser.close()
