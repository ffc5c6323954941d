"""Programs that random ones led to: each went wrong once."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

from tests.overlap.lms import LMFailure, TimedLM, one_second, uneven
from tests.overlap.observing import assert_same, observe


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
