"""What waits for an LM is in order with what others change and read; no call is made twice for a caught exception."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

from dspy_parallel import async_module
from tests.overlap import programs_of_calls, programs_of_order
from tests.overlap.observing import assert_same, observe
from tests.overlap.stateful import effects_of
from tests.support.observation import Describer
from tests.support.timed_lm import TimedLM, always, uneven

PROGRAMS = {**programs_of_order.program, **programs_of_calls.program}
each_program = pytest.mark.parametrize("name", PROGRAMS)


def first_is_quick(conversation: Any) -> float:
    """So that what follows from the first reply is found out while the others are in flight."""
    return 1.0 if "word" in conversation.last_user else 4.0


def seen(name: str, way: Any, latency: Any = uneven) -> Any:
    return observe(PROGRAMS[name].make, {"x": "word"}, TimedLM(latency=latency), way, effects=effects_of)


_expected: dict[str, Any] = {}


def in_sequence(name: str) -> Any:
    if name not in _expected:
        _expected[name] = seen(name, "sequential")
        assert "exception" not in _expected[name].everything, _expected[name].everything["exception"]
    return _expected[name]


@each_program
@pytest.mark.parametrize("latency", [uneven, first_is_quick, always(1.0)])
def test_same_as_in_sequence(name: str, latency: Any) -> None:
    """Output, trace, usage, histories, callbacks, LM calls and effects; not one call too many, even if it fails."""
    expected, found = in_sequence(name), seen(name, "overlapped", latency)
    assert_same(expected, found)
    assert found.requests == expected.requests


@each_program
def test_same_from_a_thread(name: str) -> None:
    """The program in a worker thread, the scout on the loop, both at work at once."""
    expected, lm = in_sequence(name), TimedLM(latency=always(0.0))
    program = async_module(type("Program", (PROGRAMS[name].make,), {}), engine="thread", overlap=True)()
    with dspy.context(lm=lm, trace=[]):
        output = program(x="word")
    assert output.toDict() == expected.value.toDict()
    assert sorted(lm.requests) == expected.requests
    assert Describer()(effects_of(program)) == expected.everything["effects"]
