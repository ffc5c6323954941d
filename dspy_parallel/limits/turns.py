"""How a call waits for its turn: as a task on any event loop, or as a thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["Lookout", "TaskTurn", "ThreadTurn", "Turn"]

LOOK_AGAIN = 1.0
"""Seconds after which those who wait look at the queue by themselves: who was to do it may be gone."""


class Turn(Protocol):
    """A place in the queue. All but waiting is done from any thread, under the queue's lock."""

    granted: bool
    came_at: float
    refusal: BaseException | None
    """Why it will not be granted."""

    def is_alive(self, bell: Callable[[], None]) -> bool:
        """Whether somebody is there to take it; if not, the bell is rung when somebody is."""
        ...

    def decide(self, refusal: BaseException | None = None) -> None:
        """It is this one's turn, or never will be."""

    def ring_after(self, seconds: float, bell: Callable[[], None]) -> None:
        """Have the queue looked at again later, by whoever waits here."""


class TaskTurn:
    """Waits without blocking the loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._decided: asyncio.Future[None] = self.loop.create_future()
        self._bell_hung = False
        self.granted = False
        self.refusal: BaseException | None = None
        self.came_at = time.monotonic()

    def is_alive(self, bell: Callable[[], None]) -> bool:
        """See `Turn`."""
        # A loop may be left with tasks that nobody will ever resume. They must not hold up those behind them.
        if self.loop.is_running():
            self._bell_hung = False
            return True
        if not self._bell_hung:
            self.loop.call_soon_threadsafe(bell)
            self._bell_hung = True
        return False

    def decide(self, refusal: BaseException | None = None) -> None:
        """See `Turn`."""
        self._do(self._wake)
        self.granted, self.refusal = refusal is None, refusal

    def ring_after(self, seconds: float, bell: Callable[[], None]) -> None:
        """See `Turn`."""
        self._do(lambda: self.loop.call_later(seconds, bell))

    def _do(self, fn: Callable[[], object]) -> None:
        if threading.get_ident() == self._thread:
            fn()
        else:
            self.loop.call_soon_threadsafe(fn)

    def _wake(self) -> None:
        if not self._decided.done():
            self._decided.set_result(None)

    async def wait(self, seconds: float | None) -> None:
        """Return when it is decided, or after so many seconds."""
        await asyncio.wait([self._decided], timeout=seconds)


class Lookout:
    """Looks at the queue now and then, while tasks of a loop wait there. For use on that loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, look: Callable[[], None]) -> None:
        self._loop = loop
        self._look = look
        self._waiting = 0
        self._next: asyncio.TimerHandle | None = None

    def come(self) -> None:
        """One more waits."""
        self._waiting += 1
        if self._next is None:
            self._next = self._loop.call_later(LOOK_AGAIN, self._do)

    def _do(self) -> None:
        self._next = self._loop.call_later(LOOK_AGAIN, self._do)
        self._look()

    def leave(self) -> bool:
        """One less; whether it was the last."""
        self._waiting -= 1
        if not self._waiting and self._next is not None:
            self._next.cancel()
            self._next = None
        return not self._waiting


class ThreadTurn:
    """Waits by blocking its thread."""

    def __init__(self) -> None:
        self._changed = threading.Event()
        self._bell: tuple[float, Callable[[], None]] | None = None
        self.granted = False
        self.refusal: BaseException | None = None
        self.came_at = time.monotonic()

    def is_alive(self, bell: Callable[[], None]) -> bool:
        """See `Turn`."""
        return True

    def decide(self, refusal: BaseException | None = None) -> None:
        """See `Turn`."""
        self.granted, self.refusal = refusal is None, refusal
        self._changed.set()

    def ring_after(self, seconds: float, bell: Callable[[], None]) -> None:
        """See `Turn`."""
        self._bell = (time.monotonic() + seconds, bell)
        self._changed.set()

    def wait(self, seconds: float | None, look: Callable[[], None]) -> None:
        """Return when it is decided, or after so many seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        look_at = time.monotonic() + LOOK_AGAIN
        while True:
            self._changed.clear()  # what changes from here on, the wait at the end notices
            now = time.monotonic()
            if self.granted or self.refusal is not None or (end is not None and now >= end):
                return
            bell = self._bell
            if bell is not None and now >= bell[0]:
                self._bell = None
                bell[1]()
            elif now >= look_at:
                look_at = now + LOOK_AGAIN
                look()
            else:
                moments = [moment for moment in (end, look_at, bell and bell[0]) if moment is not None]
                self._changed.wait(min(moments) - now)
