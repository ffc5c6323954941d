"""`speculate=True`: calls on both sides of a branch that is not decided yet."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest

from dspy_parallel import async_module, explain, pure
from tests.overlap.construct import Predictors
from tests.overlap.lms import LMFailure, TimedLM, always
from tests.overlap.observing import assert_same, observe
from tests.overlap.test_constructs import CountingLM


def if_else(self: Any, x: str) -> Any:
    if self.ask(x=x).score > 0.5:  # noqa: SIM108
        y = self.a(x=x).y
    else:
        y = self.b(x=x).y
    return dspy.Prediction(y=y)


def elif_and_early_returns(self: Any, x: str) -> Any:
    answer = self.ask(x=x)
    if answer.score > 2:
        return self.a(x="high")
    elif answer.score < 0:
        return self.a(x="low")
    return self.b(x="middle")


def conditional_expression(self: Any, x: str) -> Any:
    return dspy.Prediction(y=self.a(x=x).y if self.ask(x=x).good else self.b(x=x).y)


def and_or(self: Any, x: str) -> Any:
    one = self.ask(x=x).score >= 0 and self.a(x=x).y
    two = self.ask(x=x + "!").score > 2 or self.b(x=x).y
    return dspy.Prediction(one=one, two=two)


def match(self: Any, x: str) -> Any:
    match self.ask(x=x).good:
        case True:
            return self.a(x="good")
        case False:
            return self.b(x="bad")


def comprehension(self: Any, x: str) -> Any:
    return dspy.Prediction(y=[self.a(x=f"{i}").y for i in range(3) if self.ask(x=f"{x}{i}").good])


def list_that_grows(self: Any, x: str) -> Any:
    found = ["first"]
    if self.ask(x=x).score >= 0:
        found.append("second")
        found.append(self.a(x=f"{found}").y)
    else:
        found.clear()
    found.append("third")
    return dspy.Prediction(y=found)


def loop(self: Any, x: str) -> Any:
    found = []
    for i in range(3):
        if self.ask(x=f"{x}{i}").good:
            found.append(self.a(x=f"{i}").y)
    return dspy.Prediction(y=found)


def chain_on_one_side(self: Any, x: str) -> Any:
    answer = self.ask(x=self.a(x=x).y)
    if answer.score >= 0:
        x = self.b(x=self.b(x=x).y).y
    return dspy.Prediction(y=x)


def helper_on_one_side(self: Any, x: str) -> Any:
    return dspy.Prediction(y=self.helper(x) if self.ask(x=x + "?").score >= 0 else "")


# Name: seconds with one for each call, and calls that turned out to be unwanted.
PROGRAMS: dict[Any, tuple[float, int]] = {
    if_else: (1, 1),
    elif_and_early_returns: (1, 2),
    conditional_expression: (1, 1),
    and_or: (1, 0),
    match: (1, 1),
    comprehension: (1, 0),
    list_that_grows: (1, 0),
    loop: (1, 0),
    chain_on_one_side: (2, 0),
    helper_on_one_side: (1, 1),
}
each_program = pytest.mark.parametrize("forward", PROGRAMS, ids=lambda forward: forward.__name__)


def made(forward: Any) -> Any:
    return type("Case", (Predictors,), {"forward": forward})


@each_program
def test_same_result_in_the_time_of_the_longest_side(forward: Any) -> None:
    expected = observe(made(forward), {"x": "word"}, TimedLM(), "sequential")
    lm = TimedLM()
    found = observe(made(forward), {"x": "word"}, lm, "overlapped", speculate=True)
    unwanted = len(lm.requests) - len(expected.requests)
    assert_same(expected, found, extra_calls=True)
    assert (found.seconds, unwanted) == PROGRAMS[forward]


@each_program
def test_no_guesses_without_it(forward: Any) -> None:
    expected = observe(made(forward), {"x": "word"}, TimedLM(), "sequential")
    assert_same(expected, observe(made(forward), {"x": "word"}, TimedLM(), "overlapped"))


def test_unused_calls_are_cancelled_at_once_and_counted() -> None:
    """The other side's call is cancelled when the branch is decided, long before it would have been answered."""

    def forward(self: Any, x: str) -> Any:
        good = self.ask(x=x).score >= 0
        y = self.a(x="wanted").y if good else self.b(x="hold").y
        return dspy.Prediction(y=y, z=self.a(x=y).y)

    @pure
    class Holding(CountingLM):
        cancelled = 0

        async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            text = str(messages)
            if "score" in text:  # decides the branch, but not before the calls on both sides are there
                while self.now < 2:
                    await asyncio.sleep(0.001)
            self.latency = always(60.0 if "hold" in text else 0.05)
            try:
                return await super().aforward(prompt, messages, **kwargs)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

    lm = Holding()
    program = async_module(made(forward), overlap=True, speculate=True)()
    with dspy.context(lm=lm):
        report = explain(program, x="x")
    assert (report.speculated, report.discarded, report.cancelled) == (2, 1, 1)
    assert lm.cancelled == 1
    assert "2 on a guess" in str(report)


def test_a_guess_that_fails_hurts_nobody() -> None:
    def forward(self: Any, x: str) -> Any:
        if self.ask(x=self.a(x=x).y).score > 2:
            return self.b(x="raise LMFailure")
        return self.b(x=x)

    expected = observe(made(forward), {"x": "word"}, TimedLM(), "sequential")
    found = observe(made(forward), {"x": "word"}, TimedLM(), "overlapped", speculate=True)
    assert_same(expected, found, extra_calls=True)
    assert found.seconds == 2


def test_a_failing_guess_that_was_right_fails_in_its_place() -> None:
    def forward(self: Any, x: str) -> Any:
        try:
            if self.ask(x=self.a(x=x).y).score >= 0:
                self.b(x="raise LMFailure")
        except LMFailure:
            return self.a(x="caught")
        return self.a(x="not caught")

    expected = observe(made(forward), {"x": "word"}, TimedLM(), "sequential")
    found = observe(made(forward), {"x": "word"}, TimedLM(), "overlapped", speculate=True)
    assert_same(expected, found, extra_calls=True)


def test_nothing_that_can_be_seen_is_guessed() -> None:
    """A side that sets attributes is not followed."""

    def forward(self: Any, x: str) -> Any:
        if self.ask(x=x).score > 2:
            self.limit = 3
            return self.a(x=f"{self.limit}")
        self.limit = 4
        return self.b(x=f"{self.limit}")

    lm = TimedLM()
    expected = observe(made(forward), {"x": "word"}, TimedLM(), "sequential", effects=lambda program: program.limit)
    found = observe(
        made(forward), {"x": "word"}, lm, "overlapped", effects=lambda program: program.limit, speculate=True
    )
    assert_same(expected, found)
    assert found.everything["effects"] == expected.everything["effects"]
