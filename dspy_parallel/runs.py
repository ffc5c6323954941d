"""`run()` and `run_sync()`: one program, from async and from sync code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from . import bridge, programs, seams
from .errors import check_callable
from .overlap import api
from .placement import PINNED_TO_LOOP, Engine, check_engine

__all__ = ["run", "run_sync"]

T = TypeVar("T")


async def run(fn: Callable[..., T], /, *args: Any, engine: Engine = "auto", overlap: bool = False, **kwargs: Any) -> T:
    """Run a sync function so that it can wait for the event loop without blocking it.

    With `engine="loop"` the function runs on the event loop's own thread, in a greenlet: thousands may be in
    flight, and each is cancellable wherever it waits. It is the strict setting: a call that needs a thread is an
    error. With `engine="thread"` it runs in a thread of its own and only its waits are on the loop. With
    `engine="auto"` it runs on the loop if all the code that it can reach is known neither to block nor to depend on
    its thread, else in a thread; `placement_of()` tells. Context variables are shared with the caller: what the
    function sets is seen afterwards, as after a plain call.

    Runs nest: a program may await others, on either engine. Inside one that is pinned to `"loop"`, `"auto"` means
    `"loop"`.

    Args:
        fn: A sync function, or a coroutine function, whose own code then runs on the loop while sync calls inside
            it can wait.
        *args: Passed on.
        engine: `"auto"`, `"loop"` or `"thread"`.
        overlap: Whether independent predictor calls in `fn` run at once, see docs/overlap.md.
        **kwargs: Passed on.

    Returns:
        What `fn` returns.

    Raises:
        UnknownEngineError: For any other engine.
        DecorationError: If `fn` cannot be called, as a coroutine cannot.
        TypeError: If `fn` is a generator function.
        ThreadRequiredError: With `engine="loop"`, for a call that needs a thread.
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
    check_callable(fn, "run")
    seams.install()
    if overlap:
        result: T = await api.start(fn, args, kwargs, engine)
        return result
    return await programs.start(fn, args, kwargs, engine)


def run_sync(fn: Callable[..., T], /, *args: Any, engine: Engine = "auto", **kwargs: Any) -> T:
    """Run a program from sync code and wait for its result.

    A sync function runs in the calling thread, in the caller's context, as in a plain call; what it waits for with
    `await_()`, its LM calls above all, is awaited on one event loop that this process keeps in a thread of its own.
    A coroutine function runs on that loop. Programs started below it that need a thread may have the calling thread
    while it waits. It works from any thread, also from one with a running loop, as in a notebook (which it blocks, as
    every sync call does). Inside a bridged program it is a plain call that can suspend. Ctrl-C is a KeyboardInterrupt
    in the function; what it waits for is cancelled.

    Args:
        fn: A sync function, or a coroutine function.
        *args: Passed on.
        engine: With `"loop"` a sync function runs on that loop, too, see `run()`.
        **kwargs: Passed on.

    Returns:
        What `fn` returns.

    Raises:
        UnknownEngineError: For an unknown engine.
        DecorationError: If `fn` cannot be called, as a coroutine cannot.
        BridgeError: When called from a callback or coroutine on the very loop that would have to run it.
        BaseException: Whatever `fn` raises.

    Example:
        ```python
        import asyncio
        from dspy_parallel import await_, run_sync

        def program(n):
            await_(asyncio.sleep(0))
            return n + 1

        assert run_sync(program, 1) == 2
        ```
    """
    check_engine(engine)
    check_callable(fn, "run_sync")
    seams.install()
    if engine == "loop" and not bridge.in_bridge():
        return bridge.run_sync(bridge.start, fn, args, kwargs, PINNED_TO_LOOP)  # type: ignore[return-value]
    return bridge.run_sync(fn, *args, **kwargs)
