"""Behind what the scout can't follow, it goes on from where the program is; and only if that is certain."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable
from typing import Any

import dspy
import pytest

from dspy_parallel import explain
from tests.overlap.observing import Way, assert_same, observe
from tests.overlap.stateful import LOG, Base, effects_of
from tests.support.timed_lm import TimedLM, always, uneven

names: dict[str, Any] = {"LOG": LOG}
exec("def fetched(value): LOG.append(str(value)); return value", names)
fetched = names["fetched"]
"""It has no source: what it does can't be read."""

Forward = Callable[[Any, str], Any]
PROGRAMS: dict[str, tuple[Forward, float]] = {}


def takes(seconds: float) -> Callable[[Forward], Forward]:
    def add(forward: Forward) -> Forward:
        PROGRAMS[forward.__name__] = forward, seconds
        return forward

    return add


@takes(1)
def two_calls_behind_it(self: Any, x: str) -> Any:
    page = fetched(x)
    one = self.a(x=page).y
    return dspy.Prediction(y=one, z=self.b(x=page + "!").y)


@takes(2)
def calls_before_and_behind_it(self: Any, x: str) -> Any:
    before = [self.a(x=x).y, self.b(x=x).y]
    page = fetched(before[0] + before[1])
    found = {"one": self.a(x=page).y}
    found["two"] = self.b(x=page).y
    self.state.append(self.c(x=page).y)
    return dspy.Prediction(found=found)


@takes(3)
def one_in_each_turn(self: Any, x: str) -> Any:
    """The turns wait for each other, what is in them does not."""
    found = []
    for word in (x, "owl", "tea"):
        page = fetched(word)
        found.append(self.a(x=page).y)
        found.append(self.b(x=page).y)
    return dspy.Prediction(found=found)


@takes(2)
def a_loop_behind_it(self: Any, x: str) -> Any:
    pages = [fetched(word) for word in (x, "owl", "tea")]
    found = []
    for number, page in enumerate(pages):
        if number > 5:
            continue
        first = self.a(x=page).y
        found.append(self.b(x=first).y)
    return dspy.Prediction(found=found)


class Lease:
    def __del__(self) -> None:
        LOG.append("given back")


class Page:
    """Has nothing of its own to say about its end."""


@takes(2)
def an_end_that_is_logged(self: Any, x: str) -> Any:
    lease = [Lease()]
    page = fetched(x)
    one, two = self.a(x=page).y, self.b(x=page).y
    del lease
    LOG.append("after")
    return dspy.Prediction(one=one, two=two)


@takes(2)
def an_end_that_is_watched(self: Any, x: str) -> Any:
    page = Page()
    watched = weakref.ref(page)
    fetched(x)
    one, two = self.a(x=x).y, self.b(x=x).y
    del page
    return dspy.Prediction(one=one, two=two, is_over=watched() is None)


@takes(2)
def a_generator_that_ends_with_it(self: Any, x: str) -> Any:
    def lines() -> Any:
        try:
            yield x
        finally:
            LOG.append("closed")

    given = lines()
    page = fetched(next(given))
    return dspy.Prediction(one=self.a(x=page).y, two=self.b(x=page).y)


@takes(2)
def a_database_with_something_to_take_back(self: Any, x: str) -> Any:
    connection = sqlite3.connect(":memory:")
    connection.execute("create table pages (text)")
    connection.execute("insert into pages values (?)", [x])
    page = fetched(x)
    one, two = self.a(x=page).y, self.b(x=page).y
    connection.close()
    return dspy.Prediction(one=one, two=two)


@takes(1)
def a_database_that_is_closed(self: Any, x: str) -> Any:
    connection = sqlite3.connect(":memory:")
    connection.close()
    page = fetched(x)
    return dspy.Prediction(one=self.a(x=page).y, two=self.b(x=page).y)


@takes(2)
def its_variables_as_they_were(self: Any, x: str) -> Any:
    given = locals()
    page = fetched(x)
    one = self.a(x=page).y
    return dspy.Prediction(one=one, two=self.b(x=page).y, given=sorted(given))


