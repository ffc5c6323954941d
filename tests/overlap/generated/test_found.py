"""Programs that random ones led to: each went wrong once."""

from __future__ import annotations

import functools
from typing import Any

import dspy
import pytest

from tests.overlap.observing import assert_same, observe
from tests.support.timed_lm import LMFailure, TimedLM, one_second, uneven


class Asking(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("question -> answer")
        self.second = dspy.ChainOfThought("question -> answer")


class SameCallAfterException(Asking):
    """The scout's call is cancelled when an exception leaves the block, and made by the program after it."""

    def forward(self, text: str) -> Any:
        try:
            self.first(question=text)
            self.first(question="raise LMFailure")
            self.second(question=text)
        except LMFailure:
            pass
        return self.second(question=self.second(question=text).answer)


@pytest.mark.parametrize("latency", [one_second, uneven])
@pytest.mark.parametrize("module", [SameCallAfterException])
def test_same_as_in_sequence(module: Any, latency: Any) -> None:
    expected = observe(module, {"text": "begin"}, TimedLM(), "sequential")
    found = observe(module, {"text": "begin"}, TimedLM(latency=latency), "overlapped")
    assert_same(expected, found, extra_calls=True)
    assert len(found.requests) <= len(expected.requests) + 1


class Trouble(Exception):
    pass


def retried(fn: Any) -> Any:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        for _ in range(2):
            try:
                return fn(*args, **kwargs)
            except Trouble:
                pass
        return "given up"

    return wrapper


class CaughtFurtherInside(Asking):
    """What the decorator catches reaches no handler outside, whose call must not be made."""

    @retried
    def careful(self, text: str) -> str:
        answer = self.first(question=text).answer
        if int(answer[-1], 16) % 2:
            raise Trouble(answer)
        return answer

    def forward(self, text: str) -> Any:
        noted = []
        for word in ("red", "blue", "river", text):
            try:
                noted.append(self.careful(word))
            except Exception:
                noted.append(self.second(question=word).answer)
        return noted


@pytest.mark.parametrize("latency", [one_second, uneven])
def test_no_call_of_a_handler_that_is_not_reached(latency: Any) -> None:
    expected = observe(CaughtFurtherInside, {"text": "begin"}, TimedLM(), "sequential")
    found = observe(CaughtFurtherInside, {"text": "begin"}, TimedLM(latency=latency), "overlapped")
    assert_same(expected, found)
    assert found.requests == expected.requests
    assert "given up" in expected.value
