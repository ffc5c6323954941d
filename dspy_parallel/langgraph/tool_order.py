"""The order in which the tools of one `ToolNode` ask.

LangGraph counts what a node asks, calls and starts, and finds answers, results and checkpoints again by these numbers
(`langgraph.types.interrupt`). Tools that run side by side share the counters, so they must come to them in the same
order whenever the node is run again. In stock that is mostly the order of the tools: each has the interpreter from its
beginning to its first wait, unless it computes for longer than `sys.getswitchinterval()`, or the system takes the
thread off. Here, a tool counts when those before it have come to their first wait, or to their end.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ..bridge.caller_thread import calling_thread
from ..thread_pool import pool
from .node_run import current_node

__all__ = ["Turn", "begin", "count_in_turn"]

MOST_SECONDS = 1.0
"""How long a tool waits to count: one before it may be waiting for something that the bridge does not know."""
MOST_SECONDS_ON_LOOP = 0.05


def begin(job: Callable[[], None]) -> None:
    """Run the job in a worker thread, and return when that thread is at work on it, as stock's executor does."""
    begun = threading.Event()

    def run() -> None:
        begun.set()
        job()

    pool.submit(run)
    begun.wait()


class Turn:
    """That of one tool, behind those that the running node has begun before."""

    def __init__(self) -> None:
        self.before: Turn | None = None
        self.has_waited = threading.Event()
        node = current_node.get()
        if node is not None:
            self.before, node.last_turn = node.last_turn, self

    def of(self, tool: Callable[..., Any]) -> Callable[..., Any]:
        """The tool, to be called in the job that is begun."""

        def call(*args: Any, **kwargs: Any) -> Any:
            thread = calling_thread.get()
            if thread is not None:
                thread.on_wait = self.has_waited.set
            token = _turn.set(self)
            try:
                return tool(*args, **kwargs)
            finally:
                _turn.reset(token)

        return call

    def begin(self, job: Callable[[], None]) -> None:
        """Begin the job; when it has ended, what came of it has been sent: the first to ask is the first shown."""

        def run() -> None:
            try:
                job()
            finally:
                self.has_waited.set()

        begin(run)


_turn: ContextVar[Turn | None] = ContextVar("dspy_parallel_turn", default=None)


def count_in_turn(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A seam's handler for LangGraph's counters."""
    mine, node = _turn.get(), current_node.get()
    before = None
    if mine is not None:
        before, mine.before = mine.before, None
    elif node is not None:  # an async tool beside sync ones
        before, node.last_turn = node.last_turn, None
    seconds = MOST_SECONDS if asyncio._get_running_loop() is None else MOST_SECONDS_ON_LOOP
    while before is not None and before.has_waited.wait(seconds):
        before = before.before
    return original(*args, **kwargs)
