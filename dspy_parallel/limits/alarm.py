"""Functions that are called at a time to come, by one thread that waits for it.

Not by the event loop whose task is waiting: that may stop, or stand still, and others wait for the same moment. And
with no clock or sleep of the module `time` as it is now: a user's test may have patched those, and wait for us.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Alarm", "alarm"]

_Call = tuple[float, int, list[Callable[[], None]]]
"""When, in which order, and the function; nothing, if it was cancelled."""


class Alarm:
    """Calls what is due. The functions are short, raise nothing, and run in the alarm's thread."""

    # Kept by the class: freezegun replaces what modules hold.
    now: Callable[[], float] = staticmethod(time.monotonic)
    """Seconds since some moment."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        # No lock, but what is atomic: the garbage collector may close an abandoned coroutine at any line here, which
        # then asks for the lock of its limiter, whose holder may be about to come here.
        self._new: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._order = itertools.count()
        self._starts = itertools.count()

    def call_after(self, seconds: float, fn: Callable[[], None]) -> Callable[[], None]:
        """Have a function called once; what is returned cancels that."""
        fns = [fn]
        self._new.put((self.now() + seconds, next(self._order), fns))
        if next(self._starts) == 0:
            threading.Thread(target=self._run, name="dspy-parallel-alarm", daemon=True).start()
        return fns.clear

    def _run(self) -> None:
        calls: list[_Call] = []
        most = 64
        while True:
            seconds = calls[0][0] - self.now() if calls else None
            if seconds is not None and seconds <= 0:
                fns = heapq.heappop(calls)[-1]
                with suppress(IndexError):  # cancelled
                    fns.pop()()
                continue
            with suppress(queue.Empty):
                heapq.heappush(calls, self._new.get(timeout=seconds and min(seconds, threading.TIMEOUT_MAX)))
            if len(calls) > most:
                calls = [call for call in calls if call[-1]]  # what was cancelled
                heapq.heapify(calls)
                most = max(64, 2 * len(calls))

    async def sleep(self, seconds: float) -> None:
        """Wait, as a task."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def resume() -> None:
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(lambda: None if over.done() else over.set_result(None))

        cancel = self.call_after(seconds, resume)
        try:
            await over
        finally:
            cancel()

    def sleep_blocking(self, seconds: float) -> None:
        """Wait, as a thread."""
        over = threading.Event()
        cancel = self.call_after(seconds, over.set)
        try:
            over.wait()
        finally:
            cancel()


alarm = Alarm()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=alarm._reset)
