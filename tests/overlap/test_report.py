"""What `explain()` tells of a program: the calls that waited for each other, by what they are made of."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest

from dspy_parallel import explain, pure
from tests.support.timed_lm import TimedLM


class Diamond(dspy.Module):
    """Two independent calls, one that needs the first, one that needs the second if both are there, and the last."""

    def __init__(self) -> None:
        super().__init__()
        self.left = dspy.Predict("x -> y")
        self.right = dspy.Predict("x -> y")
        self.after_left = dspy.Predict("x -> y")
        self.after_right = dspy.Predict("x -> y")
        self.last = dspy.Predict("x, z -> y")

    def forward(self, x: str) -> Any:
        left = self.left(x="left").y
        right = self.right(x="right").y
        further = self.after_left(x=f"then {left}").y
        if len(right) > 0:
            right = self.after_right(x=f"next {right}").y
        return self.last(x=further, z=right)


@pure
class LongestThen(TimedLM):
    """Answers what follows the left one after what follows the right one, however late that is."""

    next_is_answered: asyncio.Event
    """Of the class, which copies have in common."""

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        asked = messages[-1]["content"]
        if "\nthen" in asked:
            await self.next_is_answered.wait()
        reply = await super().aforward(prompt, messages, **kwargs)
        if "\nnext" in asked:
            self.next_is_answered.set()
        return reply


SLOW = {"then": 0.3, "next": 0.05}


@pytest.mark.parametrize("slow", [{"left": 0.05, "right": 0.05}, {"left": 0.05, "right": 0.15}, {"left": 0.15}])
def test_calls_wait_for_what_they_are_made_of(slow: dict[str, float]) -> None:
    """Also if another call was done at the same moment."""
    seconds = {**SLOW, **slow}

    def latency(conversation: Any) -> float:
        return next((each for word, each in seconds.items() if f"\n{word}" in conversation.last_user), 0.05)

    LongestThen.next_is_answered = asyncio.Event()
    with dspy.context(lm=LongestThen(latency=latency)):
        report = explain(Diamond(), x="x")
    names = ["left", "right", "after_left", "after_right", "last"]
    assert [call.name for call in report.calls] == names
    waited = [call.waited_for.partition(" on ")[0] for call in report.calls]
    assert waited == ["", "", "call 1, left", "call 2, right", "call 3, after_left"]
    assert report.critical_path == [1, 3, 5]
    assert 2 in report.calls[0].overlapped_with
    assert 1 in report.calls[1].overlapped_with
    assert report.calls[4].overlapped_with == []
    assert report.sequential_seconds == pytest.approx(sum(call.seconds for call in report.calls))
    assert report.overlapped_seconds >= max(call.ended for call in report.calls)


class Sequential(Diamond):
    def forward(self, x: str) -> Any:
        first = self.left(x="left").y
        print(repr(Unknown()))
        return [self.right(x="right").y, self.after_left(x=first).y]


class Unknown:
    def __repr__(self) -> str:
        return "unknown"


def test_calls_in_sequence_wait_for_the_one_before() -> None:
    """Whatever they are made of, with the line that is not followed; behind it, they don't wait for each other."""
    with dspy.context(lm=TimedLM(latency=lambda _: 0.01)):
        report = explain(Sequential(), x="x")
    waited = [call.waited_for for call in report.calls]
    assert waited[0] == ""
    assert waited[1].startswith("call 1, left")
    assert "in sequence since test_report.py:" in waited[1]
    assert waited[2].startswith("call 1, left")
    assert report.critical_path in ([1, 2], [1, 3])


class Fails(Diamond):
    def forward(self, x: str) -> Any:
        number = int(self.left(x="left").y)
        return [number, self.right(x="right").y, self.after_left(x="then").y]


@pure
class RightThenLeft(TimedLM):
    """Answers the left one after the right one, and what comes after both never."""

    right_is_answered: asyncio.Event
    """Of the class, which copies have in common."""

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        asked = messages[-1]["content"]
        if "\nleft" in asked:
            await self.right_is_answered.wait()
        reply = await super().aforward(prompt, messages, **kwargs)
        if "\nthen" in asked:
            await asyncio.Event().wait()
        if "\nright" in asked:
            self.right_is_answered.set()
        return reply


def test_what_was_answered_for_nothing_is_counted_apart() -> None:
    """One early call is over when the program fails, one is in flight and is cancelled."""
    RightThenLeft.right_is_answered = asyncio.Event()
    with dspy.context(lm=RightThenLeft(latency=lambda _: 0.1)):
        report = explain(Fails(), x="x")
    assert isinstance(report.exception, ValueError)
    assert report.early - report.joined == report.discarded == 2
    assert report.cancelled == 1
    assert "2 discarded (1 cancelled in flight)" in str(report)


class Pair(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p, self.q = dspy.Predict("x -> y"), dspy.Predict("x -> y")

    def forward(self, x: str) -> Any:
        return self.p(x=x).y, self.q(x=x).y


class Deep(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.many, self.named = Pair(), [Pair()], {"k": Pair()}

    def forward(self, x: str) -> Any:
        return self.one(x=x), [each(x=x) for each in self.many], self.named["k"](x=x)


def test_early_calls_deep_inside_have_names() -> None:
    with dspy.context(lm=TimedLM()):
        report = explain(Deep(), x="x")
    names = ["one.p", "one.q", "many[0].p", "many[0].q", "named['k'].p", "named['k'].q"]
    assert [call.name for call in report.calls] == names
    assert report.early >= 5
