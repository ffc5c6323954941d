"""What goes in and comes out: values, exceptions, tracebacks; the same as in plain async code."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import traceback
from typing import Any

import pytest
from greenlet import GreenletExit

from dspy_parallel.bridge import await_, in_bridge, start
from dspy_parallel.bridge.thread_program import Outcome, Request
from dspy_parallel.callables import is_coroutine_function
from dspy_parallel.errors import BridgeError
from tests.bridge.programs import PLACEMENTS, run


async def echo(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


async def fail(exception: BaseException) -> Any:
    await asyncio.sleep(0)
    raise exception


class Awaitable:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self.value


MESSAGES = {
    "none": None,
    "tuple": (1, 2),
    "empty tuple": (),
    "one-tuple": (None,),
    "tuple of a future-like": (Awaitable(1),),
    "exception": ValueError("a value"),
    "cancelled": asyncio.CancelledError("a value"),
    "stop": StopIteration(1),
    "exit": GreenletExit("a value"),
    "own outcome": Outcome(1, None),
    "own failure": Outcome(None, ValueError()),
    "own request": Request(Awaitable(1), None),
    "class": ValueError,
}


@pytest.mark.parametrize("value", MESSAGES.values(), ids=MESSAGES)
def test_any_value_is_only_a_value(run_here, engine, value):
    """Also tuples, exceptions and the kernel's own messages, returned or awaited."""

    def program():
        seen = await_(echo(value))
        assert seen is value
        return seen

    assert run_here(run, program, engine=engine) is value


def test_arguments_are_passed_on(run_here, engine):
    def program(*args, **kwargs):
        return args, kwargs

    async def main():
        return await start(program, (1, 2), {"fn": 3, "engine": 4, "self": 5}, PLACEMENTS[engine])

    assert run_here(main) == ((1, 2), {"fn": 3, "engine": 4, "self": 5})
    assert run_here(run, program, 1, engine=engine, fn=2) == ((1,), {"fn": 2})


def test_every_kind_of_awaitable(run_here, engine):
    """Coroutines, futures, tasks, objects with __await__, finished ones, and what never suspends."""

    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, "future")
        finished = loop.create_future()
        finished.set_result("finished")
        task = loop.create_task(echo("task"))

        async def instant():
            return "instant"

        def program():
            return [await_(x) for x in (echo("coro"), future, finished, task, Awaitable("object"), instant())]

        return await run(program, engine=engine)

    assert run_here(main) == ["coro", "future", "finished", "task", "object", "instant"]


@pytest.mark.parametrize(
    "exception",
    [
        ValueError("text", 1),
        KeyError("key"),
        OSError(2, "no"),
        asyncio.TimeoutError(),
        GreenletExit("out"),
        BaseException("x"),
        SystemExit(3),
        KeyboardInterrupt(),
    ],
    ids=lambda e: type(e).__name__,
)
@pytest.mark.parametrize("where", ["program", "awaited"])
def test_exceptions_come_out_as_they_are(run_here, engine, exception, where):
    def program():
        await_(asyncio.sleep(0))
        if where == "awaited":
            await_(fail(exception))
        raise exception

    with pytest.raises(type(exception)) as caught:
        run_here(run, program, engine=engine)
    assert caught.value is exception


def test_programs_can_catch_what_they_await(run_here, engine):
    def program():
        for exception in (ValueError(), GreenletExit(), BaseException(), asyncio.CancelledError()):
            with pytest.raises(BaseException) as caught:
                await_(fail(exception))
            assert caught.value is exception
        return await_(echo("went on"))

    assert run_here(run, program, engine=engine) == "went on"


def test_stop_iteration_becomes_a_runtime_error(run_here, engine):
    """As in a coroutine (PEP 479); inside the program it is an ordinary exception."""

    def program():
        with pytest.raises(StopIteration):
            next(iter(()))
        return next(iter(()))

    with pytest.raises(RuntimeError, match="raised StopIteration") as caught:
        run_here(run, program, engine=engine)
    assert isinstance(caught.value.__cause__, StopIteration)


def test_traceback_reaches_the_users_frames(run_here, engine):
    """From the caller through the sync frames into the awaited coroutine, and the task that this waits for."""

    async def innermost():
        await asyncio.sleep(0)
        raise ValueError("deep")

    async def middle():
        await asyncio.create_task(innermost())

    def sync_inner():
        return await_(middle())

    def sync_outer():
        return sync_inner()

    async def caller():
        return await run(sync_outer, engine=engine)

    with pytest.raises(ValueError, match="deep") as caught:
        run_here(caller)
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    users = ["caller", "sync_outer", "sync_inner", "middle", "innermost"]
    assert [name for name in names if name in users] == users


def _story(exception: BaseException | None) -> Any:
    """An exception with all that led to it."""
    if exception is None:
        return None
    cause, context = _story(exception.__cause__), _story(exception.__context__)
    return repr(exception), cause, context, exception.__suppress_context__


def test_context_and_cause_are_those_of_plain_code(run_here, engine):
    """__cause__, __context__ and "from None", raised in an except block of the caller, program or coroutine."""

    async def inner(how):
        await asyncio.sleep(0)
        try:
            raise KeyError("first")
        except KeyError as exc:
            if how == "cause":
                raise ValueError(how) from exc
            if how == "none":
                raise ValueError(how) from None
            raise ValueError(how)  # noqa: B904

    async def simple(how):
        await asyncio.sleep(0)
        raise ValueError(how)

    async def plain_middle(body, how, handling):
        if not handling:
            await body(how)
        try:
            raise LookupError("handled by the program")
        except LookupError:
            await body(how)

    def sync_middle(body, how, handling):
        if not handling:
            await_(body(how))
        try:
            raise LookupError("handled by the program")
        except LookupError:
            await_(body(how))

    async def caller(middle, handling):
        if not handling:
            await middle()
        try:
            raise OSError("handled by the caller")
        except OSError:
            await middle()

    for body in (inner, simple):
        for how in ("cause", "none", "context"):
            for in_middle in (False, True):
                for in_caller in (False, True):
                    with pytest.raises(ValueError) as expected:
                        run_here(caller, functools.partial(plain_middle, body, how, in_middle), in_caller)
                    bridged = functools.partial(run, sync_middle, body, how, in_middle, engine=engine)
                    with pytest.raises(ValueError) as got:
                        run_here(caller, bridged, in_caller)
                    assert _story(got.value) == _story(expected.value), (body, how, in_middle, in_caller)


