"""Calls that other threads hand over to an event loop: one wake-up for all that come before the loop gets to them.

`call_soon_threadsafe` writes to a socket each time, and lets go of the GIL for it. In a crowd of threads, getting it
back takes longer than all the rest of the message.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable

__all__ = ["Mailbox", "mailbox_of"]


class Mailbox:
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
            try:
                self._is_told = True
                self.loop.call_soon_threadsafe(self._deliver)
            except BaseException:
                # A sync caller posts from its own thread, where Ctrl-C may be raised between the two lines. A loop that
                # is taken for told, and is not, would never hear of anything again.
                self._is_told = False
                raise
        elif self.loop.is_closed():
            raise RuntimeError("Event loop is closed")

    def _deliver(self) -> None:
        self._is_told = False  # first: what is posted from now on may come too late for what follows
        for _ in range(len(self._calls)):
            self._calls.popleft()()


_local = threading.local()


def mailbox_of(loop: asyncio.AbstractEventLoop) -> Mailbox:
    """The mailbox of the loop that runs in this thread."""
    mailbox: Mailbox | None = getattr(_local, "mailbox", None)
    if mailbox is None or mailbox.loop is not loop:
        mailbox = _local.mailbox = Mailbox(loop)
    return mailbox
