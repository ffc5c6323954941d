"""Where threads and coroutines wait until a test lets them through."""

from __future__ import annotations

import asyncio
import contextlib
import threading

__all__ = ["Gate"]


class Gate(threading.Event):
    """An event that coroutines of any loop can wait for, too."""

    def __init__(self) -> None:
        super().__init__()
        self._outside: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._arriving = threading.Lock()

    def set(self) -> None:
        with self._arriving:
            super().set()
            outside, self._outside = self._outside, []
        for loop, event in outside:
            with contextlib.suppress(RuntimeError):  # that loop is closed
                loop.call_soon_threadsafe(event.set)

    async def passed(self) -> None:
        """Return when it is set."""
        event = asyncio.Event()
        with self._arriving:
            if self.is_set():
                return
            self._outside.append((asyncio.get_running_loop(), event))
        await event.wait()