@takes(1)
def a_comprehension_behind_it(self: Any, x: str) -> Any:
    pages = fetched([x, "owl", "owl"])
    return dspy.Prediction(found=[self.a(x=page).y for page in pages], last=self.b(x=x).y)


@takes(2)
def a_branch_behind_it(self: Any, x: str) -> Any:
    page = fetched(x)
    more = []
    if page:
        more.append(self.a(x=page).y)
        if self.ask(x=page).score > -1:
            more.append(self.b(x="branch").y)
    return dspy.Prediction(y=more, z=self.c(x=page).y)


@takes(3)
def a_while_behind_it(self: Any, x: str) -> Any:
    left, found = fetched([x, "owl", "tea"]), []
    while left:
        word = left.pop()
        found.append(self.a(x=word).y)
        if self.ask(x=word).score < -1:
            break
    return dspy.Prediction(y=found, z=self.c(x=x).y)


@takes(1)
def in_a_context(self: Any, x: str) -> Any:
    """Behind the block it is not known what the settings were before it."""
    with dspy.context(temperature=fetched(0.5)):
        one = self.a(x=x).y
        two = self.b(x=x).y
    return dspy.Prediction(y=one, z=two)


@takes(3)
def turns_that_are_alike(self: Any, x: str) -> Any:
    """It is not known in which of them the program is."""
    found = []
    for word in fetched(["owl", "owl"]):
        LOG.append(word)
        found.append(self.a(x=word).y)
    return dspy.Prediction(found=found, last=self.b(x=x).y)


@takes(3)
def a_loop_that_changes_what_it_goes_over(self: Any, x: str) -> Any:
    words, found = fetched([x, "owl"]), []
    for word in words:
        found.append(self.a(x=word).y)
        if len(words) < 3:
            words.append("more")
    return dspy.Prediction(found=found)


@takes(2)
def what_is_taken_off_before_the_call(self: Any, x: str) -> Any:
    """To begin the statement anew would take off another one, which is equal."""
    words = fetched([x, "owl", "owl"])
    one = self.a(x=words.pop()).y
    return dspy.Prediction(y=one, words=words, z=self.b(x="".join(words)).y)


@takes(4)
def a_call_that_fails_in_a_try(self: Any, x: str) -> Any:
    page, found = fetched(x), []
    for word in ("owl", "raise LMFailure", "tea"):
        try:
            found.append(self.a(x=word).y)
            found.append(self.b(x=f"{word[:2]} {page}").y)
        except Exception as error:
            LOG.append(type(error).__name__)
    return dspy.Prediction(found=found)


@takes(2)
def a_function_that_sees_the_variables(self: Any, x: str) -> Any:
    """The program's own one, not the scout's."""
    word = fetched(x)
    see = lambda: word  # noqa: E731
    one = self.a(x=see()).y
    word = word + "!"
    return dspy.Prediction(y=one, z=self.b(x=see()).y)


def seen(name: str, way: Way, latency: Any) -> Any:
    make = type("Program", (Base,), {"forward": PROGRAMS[name][0]})
    return observe(make, {"x": "word"}, TimedLM(latency=latency), way, effects=effects_of)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("way", ["overlapped", "offloading", "called", "threaded", "by default"])
def test_same_as_in_sequence(name: str, way: Way) -> None:
    """No call too many, either; and as soon as that is possible."""
    expected = seen(name, "sequential", always(0.0))
    found = seen(name, way, uneven if way == "offloading" else always(1.0) if way == "overlapped" else always(0.0))
    assert_same(expected, found)
    assert found.requests == expected.requests or expected.excuses
    if way == "overlapped":
        asked_again = max(0, sum("fails" in request for request in expected.requests) - 1)  # by DSPy 3.0's adapters
        assert found.seconds == PROGRAMS[name][1] + asked_again


class Blocks(Base):
    def forward(self, x: str) -> Any:
        page = fetched(x)
        return dspy.Prediction(y=self.a(x=page).y, z=self.b(x=page).y)


def test_explained() -> None:
    """The line is named even if nothing was lost by it."""
    with dspy.context(lm=TimedLM(latency=always(0.0))):
        report = explain(Blocks(), x="word")
    assert [reason for _, reason in report.reasons] == ["there is no source of fetched"]
    assert report.early == report.joined == 1
