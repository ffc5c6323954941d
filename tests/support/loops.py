"""Event loops the engines are tested on: plain, in debug mode, with eager tasks, and uvloop."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tests.support.leaks import left_pending

T = TypeVar("T")


def _kinds() -> list[str]:
    kinds = ["asyncio", "debug"]
    if sys.version_info >= (3, 12):
        kinds.append("eager")
    if importlib.util.find_spec("uvloop"):
        kinds.append("uvloop")
    return kinds


LOOP_KINDS = _kinds()
"""What this interpreter offers of: asyncio, debug, eager, uvloop."""


def new_loop(kind: str = "asyncio") -> asyncio.AbstractEventLoop:
    """A fresh event loop of that kind; the caller closes it."""
    if kind == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    loop = asyncio.new_event_loop()
    if kind == "debug":
        loop.set_debug(True)
        # Debug mode logs callbacks over 100 ms, which on a busy machine are any.
        loop.slow_callback_duration = float("inf")
    elif kind == "eager":
        loop.set_task_factory(vars(asyncio)["eager_task_factory"])  # there are none before Python 3.12
    elif kind != "asyncio":
        raise ValueError(f"unknown kind of loop {kind!r}; there are {', '.join(LOOP_KINDS)}")
    return loop


def run_on(kind: str, fn: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> T:
    """Run a coroutine function to its end on a fresh loop of that kind, and close the loop as asyncio.run does.

    Unlike `asyncio.run`, it exists in one form for Python 3.10 to 3.13, and notes tasks that are still pending
    at the end for the `no_leaks` fixture.
    """

    async def main() -> T:
        # A step of its own: under eager tasks the first step of `fn` must run in a task as well.
        return await fn(*args, **kwargs)

    loop = new_loop(kind)
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main())
    finally:
        try:
            tasks = [task for task in asyncio.all_tasks(loop) if not task.done()]
            left_pending.extend(repr(task) for task in tasks if not _of_a_third_party(task))
        finally:
            end(loop)


def end(loop: asyncio.AbstractEventLoop) -> None:
    """Close a loop as `asyncio.run()` does, once its tasks are cancelled."""
    try:
        tasks = [task for task in asyncio.all_tasks(loop) if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _of_a_third_party(task: asyncio.Task[Any]) -> bool:
    """LiteLLM keeps a logging worker per loop for as long as the loop lives."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and "litellm" in code.co_filename
