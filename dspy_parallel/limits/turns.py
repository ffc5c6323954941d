"""How a call waits for its turn: as a task on any event loop, or as a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["TaskTurn", "ThreadTurn", "Turn"]


class Turn(Protocol):
    """A place in the queue. `grant` and `call_at` are called from any thread, under the queue's lock."""

    granted: bool

    def is_alive(self, bell: Callable[[], None]) -> bool:
        """Whether somebody is there to take it; if not, the bell is rung when somebody is."""
        ...

    def grant(self) -> None:
        """It is this one's turn."""

    def ring_after(self, seconds: float, bell: Callable[[], None]) -> None:
        """Have the queue looked at again later, by whoever waits here."""


class TaskTurn:
    """Waits without blocking the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._came: asyncio.Future[None] = self._loop.create_future()
        self._bell_hung = False
        self.granted = False

    def is_alive(self, bell: Callable[[], None]) -> bool:
        """See `Turn`."""
        # A loop may be left with tasks that nobody will ever resume. They must not hold up those behind them.
        if self._loop.is_running():
            self._bell_hung = False
            return True
        if not self._bell_hung:
            self._loop.call_soon_threadsafe(bell)
            self._bell_hung = True
        return False

    def grant(self) -> None:
        """See `Turn`."""
        self.granted = True
        self._do(self._wake)

    def ring_after(self, seconds: float, bell: Callable[[], None]) -> None:
        """See `Turn`."""
        self._do(lambda: self._loop.call_later(seconds, bell))

    def _do(self, fn: Callable[[], object]) -> None:
        if threading.get_ident() == self._thread:
            fn()
        else:
            self._loop.call_soon_threadsafe(fn)

    def _wake(self) -> None:
        if not self._came.done():
            self._came.set_result(None)

    async def wait(self, seconds: float | None) -> None:
        """Return when it is granted, or after so many seconds."""
        await asyncio.wait([self._came], timeout=seconds)


class ThreadTurn:
    """Waits by blocking its thread."""

    def __init__(self) -> None:
        self._changed = threading.Event()
        self._bell: tuple[float, Callable[[], None]] | None = None
        self.granted = False

    def is_alive(self, bell: Callable[[], None]) -> bool:
        """See `Turn`."""
        return True

    def grant(self) -> None:
        """See `Turn`."""
        self.granted = True
        self._changed.set()

    def ring_after(self, seconds: float, bell: Callable[[], None]) -> None:
        """See `Turn`."""
        self._bell = (time.monotonic() + seconds, bell)
        self._changed.set()

    def wait(self, seconds: float | None) -> None:
        """Return when it is granted, or after so many seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            self._changed.clear()  # what changes from here on, the wait at the end notices
            now = time.monotonic()
            if self.granted or (end is not None and now >= end):
                return
            bell = self._bell
            if bell is not None and now >= bell[0]:
                self._bell = None
                bell[1]()
                continue
            moments = [moment for moment in (end, bell and bell[0]) if moment is not None]
            self._changed.wait(min(moments) - now if moments else None)
