"""Each construct of Python that the scout understands: the same result, and all calls at once that can be."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest

from dspy_parallel import async_module, pure
from tests.overlap import constructs, constructs_of_every_day, constructs_of_values
from tests.overlap.construct import Construct
from tests.overlap.observing import assert_same, observe
from tests.support.timed_lm import TimedLM, always


@pure
class CountingLM(TimedLM):
    """Knows how many of its calls were in flight at once."""

    def __init__(self, seconds: float = 1.0) -> None:
        super().__init__(latency=always(seconds))
        self.now = self.peak = 0

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            return await super().aforward(prompt, messages, **kwargs)
        finally:
            self.now -= 1


@pure
class HoldingLM(TimedLM):
    """Answers nobody before a number of calls is in flight."""

    def __init__(self, wanted: int) -> None:
        super().__init__(latency=lambda _: 0.0)
        self.wanted = wanted
        self.arrived = 0
        self.all_there: asyncio.Event | None = None

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        if self.all_there is None:
            self.all_there = asyncio.Event()
        self.arrived += 1
        if self.arrived == self.wanted:
            self.all_there.set()
        await self.all_there.wait()
        return await super().aforward(prompt, messages, **kwargs)


# All files fill one table.
CONSTRUCTS = [*constructs.CONSTRUCTS]
assert constructs_of_values.CONSTRUCTS is constructs_of_every_day.CONSTRUCTS is constructs.CONSTRUCTS
each_construct = pytest.mark.parametrize("construct", CONSTRUCTS, ids=str)


@each_construct
def test_same_as_in_sequence(construct: Construct) -> None:
    """Output, trace, usage, histories, callbacks and LM calls; in no more time than the longest chain takes."""
    expected = observe(construct.make, {"x": "word"}, TimedLM(), "sequential")
    lm = CountingLM()
    found = observe(construct.make, {"x": "word"}, lm, "overlapped")
    assert "exception" not in expected.everything, expected.everything["exception"]
    assert_same(expected, found)
    assert found.seconds == pytest.approx(construct.depth)
    assert lm.peak == construct.peak


FIRST_CALLS = [construct for construct in CONSTRUCTS if construct.depth == 1]


@pytest.mark.parametrize("construct", FIRST_CALLS, ids=str)
def test_all_in_flight_at_once(construct: Construct) -> None:
    """From sync code, on the loop that serves it: nobody is answered before all are there."""
    observe(construct.make, {"x": "word"}, HoldingLM(construct.peak), "called")


@each_construct
def test_same_from_a_thread(construct: Construct) -> None:
    """Where `engine="auto"` begins: the program in a worker thread, the scout on the loop, both at work at once."""
    expected = observe(construct.make, {"x": "word"}, TimedLM(), "sequential")
    lm = TimedLM(latency=always(0.0))
    cls = type(construct.make())
    program = async_module(type(cls.__name__, (cls,), {}), engine="thread", overlap=True)()
    with dspy.context(lm=lm, trace=[]):
        output = program(x="word")
        steps = [(inputs, prediction.toDict()) for _, inputs, prediction in dspy.settings.trace]
    assert output.toDict() == expected.value.toDict()
    assert sorted(lm.requests) == expected.requests
    assert len(steps) == len(expected.everything["trace"])
