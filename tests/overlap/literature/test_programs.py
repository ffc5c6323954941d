"""Programs from the literature: the sequential program's result, as fast as its best async version."""

from __future__ import annotations

import statistics
from typing import Any

import dspy
import pytest

from benchmarks.overlap_programs import PROGRAMS, Program
from tests.overlap.lms import TimedLM, always, one_second, uneven
from tests.overlap.observing import assert_same, observe
from tests.overlap.virtual_time import run_virtual

LATENCIES = {"even": one_second, "uneven": uneven}
each_program = pytest.mark.parametrize("program", PROGRAMS, ids=str)


def by_hand(program: Program, lm: TimedLM) -> tuple[Any, float]:
    with dspy.context(lm=lm):
        return run_virtual(program.by_hand().acall, **program.inputs)


def overlapped(program: Program, lm: TimedLM) -> float:
    seen = observe(program.module, dict(program.inputs), lm, "overlapped")
    assert "exception" not in seen.everything, seen.everything["exception"]
    return seen.seconds


@each_program
def test_by_hand_is_what_it_claims_to_be(program: Program) -> None:
    """The measure itself: the same output and LM calls as in sequence, in the time that is said to be needed."""
    lm = TimedLM(program.answers)
    expected = observe(program.module, dict(program.inputs), lm, "sequential")
    assert len(expected.requests) == program.calls
    hand = TimedLM(program.answers)
    output, seconds = by_hand(program, hand)
    assert output.toDict() == expected.value.toDict()
    assert sorted(hand.requests) == expected.requests
    assert seconds == pytest.approx(program.depth)


@each_program
@pytest.mark.parametrize("way", ["overlapped", "called"])
def test_same_as_in_sequence(program: Program, way: Any) -> None:
    """Output, trace, usage, history, callbacks, log and LM calls."""
    latency = uneven if way == "overlapped" else always(0.0)
    expected = observe(program.module, dict(program.inputs), TimedLM(program.answers), "sequential")
    found = observe(program.module, dict(program.inputs), TimedLM(program.answers, latency), way)
    assert_same(expected, found)


@each_program
def test_as_fast_as_by_hand(program: Program) -> None:
    """On the virtual clock, so exactly; with 1 s for each LM call."""
    assert overlapped(program, TimedLM(program.answers)) <= 1.15 * program.depth


@pytest.mark.parametrize("latency", LATENCIES)
def test_as_fast_as_by_hand_overall(latency: str) -> None:
    """The median program, also when some LM calls take four times as long as others."""
    ratios = {}
    for program in PROGRAMS:
        _, hand = by_hand(program, TimedLM(program.answers, LATENCIES[latency]))
        ratios[program.name] = overlapped(program, TimedLM(program.answers, LATENCIES[latency])) / hand
    for name, ratio in sorted(ratios.items(), key=lambda item: -item[1]):
        print(f"{ratio:5.2f}  {name}")
    assert statistics.median(ratios.values()) <= 1.05
    assert max(ratios.values()) <= 1.15
