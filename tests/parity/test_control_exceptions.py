"""Exceptions that steer rather than report pass through unharmed, wherever they are raised."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import dspy
import pytest
from dspy.utils.callback import BaseCallback
from greenlet import GreenletExit

from dspy_parallel import async_module
from tests.support.observation import logged
from tests.support.stub_lms import TwinLM


class Stop(BaseException):
    """A control exception of somebody's framework."""


def interrupt() -> BaseException:
    """LangGraph's, which is an ordinary exception by type."""
    errors = pytest.importorskip("langgraph.errors")
    return errors.GraphInterrupt(())


MAKERS: dict[str, Callable[[], BaseException]] = {
    "KeyboardInterrupt": lambda: KeyboardInterrupt("pressed"),
    "SystemExit": lambda: SystemExit(3),
    "GreenletExit": lambda: GreenletExit("left"),
    "Stop": lambda: Stop("own", 1),
    "GraphInterrupt": interrupt,
}


class RaisingLM(TwinLM):
    raised: BaseException

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise self.raised

    async def aforward(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        raise self.raised


class RaisingCallback(BaseCallback):
    def __init__(self, raised: BaseException) -> None:
        self.raised = raised

    def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        raise self.raised


def the_program(raised: BaseException) -> None:
    dspy.Predict("question -> answer")(question="first")
    raise raised


def a_tool(raised: BaseException) -> None:
    def use(n: int) -> int:
        raise raised

    dspy.Tool(use)(n=1)


def an_lm(raised: BaseException) -> None:
    lm = RaisingLM()
    lm.raised = raised
    with dspy.context(lm=lm):
        dspy.Predict("question -> answer")(question="q")


def an_lm_callback(raised: BaseException) -> None:
    with dspy.context(callbacks=[RaisingCallback(raised)]):
        dspy.Predict("question -> answer")(question="q")


class Inner(dspy.Module):
    def __init__(self, place: Callable[[BaseException], None], raised: BaseException) -> None:
        super().__init__()
        self.place, self.raised = place, raised

    def forward(self, n: int) -> Any:
        if n == 1:
            self.place(self.raised)
        return dspy.Prediction(n=n)


def parallel(raised: BaseException) -> None:
    run = dspy.Parallel(num_threads=2, disable_progress_bar=True)
    run([(Inner(the_program, raised), {"n": n}) for n in range(2)])


def parallel_in_one_thread(raised: BaseException) -> None:
    run = dspy.Parallel(num_threads=1, disable_progress_bar=True)
    run([(Inner(a_tool, raised), {"n": n}) for n in range(2)])


def an_inner_program(raised: BaseException) -> None:
    Inner(a_tool, raised)(n=1)


PLACES = (the_program, a_tool, an_lm, an_lm_callback, an_inner_program, parallel, parallel_in_one_thread)


class Outer(dspy.Module):
    def __init__(self, place: Callable[[BaseException], None], raised: BaseException) -> None:
        super().__init__()
        self.place, self.raised, self.cleaned = place, raised, False

    def forward(self) -> Any:
        try:
            self.place(self.raised)
        finally:
            self.cleaned = True
        return "went on"


def outcome(call: Callable[[], Any]) -> tuple[Any, ...]:
    with dspy.context(lm=TwinLM()), logged() as lines:
        try:
            result: Any = call()
        except BaseException as exc:
            result = exc
    return result, [line[:2] for line in lines]


@pytest.mark.parametrize("engine", ["loop", "thread", "auto"])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize("kind", MAKERS)
def test_the_same_as_when_called(kind: str, place: Any, engine: Any) -> None:
    """The same exception object comes out, or, where DSPy itself catches it, the same goes on."""
    if engine == "loop" and place in (a_tool, parallel, parallel_in_one_thread, an_inner_program):
        engine = "auto"  # these need a thread
    expected = MAKERS[kind]()
    called, log = outcome(Outer(place, expected))
    raised = MAKERS[kind]()
    program = async_module(engine=engine)(type("Outer", (Outer,), {}))(place, raised)
    awaited, its_log = outcome(lambda: asyncio.run(program.acall()))
    assert program.cleaned
    assert its_log == log
    if called is expected:
        assert awaited is raised
        assert awaited.args == expected.args
    else:
        assert type(awaited) is type(called)
        assert str(awaited) == str(called)


@pytest.mark.parametrize("kind", ["GreenletExit", "Stop", "GraphInterrupt"])
def test_one_of_many(kind: str) -> None:
    """It ends the program that raises it, and no other. (Ctrl-C and `sys.exit()` end the loop, as in any task.)"""
    programs = [async_module(engine="loop")(type("Outer", (Outer,), {}))(the_program, MAKERS[kind]()) for _ in range(3)]
    programs[1].place = lambda raised: dspy.Predict("question -> answer")(question="q")

    async def main() -> Any:
        with dspy.context(lm=TwinLM()):
            runs = [asyncio.ensure_future(program.acall()) for program in programs]
            await asyncio.wait(runs)
            return [run.exception() or run.result() for run in runs]

    first, second, third = asyncio.run(main())
    assert (first, third) == (programs[0].raised, programs[2].raised)
    assert second == "went on"
