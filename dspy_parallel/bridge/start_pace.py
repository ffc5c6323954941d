"""A crowd of programs begins over several turns of the event loop, so that the loop serves others in between.

What a program does before it first waits is its longest stretch: DSPy writes a prompt in it. Where no greenlet or
thread is at rest, one has to be made besides. If a thousand began in one turn, a heartbeat, a new connection or another
program's reply would wait for all of them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque

__all__ = ["Turns", "turns_of"]

SECONDS_PER_TURN = 0.005
"""After so long no more programs begin in a turn."""


class Turns:
    """Lets programs begin in the order in which they come. All methods are for the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._begun = 0
        self._since = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Whether one more program may begin in this turn; otherwise it has to `wait()`."""
        if self._begun == 0:
            self._since = time.perf_counter()
            self.loop.call_soon(self._next)
        elif self._waiting or time.perf_counter() - self._since >= SECONDS_PER_TURN:
            return False
        self._begun += 1
        return True

    async def wait(self) -> None:
        """Return in the turn in which the program may begin."""
        place = self.loop.create_future()
        self._waiting.append(place)
        await place

    def _next(self) -> None:
        now = time.perf_counter()
        pace = self._begun / max(now - self._since, 1e-9)
        room = max(min(int(pace * SECONDS_PER_TURN), 2 * self._begun), 1)
        self._begun, self._since = 0, now
        while self._waiting and self._begun < room:
            place = self._waiting.popleft()
            if not place.done():  # cancelled
                place.set_result(None)
                self._begun += 1
        if self._begun:
            self.loop.call_soon(self._next)  # behind those that have just been told


_local = threading.local()


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    """The turns of the loop that runs in this thread."""
    turns: Turns | None = getattr(_local, "turns", None)
    if turns is None or turns.loop is not loop:
        turns = _local.turns = Turns(loop)
    return turns
