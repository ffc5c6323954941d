"""Figures, critical path and rows, on timelines that can be checked by hand."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_parallel.timeline.rows import rows_of
from tests.timeline.making import timeline

THREE = timeline(
    (0, 10, None, "module", "Program"),
    (0, 4, 0, "lm", "a"),
    (0, 6, 0, "lm", "b"),
    (1, 2, 2, "wait", "limit"),
    (2, 3, None, "blocked", "app.py:1 in f"),
    (2.5, 3.5, None, "blocked", "app.py:2 in g"),
    (7, 10, 0, "lm", "c", {"cached": True, "retries": 2}),
    (7, 7.5, 6, "wait", "connection"),
)


def test_figures():
    figures = THREE.figures
    assert figures.makespan == 10
    assert (figures.lm_calls, figures.cached, figures.retries) == (3, 1, 2)
    assert figures.lm_seconds == pytest.approx(4 + 4 + 2.5)
    assert figures.parallelism == pytest.approx(1.05)
    assert figures.peak_in_flight == 2
    assert figures.limit_seconds == 1
    assert figures.connection_seconds == 0.5
    assert figures.blocked_seconds == 1.5  # the two overlap
    assert figures.critical_seconds == pytest.approx(4 + 2.5)


def test_the_critical_path_goes_by_what_ended_last():
    path = [(segment.span, segment.start, segment.end) for segment in THREE.critical_path]
    assert path == [(2, 0, 1), (3, 1, 2), (2, 2, 6), (0, 6, 7), (7, 7, 7.5), (6, 7.5, 10)]


def test_a_thread_is_not_waited_for():
    """What runs in it is; with a scout, what is called elsewhere."""
    made = timeline(
        (0, 9, None, "module", "Program"),
        (0, 9, 0, "thread", "worker"),
        (1, 4, 0, "lm", "called by the scout"),
        (5, 8, 1, "lm", "called in the thread"),
    )
    path = [(segment.span, segment.start, segment.end) for segment in made.critical_path]
    assert path == [(0, 0, 1), (2, 1, 4), (0, 4, 5), (3, 5, 8), (0, 8, 9)]


def test_a_thread_with_nothing_in_it_is_all_there_is():
    (segment,) = timeline((0, 9, None, "thread", "worker")).critical_path
    assert (segment.span, segment.start, segment.end) == (0, 0, 9)


def test_a_call_within_an_lm_is_not_a_second_one():
    found = timeline((0, 2, None, "lm", "outer"), (0.5, 1.5, 0, "lm", "inner")).figures
    assert (found.lm_calls, found.lm_seconds, found.peak_in_flight) == (1, 2, 1)


def test_nothing_comes_to_nothing():
    assert timeline().figures.parallelism == 0
    assert timeline().critical_path == []
    assert str(timeline()) == "Nothing was recorded."


@st.composite
def timelines(draw):
    rows = []
    for number in range(draw(st.integers(1, 12))):
        parent = draw(st.none() | st.integers(0, number - 1)) if number else None
        low = 0 if parent is None else rows[parent][0]
        start = max(draw(st.integers(low, low + 10)), rows[-1][0] if rows else 0)
        rows.append((start, start + draw(st.integers(0, 10)), parent, draw(st.sampled_from(["module", "lm"])), "x"))
    return timeline(*rows)


@given(timelines())
def test_the_critical_path_never_does_two_things_at_once(made):
    path = made.critical_path
    assert all(one.end <= other.start + 1e-9 for one, other in itertools.pairwise(path))
    assert sum(s.end - s.start for s in path) <= made.figures.makespan + 1e-9
    assert all(made.spans[s.span].start <= s.start <= s.end <= made.spans[s.span].end for s in path)


@given(timelines())
def test_spans_in_one_row_do_not_overlap(made):
    spans, rows = made.spans, rows_of(made.spans)
    for number, span in enumerate(spans):
        assert span.parent is None or rows[span.parent] < rows[number]
        for other in spans[:number]:
            if rows[other.id] == rows[number]:
                assert other.end <= span.start or span.end <= other.start
