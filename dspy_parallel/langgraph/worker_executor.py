"""Executors whose threads grow in number with what is asked for, in LangGraph's and LangChain's places.

LangGraph's executors have CPU count + 4 threads; more sync nodes, tools, or graphs of a batch than that wait in line,
unless `max_concurrency` says otherwise.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from langchain_core.runnables.config import run_in_executor

from ..bridge.caller_thread import CallingThread
from ..placement import Engine
from ..thread_pool import job_of
from .node_run import current_node, looking_like, run_here
from .tool_order import Turn, begin

__all__ = ["executor_of", "executor_of_tools", "growing", "is_growing", "left"]


def _tell_who_waits(fn: Any, future: concurrent.futures.Future[Any]) -> None:
    """Have it known in the call that an event loop is blocked until it is done, if it is submitted on one.

    LangGraph submits `Context.run`. The call may be an async saver's, which would ask that loop to do the work.
    """
    context = getattr(fn, "__self__", None)
    if isinstance(context, contextvars.Context) and asyncio._get_running_loop() is not None:
        thread = CallingThread(asyncio._get_running_loop())
        thread.cover(context)
        future.add_done_callback(lambda _: setattr(thread, "is_over", True))


class WorkerExecutor(concurrent.futures.Executor):
    """A thread for each call, at once, in a copy of the caller's context; leaving it waits for all calls."""

    def __init__(self) -> None:
        self._pending: set[concurrent.futures.Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        context = contextvars.copy_context()

        _tell_who_waits(fn, future)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        self._begin(fn, lambda fn: job_of(future, lambda: context.run(fn, *args, **kwargs)))
        return future

    def _begin(self, fn: Callable[..., Any], job_for: Callable[[Callable[..., Any]], Callable[[], None]]) -> None:
        begin(job_for(fn))

    def map(self, fn: Callable[..., Any], *iterables: Any, **options: Any) -> Iterator[Any]:
        # Like LangChain's own executor: zip() ends with the shortest.
        return super().map(fn, *iterables, **options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if wait:
            concurrent.futures.wait(list(self._pending))


class _NodesExecutor(WorkerExecutor):
    """The same for calls that are a node's, and in the bridge as that is: the tools of a `ToolNode`."""

    def _begin(self, fn: Callable[..., Any], job_for: Callable[[Callable[..., Any]], Callable[[], None]]) -> None:
        node, turn = current_node.get(), Turn()
        engine: Engine = "auto" if node is None else node.engine
        tool = fn if engine == "loop" else turn.of(fn)  # the loop takes one after the other
        turn.begin(job_for(lambda *args, **kwargs: run_here(tool, args, kwargs, engine)))


_growing: contextvars.ContextVar[bool] = contextvars.ContextVar("dspy_parallel_growing", default=False)
is_growing = _growing.get
"""Whether the executor that is being made is one of a converted graph's."""


@contextmanager
def growing() -> Generator[None]:
    """Executors that are made inside grow."""
    token = _growing.set(True)
    try:
        yield
    finally:
        _growing.reset(token)


def executor_of(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A seam's handler for `get_executor_for_config()`; `max_concurrency` is LangChain's business as ever."""
    config = args[0] if args else kwargs.get("config")
    if (config or {}).get("max_concurrency"):
        return original(*args, **kwargs)
    return WorkerExecutor()


def executor_of_tools(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same for the tools of a node."""
    executor = executor_of(original, _, args, kwargs)
    return _NodesExecutor() if isinstance(executor, WorkerExecutor) else executor


_workers = WorkerExecutor()


def left(fn: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """The async side that LangGraph gives a sync function, by which it also knows that there is only a sync one.

    In threads of ours, outside the bridge: the event loop's default executor has few, which DSPy's `acall` needs as
    well. Once nodes that wait for their LM hold all of them, nobody gets on.
    """
    return looking_like(fn, functools.partial(run_in_executor, _workers, fn))  # type: ignore[no-any-return]
