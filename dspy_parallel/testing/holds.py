"""Rendezvous: requests that wait until the test lets them go, or until enough of them are in flight."""

from __future__ import annotations

import asyncio
from collections import deque

from dspy_parallel.testing.settings import Settings
from dspy_parallel.testing.stats import Recorder

__all__ = ["Holds"]


class Holds:
    """Holds requests back; `release` and a full gate let them go."""

    def __init__(self, settings: Settings, recorder: Recorder) -> None:
        self._settings = settings
        self._recorder = recorder
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._credits = 0

    async def pass_through(self) -> bool:
        """Wait for the release; False if it did not come within `max_hold` seconds."""
        settings = self._settings
        if settings.gate is not None and self._recorder.in_flight >= settings.gate:
            settings.gate = None  # a gate opens once, so that later requests are not stuck behind it
            if not settings.hold:
                self._let_go(len(self._waiting))
        if not settings.hold and settings.gate is None:
            return True
        if self._credits:
            self._credits -= 1
            return True
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(ticket)
        self._recorder.held += 1
        self._recorder.changed()
        try:
            done, _ = await asyncio.wait([ticket], timeout=settings.max_hold)
            return bool(done)
        finally:
            self._recorder.held -= 1
            ticket.cancel()

    def release(self, count: int | None) -> None:
        """Let `count` requests pass, waiting or to come; None lets all pass and ends the holding."""
        if count is None:
            self._settings.hold, self._settings.gate = False, None
            self.open()
        else:
            self._credits += count - self._let_go(count)

    def open(self) -> None:
        """Let everyone go if nothing holds requests back any more."""
        if not self._settings.hold and self._settings.gate is None:
            self._credits = 0
            self._let_go(len(self._waiting))

    def _let_go(self, count: int) -> int:
        gone = 0
        while gone < count and self._waiting:
            ticket = self._waiting.popleft()
            if not ticket.done():
                ticket.set_result(None)
                gone += 1
        return gone
