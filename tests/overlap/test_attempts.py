"""`dspy.BestOfN` and `dspy.Refine`: attempts are made ahead of their turn if module and reward have no effects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pydantic
import pytest

from dspy_parallel import explain
from dspy_parallel.testing import LMServer
from tests.overlap.observing import assert_same, observe
from tests.support.timed_lm import TimedLM, always

HEARD: list[str] = []


def never(args: Any, pred: Any) -> float:
    return 0.1 if "a" in pred.y else 0.2


def at_once(args: Any, pred: Any) -> float:
    return 1.0


def fails(args: Any, pred: Any) -> float:
    raise ValueError("no reward")


def hears(args: Any, pred: Any) -> float:
    HEARD.append(pred.y)
    return 0.5


class Row(pydantic.BaseModel):
    text: str

    @pydantic.field_validator("text")
    @classmethod
    def check(cls, text: str) -> str:
        HEARD.append(text)
        return text


class Asks(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = dspy.Predict("x -> y")

    def forward(self, x: str) -> Any:
        return self.p(x=x)


class Base(dspy.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.kind = kind
        self.asks = Asks()
        self.a, self.b = dspy.Predict("x -> y"), dspy.Predict("x -> y")
        self.held = kind(self.asks, N=3, reward_fn=never, threshold=1.0)
        self.quick = kind(self.asks, N=3, reward_fn=at_once, threshold=1.0)
        self.failing = kind(self.asks, N=3, reward_fn=fails, threshold=1.0, fail_count=9)
        self.hearing = kind(self.asks, N=2, reward_fn=hears, threshold=1.0)
        signature = dspy.Signature("x -> y: Row", custom_types={"Row": Row})
        self.validating = kind(dspy.Predict(signature), N=2, reward_fn=at_once, threshold=1.0)
        self.remote = kind(Asks(), N=2, reward_fn=never, threshold=1.0)


class Held(Base):
    def forward(self, x: str) -> Any:
        return self.held(x=x).y, self.a(x=x).y, self.b(x=x + "'").y


class Made(Base):
    def forward(self, x: str) -> Any:
        best = dspy.BestOfN if self.kind is dspy.BestOfN else dspy.Refine
        found = best(module=self.asks, N=3, reward_fn=never, threshold=1.0)(x=x).y
        return found, self.a(x=x).y, self.b(x=found).y, self.a(x=found).y


class ForEach(Base):
    def forward(self, x: str) -> Any:
        one = self.a(x=x).y
        return one, [self.quick(x=x + str(i)).y for i in range(3)], self.held(x=x).y


class Failing(Base):
    def forward(self, x: str) -> Any:
        return self.failing(x=x), self.a(x=x).y


class MadeOfALambda(Base):
    def forward(self, x: str) -> Any:
        best = self.kind(module=self.asks, N=2, reward_fn=lambda args, pred: len(x), threshold=9)
        found = best(x=x).y
        return found, self.a(x=x).y, self.b(x=x).y


class Hearing(Base):
    def forward(self, x: str) -> Any:
        return self.hearing(x=x).y, self.a(x=x + "".join(HEARD)).y


class Validating(Base):
    def forward(self, x: str) -> Any:
        return str(self.validating(x=x).y), self.a(x=x).y


KINDS = [dspy.BestOfN, dspy.Refine]
each_kind = pytest.mark.parametrize("kind", KINDS)


def state(program: Any) -> Any:
    """What a run leaves: what they count, no function of anybody else's, and what a reward or validator was told."""
    modules = program.held, program.quick, program.failing
    return [(each.fail_count, each.reward_fn.__qualname__) for each in modules], list(HEARD)


def seen(make: Any, kind: Any, way: Any, lm: Any = None) -> Any:
    HEARD.clear()
    lm = lm or TimedLM(latency=always(0.0 if way == "threaded" else 1.0))
    return observe(lambda: make(kind), {"x": "word"}, lm, way, effects=state)


@each_kind
@pytest.mark.parametrize(
    ("make", "seconds"),
    [
        (Held, {dspy.BestOfN: (5, 3), dspy.Refine: (7, 5)}),
        (Made, {dspy.BestOfN: (6, 4), dspy.Refine: (8, 6)}),
        (ForEach, {dspy.BestOfN: (7, 3), dspy.Refine: (9, 5)}),
        (Failing, {dspy.BestOfN: (4, 3), dspy.Refine: (4, 3)}),
        (MadeOfALambda, {dspy.BestOfN: (4, 3), dspy.Refine: (5, 4)}),
        (Hearing, {dspy.BestOfN: (3, 3), dspy.Refine: (4, 4)}),
        (Validating, {dspy.BestOfN: (2, 1), dspy.Refine: (2, 1)}),
    ],
)
def test_same_as_in_sequence(make: Any, seconds: Any, kind: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed of failed attempts, too: by the program alone."""
    expected, printed = seen(make, kind, "sequential"), capsys.readouterr().out
    found = seen(make, kind, "overlapped")
    assert_same(expected, found)
    assert found.requests == expected.requests
    assert capsys.readouterr().out == printed
    assert printed.count("failed") == (3 if make is Failing else 0)
    assert (found.sequentially, found.seconds) == seconds[kind]
    threaded = seen(make, kind, "threaded")
    assert_same(expected, threaded)
    assert threaded.requests == expected.requests
    assert capsys.readouterr().out == printed


class OwnLM(dspy.LM):
    """May depend on the order of calls."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        HEARD.append("asked")
        return super().forward(*args, **kwargs)


@each_kind
@pytest.mark.parametrize(
    ("make", "line", "why"),
    [
        (Held, 0, ""),
        (Made, 0, ""),
        (ForEach, 0, ""),
        (MadeOfALambda, 1, "a module is made of a LocalFunction"),
        (Hearing, 1, "what a {} is made of may have effects (declare it @pure)"),
        (Validating, 1, "making a Row from a reply may have effects (declare it @pure)"),
    ],
)
def test_what_holds_it_up_is_named(make: Any, line: int, why: str, kind: Any) -> None:
    with LMServer() as server, dspy.context(lm=dspy.LM("openai/any", cache=False, **server.lm_kwargs())):
        report = explain(make(kind), x="word")
    place = f"{Path(__file__).name}:{make.forward.__code__.co_firstlineno + line}"
    assert report.reasons == ([(place, why.format(kind.__name__))] if why else [])
    assert report.discarded == 0


def test_feedback_is_asked_of_the_lm_that_is_set() -> None:
    """The attempts' LM is known, the one that `Refine` asks about them is not."""
    with LMServer() as server:
        program = Held(dspy.Refine)
        program.set_lm(dspy.LM("openai/any", cache=False, **server.lm_kwargs()))
        with dspy.context(lm=OwnLM("openai/any", cache=False, **server.lm_kwargs())):
            report = explain(program, x="word")
    (_, why), *others = report.reasons
    assert not others
    assert why == "OwnLM is an LM of your own, which may depend on the order of calls (declare it @pure)"
