"""Limits that the server enforces on its clients: requests at a time, and requests in a window of time."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

from dspy_parallel.testing.settings import Settings
from dspy_parallel.testing.stats import Recorder

__all__ = ["Limits", "Rejection"]


class Rejection(Exception):
    """A request is turned away with status 429."""

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Limits:
    """Admission control in order of arrival."""

    def __init__(self, settings: Settings, recorder: Recorder) -> None:
        self._settings = settings
        self._recorder = recorder
        self._admitted: deque[float] = deque()
        self._queue: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Count the request as in flight, after its turn in the queue, or raise `Rejection`."""
        settings, recorder = self._settings, self._recorder
        if settings.requests_per_minute is not None:
            self._take_from_window(settings.requests_per_minute)
        if settings.max_concurrency is not None and recorder.in_flight >= settings.max_concurrency:
            if settings.overflow == "reject":
                raise Rejection("concurrency", 1.0 if settings.retry_after is None else settings.retry_after)
            await self._queue_up()  # whoever gives the place away counts it as taken
        else:
            recorder.admit()

    def leave(self) -> None:
        """Give the place to the first in the queue."""
        self._recorder.leave()
        self.reconsider()

    def reconsider(self) -> None:
        """Admit from the queue as many as fit, after a place became free or the limit changed."""
        limit = self._settings.max_concurrency
        free = len(self._queue) if limit is None else limit - self._recorder.in_flight
        while free > 0 and self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                self._recorder.admit()
                free -= 1

    def forget(self) -> None:
        """Empty the window of the rate limit."""
        self._admitted.clear()

    async def _queue_up(self) -> None:
        recorder = self._recorder
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        recorder.queued += 1
        recorder.peak_queued = max(recorder.peak_queued, recorder.queued)
        recorder.changed()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # the place was given to a client that left in the same moment
            raise
        finally:
            recorder.queued -= 1
            recorder.changed()

    def _take_from_window(self, limit: int) -> None:
        now, window = time.monotonic(), self._settings.rate_window
        while self._admitted and self._admitted[0] <= now - window:
            self._admitted.popleft()
        if len(self._admitted) >= limit:
            wait = self._admitted[len(self._admitted) - limit] + window - now
            # Whole seconds as real services send them, except where the window itself is shorter (in tests).
            advice = math.ceil(wait) if window >= 10 else math.ceil(wait * 1000) / 1000
            raise Rejection("rate", advice if self._settings.retry_after is None else self._settings.retry_after)
        self._admitted.append(now)
