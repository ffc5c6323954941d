"""Async code called from sync code: what would start an event loop of its own, or wait for another one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from ..bridge import await_, blocked_loop, is_waiting
from ..errors import ThreadRequiredError
from .async_counterparts import call_in_worker
from .table import Seam, register

__all__: list[str] = []


def _await(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """DSPy's functions that turn a coroutine into a sync call: inside the bridge it is simply awaited.

    Not in the thread of a sync caller whose loop they run further, or refuse to: the coroutine may need that loop.
    """
    running = asyncio._get_running_loop()
    if running is not None and running is blocked_loop():
        return original(*args, **kwargs)
    return await_(*args, **kwargs)


def _convert(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same for tools, which refuse where a loop runs; so they do in a thread that stands for its caller's."""
    running, blocked = asyncio._get_running_loop(), blocked_loop()
    if blocked is None:
        return await_(*args, **kwargs)
    asyncio._set_running_loop(blocked)
    try:
        return original(*args, **kwargs)
    finally:
        asyncio._set_running_loop(running)


def _start_loop(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return call_in_worker(original, args, kwargs, "it starts an event loop of its own")
    except ThreadRequiredError:
        if args and asyncio.iscoroutine(args[0]):
            args[0].close()
        raise


def _start_anyio(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    def run() -> Any:
        # The context may say that asyncio is running, which is true of the program's task, not of this thread.
        sniffio = sys.modules.get("sniffio")
        if sniffio is None:
            return original(*args, **kwargs)
        token = sniffio.current_async_library_cvar.set(None)
        try:
            return original(*args, **kwargs)
        finally:
            sniffio.current_async_library_cvar.reset(token)

    return call_in_worker(run, (), {}, "it starts an event loop of its own")


def _run_until_complete(original: Callable[..., Any], loop: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    running = asyncio._get_running_loop()
    if running is not None and running is loop and is_waiting(running):
        return original(*args, **kwargs)  # nest_asyncio's, or an error
    if args and not kwargs and running is loop:  # `get_event_loop()` has found the program's own
        return await_(args[0])
    return call_in_worker(original, args, kwargs, "it runs an event loop of its own")


def _from_thread(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not args or kwargs:  # a token names another loop than the program's
        return call_in_worker(original, args, kwargs, "it waits for another event loop")
    fn, *rest = args
    return await_(fn(*rest))


def _from_thread_sync(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not args or kwargs:
        return call_in_worker(original, args, kwargs, "it waits for another event loop")
    fn, *rest = args

    async def on_the_loop() -> Any:
        return fn(*rest)

    return await_(on_the_loop())


register(
    Seam("dspy.adapters.types.tool:Tool._run_async_in_sync", _convert),
    Seam("dspy.utils.syncify:run_async", _await),
    Seam("dspy.primitives.python_interpreter:_await_in_sync", _await, since="3.3"),
    Seam("dspy.primitives.local_interpreter:_await_in_sync", _await, since="3.4"),
    Seam("asyncio:run", _start_loop),
    Seam("asyncio.runners:Runner.run", _start_loop, since="3.11"),
    Seam("asyncio.base_events:BaseEventLoop.run_until_complete", _run_until_complete),
    Seam("anyio:run", _start_anyio),
    Seam("anyio.from_thread:run", _from_thread),
    Seam("anyio.from_thread:run_sync", _from_thread_sync),
)
