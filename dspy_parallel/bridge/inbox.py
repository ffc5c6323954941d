"""Calls that other threads hand over to an event loop: one wake-up for all that come before the loop gets to them.

`call_soon_threadsafe` writes to a socket each time, and lets go of the GIL for it. In a crowd of threads, getting it
back takes longer than all the rest of the message.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable

__all__ = ["Inbox", "inbox_of"]


class Inbox:
    """A loop's calls from other threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._calls: deque[Callable[[], None]] = deque()
        self._is_told = False

    def post(self, call: Callable[[], None]) -> None:
        """Have it called by the loop, in order; from any thread. It must not raise: others may come right after it.

        Raises:
            RuntimeError: If the loop is closed.
        """
        self._calls.append(call)
        if not self._is_told:
            self._is_told = True
            self.loop.call_soon_threadsafe(self._deliver)
        elif self.loop.is_closed():
            raise RuntimeError("Event loop is closed")

    def _deliver(self) -> None:
        self._is_told = False  # first: what is posted from now on may come too late for what follows
        for _ in range(len(self._calls)):
            self._calls.popleft()()


_local = threading.local()


def inbox_of(loop: asyncio.AbstractEventLoop) -> Inbox:
    """The inbox of the loop that runs in this thread."""
    inbox: Inbox | None = getattr(_local, "inbox", None)
    if inbox is None or inbox.loop is not loop:
        inbox = _local.inbox = Inbox(loop)
    return inbox
