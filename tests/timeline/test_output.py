"""Terminal, SVG, trace and files: what they show, and that names are harmless in them."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_parallel import Timeline, TimelineError
from dspy_parallel.display import plain
from dspy_parallel.timeline.groups import groups_of
from dspy_parallel.timeline.terminal import chart
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
    assert shown[-2].endswith(" → summarize → judge")
    assert shown[-1] == "lost: 0.20 s while code blocked the event loop, most at app.py:12"


def test_bars_are_where_things_ran():
    shown = lines_of(timeline((0, 8, None, "module", "P"), (4, 8, 0, "lm", "m")), 19 + 16 + 9)
    assert shown[0][19:35] == "█" * 16
    assert shown[1][19:35] == " " * 8 + "█" * 8


@pytest.mark.parametrize("width", [20, 40, 300])
def test_any_width_will_do(width):
    assert lines_of(timeline(*ROWS), width)


def test_rich_gets_colours():
    rich = pytest.importorskip("rich.console")
    file = io.StringIO()
    rich.Console(file=file, force_terminal=True, color_system="standard", width=100).print(timeline(*ROWS))
    assert "\x1b[32m" in file.getvalue()  # LM calls are green
    assert "\x1b[2J" not in file.getvalue()


@pytest.mark.parametrize(
    ("width", "label"),
    [
        (40, "summarize · openai/gpt-4o-mini ×2"),
        (28, "sum… · openai/gpt-4o-mini ×2"),
        (22, "openai/gpt-4o-mini ×2"),
        (18, "gpt-4o-mini ×2"),
        (11, "gpt-4o-mini"),
        (8, "gpt-4o-…"),
    ],
)
def test_the_name_of_a_model_is_cut_last(width, label):
    rows = ((0, 1, None, "predictor", "summarize"), (0, 1, 0, "lm", "openai/gpt-4o-mini"))
    twice = (*rows, (2, 3, None, "predictor", "summarize"), (2, 3, 2, "lm", "openai/gpt-4o-mini"))
    (group,) = groups_of(timeline(*twice).spans)
    assert group.label_in(width) == label


def test_the_critical_path_is_cut_unless_it_is_asked_for_whole():
    spans = timeline(*((n, n + 1, None, "tool", f"t{n}") for n in range(9))).spans
    assert [plain(chart(spans, 80, whole=whole)).endswith("t7 → t8") for whole in (False, True)] == [False, True]
    assert plain(chart(spans, 80)).endswith("t0 → t1 → t2 → t3 → t4 → 4 more")


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


def written(*rows):
    return f'{{"format": "dspy_parallel timeline", "version": 1, "spans": [{", ".join(rows)}]}}'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not a timeline"),
        ('{"format": "dspy_parallel timeline", "version": 9, "spans": []}', "another version"),
        ('{"format": "dspy_parallel timeline", "version": 1}', "damaged"),
        *(
            (written(*rows), "damaged")
            for rows in (
                ['[0, "lm", "x", 0, 1, "", {}]'],
                ['[null, "lm", "x", 1, 0, "", {}]'],
                ['[null, "lm", "x", 1, 2, "", {}]', '[null, "lm", "x", 0, 1, "", {}]'],
                ['[null, 1, "x", 0, 1, "", {}]'],
                *(
                    [f'[null, "lm", "x", 0, {time}, "", {{}}]']
                    for time in ("NaN", "Infinity", "1e400", "1e308", "1.1e9", "9" * 400, "true")
                ),
                ['[null, "lm", "x", -1e308, 0, "", {}]'],
                *(
                    [f'[null, "lm", "x", 0, 1, "", {{{fact}}}]']
                    for fact in (
                        '"retries": "x"',
                        '"retries": -1',
                        '"requests": 1.5',
                        '"a": NaN',
                        '"a": 1e400',
                        '"a": {}',
                    )
                ),
                [f'[{n - 1 if n else "null"}, "lm", "x", 0, 1, "", {{}}]' for n in range(3000)],
            )
        ),
    ],
)
def test_other_files_are_refused(tmp_path, content, said):
    (tmp_path / "t.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TimelineError, match=said):
        Timeline.load(tmp_path / "t.json")


def every_way(made):
    """What a timeline looks like, every way; and that browsers and viewers can parse it."""
    ET.fromstring(made.svg())
    page = made.html()
    for text in (made.chrome_trace(), page.partition('id="data">')[2].partition("</script>")[0]):
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    return [made.text(), page, repr(made), made._repr_html_()]


FINITE = st.floats(-1e9, 1e9)
KINDS = ["module", "predictor", "lm", "wait", "thread", "step", "chain", "blocked", "tool", "other"]
NAMES = st.sampled_from(["limit", "connection", "reply"]) | st.text(max_size=5)
COUNTS = st.dictionaries(st.sampled_from(["retries", "requests"]), st.integers(0, 10**9))
FACTS = st.dictionaries(
    st.sampled_from(["cached", "file", "line", "any"]), st.none() | st.booleans() | FINITE | st.text(max_size=5)
)


@st.composite
def rows_of_anybody(draw):
    """Whatever the checks of a file let pass."""
    rows = []
    for start in sorted(draw(st.lists(st.integers(-(10**9), 10**9) | FINITE, max_size=8))):
        parent = draw(st.none() | st.integers(0, len(rows) - 1)) if rows else None
        end = start + draw(st.sampled_from([0, 1e-9, 1, 1e9])) if start <= 0 else 1e9
        facts = draw(FACTS) | draw(COUNTS)
        rows.append([parent, draw(st.sampled_from(KINDS)), draw(NAMES), start, end, draw(NAMES), facts])
    return rows


@given(rows_of_anybody())
def test_whatever_is_read_can_be_shown(tmp_path, rows):
    (tmp_path / "t.json").write_text(written(*map(json.dumps, rows)), encoding="utf-8")
    every_way(Timeline.load(tmp_path / "t.json"))


def test_parts_of_parts_of_parts(tmp_path):
    timeline(*((n * 1e-4, 1000, n - 1 if n else None, "module", f"m{n}") for n in range(1999))).save(
        tmp_path / "t.json"
    )
    every_way(Timeline.load(tmp_path / "t.json"))


def test_a_page_says_nothing_that_a_parser_obeys():
    page = timeline(*ROWS).html()
    assert page.count("<script") == 2
    assert "<script>alert" not in page
    page.encode("utf-8")


def test_a_notebook_gets_a_frame():
    assert timeline(*ROWS)._repr_html_().startswith('<iframe sandbox="allow-scripts"')
