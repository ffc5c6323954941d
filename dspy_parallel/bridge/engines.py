"""`run()`: one program, on the engine of its choice; `await_()`: how its code waits."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Literal, ParamSpec, TypeVar, cast, overload

from greenlet import getcurrent

from ..errors import BridgeError, ThreadRequiredError, UnknownEngineError
from .kernel import Program, chain, current_greenlet_program, drive, is_suspendable, new_program
from .meters import LoopMeter, watch
from .placement import Placement, placement_of
from .threads import ThreadProgram, close_unused, current_thread_program, run_in_thread
from .turns import turns_of

__all__ = [
    "Engine",
    "await_",
    "call_in_thread",
    "check_engine",
    "in_bridge",
    "is_coroutine_function",
    "is_generator_function",
    "offload",
    "run",
    "start",
]

P = ParamSpec("P")
T = TypeVar("T")

Engine = Literal["auto", "loop", "thread"]
ENGINES: tuple[Engine, ...] = ("auto", "loop", "thread")

_FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()


def check_engine(engine: str) -> None:
    """Refuse an unknown engine.

    Raises:
        UnknownEngineError: If it is none of `"auto"`, `"loop"`, `"thread"`.
    """
    if engine not in ENGINES:
        raise UnknownEngineError(f"engine={engine!r} is not known. Choose one of {', '.join(map(repr, ENGINES))}.")


def _kind(fn: Callable[..., Any]) -> Literal["sync", "coroutine", "generator"]:
    """What calling `fn` gives; sees through partials and callable objects."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    code = getattr(fn, "__code__", None)
    if code is None:
        fn = getattr(type(fn), "__call__", fn)  # noqa: B004 - the method itself is wanted
        code = getattr(fn, "__code__", None)
    flags = code.co_flags if code is not None else 0
    if flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        return "generator"
    # The mark is that of inspect.markcoroutinefunction (3.12).
    return "coroutine" if flags & inspect.CO_COROUTINE or hasattr(fn, "_is_coroutine_mark") else "sync"


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Whether calling `fn` gives a coroutine; sees through partials and callable objects."""
    return _kind(fn) == "coroutine"


def is_generator_function(fn: Callable[..., Any]) -> bool:
    """Whether calling `fn` gives a generator, sync or async; sees through partials and callable objects."""
    return _kind(fn) == "generator"


def _current() -> Program | ThreadProgram | None:
    return current_greenlet_program() or current_thread_program()


def in_bridge() -> bool:
    """Whether the running code can wait with `await_()`.

    True in code run by `run()`, on either engine, and in coroutines that it awaits. False in other tasks, also
    in those that it creates, and in threads that it starts by itself.

    Example:
        ```python
        import asyncio
        from dspy_parallel import in_bridge, run

        assert not in_bridge()
        assert asyncio.run(run(in_bridge))
        ```
    """
    if getcurrent().parent is None:  # a thread's main greenlet: plain code, or the thread engine
        return current_thread_program() is not None
    return _current() is not None or is_suspendable()


def await_(awaitable: Awaitable[T]) -> T:
    """Wait for an awaitable from sync code inside a bridged program.

    On the loop engine this suspends the program while the loop serves others; on the thread engine it blocks
    the worker thread while the program's task awaits. The awaitable runs in the program's task and context. If
    the task is cancelled, `asyncio.CancelledError` is raised here.

    Args:
        awaitable: A coroutine, future, task or any object with `__await__`.

    Returns:
        The awaitable's result.

    Raises:
        BridgeError: Outside a bridged program. A coroutine is closed then, a task or future left alone.
        BaseException: Whatever the awaitable raises.

    Example:
        ```python
        import asyncio
        from dspy_parallel import await_, run

        async def fetch(n):
            await asyncio.sleep(0)
            return n * 2

        def program():
            return await_(fetch(1)) + await_(fetch(2))

        assert asyncio.run(run(program)) == 6
        ```
    """
    program = _current()
    if program is not None:
        return program.wait_for(awaitable)
    if is_suspendable():
        return cast("T", cast("Any", getcurrent()).parent.switch(awaitable))
    close_unused(awaitable)
    raise BridgeError(_outside())


def _outside() -> str:
    thread = threading.current_thread().name
    if type(getcurrent()) is Program:
        return (
            f"await_() was called in another task than its program's (thread {thread!r}), for instance in one that the "
            "program started eagerly. Await the coroutine there."
        )
    return (
        f"await_() was called outside a bridged program (thread {thread!r}). Call the program through acall() or "
        "run(), or await the coroutine directly."
    )


async def run(fn: Callable[..., T], /, *args: Any, engine: Engine = "auto", **kwargs: Any) -> T:
    """Run a sync function so that it can wait for the event loop without blocking it.

    With `engine="loop"` the function runs on the event loop's own thread, in a greenlet: thousands may be in
    flight, and each is cancellable wherever it waits. It is the strict setting: a call that needs a thread is an
    error. With `engine="thread"` it runs in a worker thread and only its waits are on the loop; for code that
    blocks, holds locks or wants a thread of its own. With `engine="auto"` it begins in threads and moves to the
    loop once a few runs have shown that it does not block. Context variables are shared with the caller: what the
    function sets is seen afterwards, as after a plain call.

    Runs nest: a program may await others, on either engine. Inside one that is pinned to `"loop"`, `"auto"` means
    `"loop"`.

    Args:
        fn: A sync function, or a coroutine function, whose own code then runs on the loop while sync calls inside
            it can wait.
        *args: Passed on.
        engine: `"auto"`, `"loop"` or `"thread"`.
        **kwargs: Passed on.

    Returns:
        What `fn` returns.

    Raises:
        UnknownEngineError: For any other engine.
        TypeError: If `fn` is a generator function.
        BaseException: Whatever `fn` raises.

    Example:
        ```python
        import asyncio
        from dspy_parallel import await_, run

        def program(n):
            await_(asyncio.sleep(0))
            return n + 1

        async def main():
            return await asyncio.gather(*(run(program, n, engine="loop") for n in range(3)))

        assert asyncio.run(main()) == [1, 2, 3]
        ```
    """
    check_engine(engine)
    return await start(fn, args, kwargs, engine)


async def start(
    fn: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    engine: Engine,
    known_as: Callable[..., Any] | type | None = None,
) -> T:
    """`run()` for callers that have checked the engine and may know the program under another name.

    That name, `known_as`, is the class or function by which `engine="auto"` remembers it; by default `fn`.
    """
    kind = _kind(fn)
    if kind == "generator":
        raise TypeError(
            f"{getattr(fn, '__qualname__', fn)} is a generator function: its body would run after the bridge is left. "
            "Run a function that consumes the generator and returns the result."
        )
    outer = current_greenlet_program()
    if outer is None and not (turns := turns_of(asyncio.get_running_loop())).take():
        await turns.wait()
    within_strict = outer is not None and outer.strict
    placement = None
    if kind == "sync" and engine == "auto" and not within_strict:
        placement = placement_of(known_as if known_as is not None else fn)
    if kind == "sync" and _needs_thread(engine, placement):
        return await run_in_thread(fn, args, kwargs, watch(placement))

    program = new_program(strict=within_strict or engine == "loop")
    meter = LoopMeter(placement)
    handled = sys.exc_info()[1]
    try:
        if kind == "coroutine":
            result = await drive(program, program.wait_for, (fn(*args, **kwargs),), {}, meter)
        else:
            result = await drive(program, fn, args, kwargs, meter)
    except BaseException as exc:
        chain(exc, handled)
        raise
    finally:
        handled = None  # no cycle between a traceback and this frame
    meter.finished()
    return cast("T", result)


def _needs_thread(engine: Engine, placement: Placement | None) -> bool:
    if placement is None:
        return engine == "thread"
    return _FREE_THREADED or placement.state != "loop"


@overload
def offload(fn: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def offload(*, reason: str) -> Callable[[Callable[P, T]], Callable[P, T]]: ...
def offload(fn: Callable[..., Any] | None = None, /, *, reason: str = "it is marked with offload") -> Any:
    """Mark a sync function that blocks: inside a program on the loop, it runs in a worker thread.

    Elsewhere, and in a program that has a thread of its own, it is a plain call. In the worker thread the
    program's context variables are visible, and the function can itself call programs and wait with `await_()`. A
    cancel is raised at its next wait; the program goes on only after the thread has left the function.

    Args:
        fn: The function.
        reason: Why it needs a thread; completes the sentence "... needs a thread because ..." in errors.

    Returns:
        A function with the same signature.

    Raises:
        ThreadRequiredError: When called inside a program that is pinned to `engine="loop"`.

    Example:
        ```python
        import asyncio, threading
        from dspy_parallel import offload, run

        @offload
        def read_from_slow_disk():
            return threading.current_thread().name

        def program():
            return read_from_slow_disk()

        assert program() == "MainThread"
        assert asyncio.run(run(program)) != "MainThread"
        ```
    """
    if fn is None:
        return functools.partial(offload, reason=reason)

    @functools.wraps(fn)
    def offloaded(*args: Any, **kwargs: Any) -> Any:
        return call_in_thread(fn, args, kwargs, reason)

    return offloaded


def call_in_thread(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], reason: str) -> T:
    """Call a blocking function in a worker thread if the calling program is on the loop; else just call it."""
    program = _current()
    if isinstance(program, Program) or (program is None and is_suspendable()):
        if program is not None and program.strict:
            raise ThreadRequiredError(
                f"{getattr(fn, '__qualname__', fn)} needs a thread because {reason}, but the program is pinned to "
                "engine='loop'. Use engine='auto' or 'thread', or replace the call by one that can wait on the loop."
            )
        return await_(run_in_thread(fn, args, kwargs))
    return fn(*args, **kwargs) if program is None else program.call(fn, args, kwargs)
