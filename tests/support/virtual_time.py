"""An event loop whose clock stands still while anybody computes, and jumps when everybody waits.

So the time that a program takes is exact, whatever else the machine does: with an LM that sleeps for one second, it is
the number of LM calls on the longest chain of calls that waited for each other.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from unittest import mock

from dspy_parallel import thread_pool
from tests.support.loops import end

__all__ = ["run_virtual"]

T = TypeVar("T")


class _AtWork:
    """How many threads do something of which the loop will be told."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def change(self, by: int) -> None:
        with self._lock:
            self.count += by


class _Selector(selectors.DefaultSelector):
    """Where a loop waits; this one does not, unless for a thread."""

    loop: _Loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        nobody_works = self.loop.at_work.count == 0  # asked first: whoever stops working has sent its message by then
        events = super().select(0)
        if events or not nobody_works:
            return events or super().select(0.001)
        self.loop.now += timeout
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 0.0
        self.at_work = _AtWork()
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        future = super().run_in_executor(executor, func, *args)
        self.at_work.change(1)
        future.add_done_callback(lambda _: self.at_work.change(-1))
        return future


def run_virtual(fn: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any) -> tuple[T, float]:
    """Run a coroutine function; return its result, and how long it took on the virtual clock.

    Programs must run on the loop (`engine="loop"`): one that waits in a thread looks like one that works there.
    """
    loop = _Loop()
    submit = thread_pool.WorkerPool.submit

    def counted(pool: Any, job: Callable[[], None], **kwargs: Any) -> None:
        def counting() -> None:
            try:
                job()
            finally:
                loop.at_work.change(-1)

        loop.at_work.change(1)
        submit(pool, counting, **kwargs)

    async def main() -> tuple[T, float]:
        started = loop.time()
        result = await fn(*args, **kwargs)
        return result, loop.time() - started

    try:
        asyncio.set_event_loop(loop)
        with mock.patch.object(thread_pool.WorkerPool, "submit", counted):
            return loop.run_until_complete(main())
    finally:
        end(loop)
