"""Terminal, SVG, trace and files: what they show, and that names are harmless in them."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET

import pytest

from dspy_parallel import Timeline, TimelineError
from tests.timeline.making import timeline

EVIL = "<script>alert(1)</script>\x1b[2J\x07\u202e\x00\ud800&\"'"
ROWS = (
    (0, 4, None, "module", EVIL),
    (0.1, 1.9, 0, "predictor", "summarize"),
    (0.2, 1.8, 1, "lm", "openai/small", {"requests": 1}),
    (0.5, 0.7, None, "blocked", "app.py:12 in read", {"file": "app.py", "line": 12, "function": "read"}),
    (2, 3.9, 0, "predictor", "judge"),
    (2, 3, 0, "predictor", "judge"),
    (2.1, 3.8, 4, "lm", "openai/large", {"error": EVIL}),
    (2.1, 2.9, 5, "lm", "openai/large"),
)


def lines_of(made, width=80):
    return made.text(width).splitlines()


def test_a_line_for_each_name_in_its_place():
    shown = lines_of(timeline(*ROWS), 120)
    assert shown[1].startswith("  summarize · openai/small")
    assert shown[2].startswith("  judge · openai/large ×2")
    assert shown[3].startswith("app.py:12 in read")
    assert shown[4].startswith("LM calls in flight")
    assert shown[4].endswith("peak 2")
    assert all(len(line) <= 120 for line in shown[:6])
    assert "parallelism 1.02, peak 2 in flight" in shown[-3]
    assert "→ summarize → judge" in shown[-2]
    assert shown[-1] == "lost: 0.20 s while code blocked the event loop, most at app.py:12"


def test_bars_are_where_things_ran():
    shown = lines_of(timeline((0, 8, None, "module", "P"), (4, 8, 0, "lm", "m")), 19 + 16 + 9)
    assert shown[0][19:35] == "█" * 16
    assert shown[1][19:35] == " " * 8 + "█" * 8


def test_a_terminal_is_told_nothing_but_text():
    shown = timeline(*ROWS).text(200)
    assert r"\x1b[2J\x07\u202e\x00\ud800" in shown
    assert all(character.isprintable() or character == "\n" for character in shown)


@pytest.mark.parametrize("width", [20, 40, 300])
def test_any_width_will_do(width):
    assert lines_of(timeline(*ROWS), width)


def test_rich_gets_colours():
    rich = pytest.importorskip("rich.console")
    file = io.StringIO()
    rich.Console(file=file, force_terminal=True, color_system="standard", width=100).print(timeline(*ROWS))
    assert "\x1b[32m" in file.getvalue()  # LM calls are green
    assert "\x1b[2J" not in file.getvalue()


def test_many_names_are_cut():
    many = timeline(*((n, n + 1, None, "module", f"M{n}") for n in range(60)))
    assert "… and 20 more lines" in many.text()
    assert len(many.text().splitlines()) < 50


def test_a_picture_is_xml_with_a_bar_for_each_span():
    drawn = timeline(*ROWS).svg(title=EVIL)
    root = ET.fromstring(drawn)
    tag = "{http://www.w3.org/2000/svg}"
    assert not [e for e in root.iter() if e.tag.lower().endswith(("script", "foreignobject", "style"))]
    hints = [title.text for rect in root.iter(f"{tag}rect") for title in rect.iter(f"{tag}title")]
    # The two calls of `judge` share their lines with their LM calls.
    assert len(hints) == 5
    assert any("<script>" in hint for hint in hints)
    assert float(root.get("width", "0")) == 960
    for rect in root.iter(f"{tag}rect"):
        assert float(rect.get("x", "0")) + float(rect.get("width", "0")) <= 960


def test_a_trace_is_what_viewers_read():
    trace = json.loads(timeline(*ROWS).chrome_trace())
    complete = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(complete) == len(ROWS)
    assert {"name", "cat", "ph", "pid", "tid", "ts", "dur", "args"} <= complete[0].keys()
    assert (complete[2]["ts"], complete[2]["dur"], complete[2]["args"]["requests"]) == (0.2e6, 1.6e6, 1)


def test_files_give_back_what_they_were_given(tmp_path):
    made = timeline(*ROWS)
    made.save(tmp_path / "t.json")
    assert Timeline.load(tmp_path / "t.json").spans == made.spans
    for name in ("t.html", "t.svg", "t.txt", "t.trace.json"):
        made.save(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not a timeline"),
        ('{"format": "dspy_parallel timeline", "version": 9, "spans": []}', "another version"),
        ('{"format": "dspy_parallel timeline", "version": 1}', "damaged"),
        ('{"format": "dspy_parallel timeline", "version": 1, "spans": [[0, "lm", "x", 0, 1, "", {}]]}', "damaged"),
        ('{"format": "dspy_parallel timeline", "version": 1, "spans": [[null, "lm", "x", 1, 0, "", {}]]}', "damaged"),
        ('{"format": "dspy_parallel timeline", "version": 1, "spans": [[null, "lm", "x", 0, NaN, "", {}]]}', "damaged"),
        ('{"format": "dspy_parallel timeline", "version": 1, "spans": [[null, 1, "x", 0, 1, "", {}]]}', "damaged"),
    ],
)
def test_other_files_are_refused(tmp_path, content, said):
    (tmp_path / "t.json").write_text(content, encoding="utf-8")
    with pytest.raises(TimelineError, match=said):
        Timeline.load(tmp_path / "t.json")


def test_a_page_says_nothing_that_a_parser_obeys():
    page = timeline(*ROWS).html()
    assert page.count("<script") == 2
    assert "<script>alert" not in page
    page.encode("utf-8")


def test_a_notebook_gets_a_frame():
    assert timeline(*ROWS)._repr_html_().startswith('<iframe sandbox="allow-scripts"')
