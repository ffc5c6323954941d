"""Async code called from a sync forward(): each way does what it does in a plain call."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import time
from collections.abc import Callable
from typing import Any

import anyio
import dspy
import pytest

from dspy_parallel import in_bridge, run
from dspy_parallel.errors import ThreadRequiredError
from tests.seams.programs import alone, outcome, same_as_sync, with_engine

# DSPy leaves sqlite connections of its cache to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


async def reply(text: str = "reply") -> str:
    await asyncio.sleep(0)
    return text


async def fail() -> None:
    raise LookupError("on purpose")


def by_new_loop(fn: Callable[..., Any]) -> Any:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(fn())
    finally:
        loop.close()


def by_runner(fn: Callable[..., Any]) -> Any:
    with asyncio.Runner() as runner:
        return runner.run(fn()), runner.run(fn())


WAYS = [
    pytest.param(lambda fn: asyncio.run(fn()), id="asyncio.run"),
    pytest.param(by_new_loop, id="run_until_complete"),
    pytest.param(lambda fn: anyio.run(fn), id="anyio.run"),
]
if sys.version_info >= (3, 11):
    WAYS.append(pytest.param(by_runner, id="Runner"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("engine", ["auto", "thread"])
def test_a_loop_of_its_own(way: Callable[..., Any], engine: str) -> None:
    assert same_as_sync(lambda: way(reply), engine=engine)[0] == "value"
    assert same_as_sync(lambda: way(fail), engine=engine)[0] is LookupError


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("way", WAYS)
def test_a_loop_of_its_own_needs_a_thread(way: Callable[..., Any]) -> None:
    with pytest.raises(ThreadRequiredError, match="event loop"):
        alone(lambda: way(reply), engine="loop")
    gc.collect()


def test_what_a_nested_loop_sets_stays_there() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def change() -> str:
        seen = variable.get()
        variable.set("nested")
        return seen

    def program() -> Any:
        variable.set("program")
        return asyncio.run(change()), variable.get()

    assert contextvars.copy_context().run(program) == alone(program) == ("program", "program")


def test_the_running_loop_is_found_and_used() -> None:
    """`get_event_loop().run_until_complete()`, which upstream refuses on a running loop."""
    assert alone(lambda: asyncio.get_event_loop().run_until_complete(reply()), engine="loop") == "reply"


@pytest.mark.parametrize("engine", ["loop", "auto", "thread"])
def test_anyio_from_thread_comes_back_to_the_programs_loop(engine: str) -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()

        async def where(text: str) -> Any:
            await asyncio.sleep(0)
            return text, asyncio.get_running_loop() is loop

        def program() -> Any:
            return (
                anyio.from_thread.run(where, "async"),
                anyio.from_thread.run_sync(lambda text: (text, asyncio.get_running_loop() is loop), "sync"),
            )

        return await with_engine(engine, program)

    assert asyncio.run(main()) == (("async", True), ("sync", True))


def test_anyio_from_thread_without_a_function() -> None:
    same_as_sync(lambda: anyio.from_thread.run())
    same_as_sync(lambda: anyio.from_thread.run_sync())


def test_anyio_from_thread_in_anyios_own_threads_is_untouched() -> None:
    async def main() -> Any:
        return await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(reply, "from a thread"))

    assert asyncio.run(main()) == "from a thread"


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("engine", ["loop", "auto", "thread"])
def test_syncify(engine: str, in_place: bool) -> None:
    """No nest_asyncio: the coroutine is awaited on the program's loop."""

    class Native(dspy.Module):
        async def aforward(self, text: str) -> Any:
            return dspy.Prediction(text=await reply(text), loop=id(asyncio.get_running_loop()))

    async def main() -> Any:
        program = dspy.syncify(Native(), in_place=in_place)
        prediction = await with_engine(engine, lambda: program(text="t"))
        return prediction.text, prediction.loop == id(asyncio.get_running_loop())

    assert asyncio.run(main()) == ("t", True)
    assert "nest_asyncio" not in sys.modules


def test_a_nested_loop_is_not_in_the_bridge() -> None:
    """Sync code in its coroutines blocks it, as it does in sync programs, and nobody else."""

    async def nested() -> Any:
        time.sleep(0)
        return in_bridge()

    assert alone(lambda: asyncio.run(nested())) is False


def test_outside_the_bridge_a_running_loop_is_refused_as_ever() -> None:
    async def main() -> Any:
        coroutine = reply()
        try:
            return outcome(lambda: asyncio.run(coroutine))
        finally:
            coroutine.close()

    assert asyncio.run(main())[0] is RuntimeError
    assert asyncio.run(run(reply, "driven")) == "driven"