def test_an_exception_raised_again_makes_no_cycle(run_here, engine):
    """The caller handles an exception that itself came of the one raised again."""
    stored = ValueError("stored")

    def program():
        raise stored

    async def main():
        try:
            raise stored
        except ValueError:
            try:
                raise KeyError("then")
            except KeyError:
                await run(program, engine=engine)

    with pytest.raises(ValueError, match="stored") as caught:
        run_here(main)
    seen, link = set(), caught.value
    while link is not None:
        assert id(link) not in seen
        seen.add(id(link))
        link = link.__context__


def test_handled_exception_is_restored_after_a_wait(run_here, engine):
    """A bare raise after an await raises what the program handles, not what others did meanwhile."""

    def program(n):
        try:
            raise ValueError(n)
        except ValueError:
            await_(asyncio.sleep(0))
            assert sys.exc_info()[1].args == (n,)
            raise

    async def main():
        return await asyncio.gather(*(run(program, n, engine=engine) for n in range(5)), return_exceptions=True)

    assert [exc.args for exc in run_here(main)] == [(n,) for n in range(5)]


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_what_the_caller_handles_is_seen_and_raised_again(run_here, engine, kind):
    """As on one stack, and with the traceback that it has."""

    def program():
        assert "handled by the caller" in traceback.format_exc()
        assert [frame.name for frame in traceback.extract_tb(sys.exc_info()[1].__traceback__)] == ["main"]
        await_(asyncio.sleep(0))
        raise

    async def coroutine():
        program()

    async def main():
        try:
            raise OSError("handled by the caller")
        except OSError as exc:
            handled, before = exc, exc.__context__
            with pytest.raises(OSError) as caught:
                await run(program if kind == "function" else coroutine, engine=engine)
        assert caught.value is handled
        assert handled.__context__ is before

    run_here(main)
    assert run_here(lambda: run(sys.exc_info, engine=engine)) == (None, None, None)


def test_coroutine_that_somebody_else_awaits(run_here, engine):
    """await_() of a coroutine that a task has begun is the error that await gives; the task is unharmed."""

    async def main():
        coroutine = echo("mine")
        task = asyncio.get_running_loop().create_task(coroutine)
        await asyncio.sleep(0)
        if task.done():
            return
        with pytest.raises(RuntimeError, match=r"awaited already|already awaited|already executing"):
            await run(lambda: await_(coroutine), engine=engine)
        assert await task == "mine"

        async def twice():
            return 1

        used = twice()
        await used
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await run(lambda: await_(used), engine=engine)

    run_here(main)


def test_not_awaitable(run_here, engine):
    def program():
        with pytest.raises(TypeError, match="await"):
            await_(3)
        return "alive"

    assert run_here(run, program, engine=engine) == "alive"


def test_generator_functions_are_refused(run_here, engine):
    def generator():
        yield 1

    async def async_generator():
        yield 1

    class Callable:
        def __call__(self):
            yield 1

    for fn in (generator, async_generator, functools.partial(generator), Callable()):
        with pytest.raises(TypeError, match="generator function"):
            run_here(run, fn, engine=engine)


def test_coroutine_functions_are_driven(run_here, engine):
    """Also behind partials, as methods and callable objects; sync code that they call can wait."""

    def sync():
        assert in_bridge()
        return await_(echo(1))

    async def function(n=1):
        await asyncio.sleep(0)
        return sync() + n

    class Callable:
        async def __call__(self):
            return sync() + 1

        async def method(self):
            return sync() + 1

    for fn in (function, functools.partial(function, 1), Callable(), Callable().method):
        assert is_coroutine_function(fn)
        assert run_here(run, fn, engine=engine) == 2
    assert not is_coroutine_function(sync)
    assert not is_coroutine_function(Callable)


def test_a_sync_functions_coroutine_is_a_value(run_here, engine):
    async def main():
        coroutine = await run(lambda: echo(1), engine=engine)
        return await coroutine

    assert run_here(main) == 1


def test_outside_a_bridge():
    """A typed error; the coroutine is closed, so that no warning hides it; tasks and futures are left alone."""
    coroutine = echo(1)
    with pytest.raises(BridgeError, match="outside a bridged program"):
        await_(coroutine)
    assert coroutine.cr_frame is None

    async def main():
        task = asyncio.ensure_future(echo(2))
        future = asyncio.get_running_loop().create_future()
        for awaitable in (task, future):
            with pytest.raises(BridgeError):
                await_(awaitable)
        future.set_result(3)
        return await task, await future

    assert asyncio.run(main()) == (2, 3)
    assert not in_bridge()


def test_the_stack_ends_at_the_programs_root(engine):
    """Code that walks `inspect.stack()` finds an end, and not the caller."""

    async def caller_of_the_program():
        return await run(program, engine=engine)

    def program():
        return [frame.function for frame in inspect.stack(0)]

    stack = asyncio.run(caller_of_the_program())
    assert stack[0] == "program"
    assert "caller_of_the_program" not in stack
