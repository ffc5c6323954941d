"""Nodes that are left to LangGraph: no bridge, but threads of their own, without a limit.

Under `ainvoke` LangGraph runs sync nodes in the event loop's default executor, a few threads for everybody. DSPy's
`acall` needs those as well: once nodes that wait for their LM hold all of them, nobody gets on.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.runnables.config import run_in_executor

from ..bridge.workers import pool

__all__ = ["left", "left_async"]


class _Threads(concurrent.futures.Executor):
    """A thread for each call, at once, in a copy of the caller's context."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        call = functools.partial(contextvars.copy_context().run, fn, *args, **kwargs)

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = call()
            except BaseException as exc:
                future.set_exception(exc)
            else:
                future.set_result(result)

        pool.submit(job)
        return future


_threads = _Threads()


def left(fn: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """The async side that LangGraph gives a sync function, by which it also knows that there is only a sync one."""
    return functools.wraps(fn, updated=())(functools.partial(run_in_executor, _threads, fn))


def left_async(fn: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """The same as a coroutine function, for runnables of LangChain."""
    call = left(fn)

    async def twin(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    return functools.update_wrapper(twin, fn, updated=())
