"""`start()`: one program, where its placement says; `await_()`: how its code waits."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from greenlet import getcurrent

from ..callables import kind_of
from ..errors import BridgeError, ThreadRequiredError
from ..placement import ON_LOOP, PINNED_TO_LOOP, PINNED_TO_THREAD, Placement, SliceMeter
from .kernel import Program, chain, close_unused, current_greenlet_program, drive, handling, is_suspendable
from .start_pace import turns_of
from .thread_program import ThreadProgram, current_thread_program, run_in_thread

__all__ = [
    "await_",
    "call_in_thread",
    "current_program",
    "in_bridge",
    "is_on_loop",
    "is_strict",
    "needs_thread",
    "start",
]

T = TypeVar("T")

_FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()


def current_program() -> Program | ThreadProgram | None:
    """The program whose code is running now in this thread and task, if any."""
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
    return current_program() is not None or is_suspendable()


def is_on_loop() -> bool:
    """Whether the running code is part of a program on the event loop's own thread."""
    return current_greenlet_program() is not None or is_suspendable()


def is_strict() -> bool:
    """Whether the running code is part of a program that is pinned to the loop."""
    program = current_greenlet_program()
    return program is not None and program.strict


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
    program = current_program()
    if program is not None:
        return program.wait_for(awaitable)
    if is_suspendable():
        return cast("T", cast("Any", getcurrent()).parent.switch(awaitable))
    close_unused(awaitable)
    thread = threading.current_thread().name
    if type(getcurrent()) is Program:
        raise BridgeError(
            f"await_() was called in another task than its program's (thread {thread!r}), for instance in one that the "
            "program started eagerly. Await the coroutine there."
        )
    raise BridgeError(
        f"await_() was called outside a bridged program (thread {thread!r}). Call the program through acall() or "
        "run(), or await the coroutine directly."
    )


async def start(
    fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], placement: Placement = ON_LOOP
) -> T:
    """Run `fn(*args, **kwargs)` as a program of the running task, where the placement says.

    A coroutine function's code is always on the loop; only whether it is strict matters then. Inside a strict program
    everything is strict, but what is pinned to a thread.

    Raises:
        TypeError: If `fn` is a generator function.
        BaseException: Whatever `fn` raises.
    """
    kind = kind_of(fn)
    if kind == "generator":
        raise TypeError(
            f"{getattr(fn, '__qualname__', fn)} is a generator function: its body would run after the bridge is left. "
            "Run a function that consumes the generator and returns the result."
        )
    outer = current_greenlet_program()
    if outer is None and not (turns := turns_of(asyncio.get_running_loop())).take():
        await turns.wait()
    strict = placement is PINNED_TO_LOOP or (outer is not None and outer.strict)
    if (placement is PINNED_TO_THREAD or not strict) and needs_thread(fn, placement):
        return await run_in_thread(fn, args, kwargs, computes=placement.computes)

    meter = None if placement.is_fixed or kind == "coroutine" else SliceMeter(placement)
    program = Program(strict=strict, meter=meter)
    handled = sys.exc_info()[1]
    result: Any = None
    try:
        if kind == "coroutine":
            result = await drive(program, handling(handled, program.wait_for), (fn(*args, **kwargs),), {})
        else:
            result = await drive(program, handling(handled, fn), args, kwargs)
        refusal = _refusal_of(program, outer)
    except BaseException as exc:
        chain(exc, handled)
        refusal = _refusal_of(program, outer)
        if refusal is None or exc is refusal or not isinstance(exc, Exception):
            raise
    finally:
        handled = None  # no cycle between a traceback and this frame
    try:
        if refusal is not None:
            raise refusal
        return cast("T", result)
    finally:
        refusal = None


def _refusal_of(program: Program, outer: Program | None) -> Exception | None:
    """The error that has told a strict program what it may not do.

    Its caller hears of it whatever the program has made of it: `except Exception` is common around a subprocess, and
    the wrong prompt that came of it would be paid for. The same goes for a strict program that awaits this one.
    """
    refusal, program.refusal = program.refusal, None
    if refusal is not None and outer is not None and outer.strict:
        outer.refusal = refusal
    return refusal


def needs_thread(fn: Callable[..., Any], placement: Placement) -> bool:
    """Whether a program is to have a thread of its own, if it is no part of a strict one."""
    if placement.engine != "thread" and (not _FREE_THREADED or placement in (ON_LOOP, PINNED_TO_LOOP)):
        return False
    return kind_of(fn) == "sync"


def call_in_thread(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], reason: str) -> T:
    """Call a blocking function in a worker thread if the calling program is on the loop; else just call it."""
    program = current_program()
    if isinstance(program, Program) or (program is None and is_suspendable()):
        if program is not None and program.strict:
            refusal = program.refusal or ThreadRequiredError(
                f"{getattr(fn, '__qualname__', fn)} needs a thread because {reason}, but the program is pinned to "
                "engine='loop'. Use engine='auto' or 'thread', or replace the call by one that can wait on the loop."
            )
            program.refusal = refusal
            raise refusal
        return await_(run_in_thread(fn, args, kwargs))
    if isinstance(program, ThreadProgram):
        with program.blocks():
            return fn(*args, **kwargs)
    return fn(*args, **kwargs)
