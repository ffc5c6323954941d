"""Who is served when: the limits that a server enforces, and requests that wait until the test lets them go."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

from dspy_parallel.testing.request_log import Recorder
from dspy_parallel.testing.server_options import Settings

__all__ = ["Admission", "Rejection"]


class Rejection(Exception):
    """A request is turned away with status 429."""

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class Admission:
    """Turns requests away over the limit; holds those that it admits back until a release or a full gate."""

    def __init__(self, settings: Settings, recorder: Recorder) -> None:
        self._settings = settings
        self._recorder = recorder
        self._served: deque[float] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._credits = 0

    def enter(self) -> None:
        """Count a request as in flight, or raise `Rejection`."""
        settings = self._settings
        if settings.requests_per_minute is not None:
            self._take_from_window(settings.requests_per_minute)
        if settings.max_concurrency is not None and self._recorder.in_flight >= settings.max_concurrency:
            raise Rejection("concurrency", 1.0 if settings.retry_after is None else settings.retry_after)
        self._recorder.count("in_flight", 1)

    def _take_from_window(self, limit: int) -> None:
        now, window = time.monotonic(), self._settings.rate_window
        while self._served and self._served[0] <= now - window:
            self._served.popleft()
        if len(self._served) >= limit:
            wait = self._served[-limit] + window - now
            # Whole seconds as real services send them, except where the window itself is shorter (in tests).
            advice = math.ceil(wait) if window >= 10 else math.ceil(wait * 1000) / 1000
            raise Rejection("rate", advice if self._settings.retry_after is None else self._settings.retry_after)
        self._served.append(now)

    def forget(self) -> None:
        """Empty the window of the rate limit."""
        self._served.clear()

    async def pass_through(self) -> bool:
        """Wait for the release; False if it did not come within `max_hold` seconds."""
        settings, recorder = self._settings, self._recorder
        if settings.gate is not None and recorder.in_flight >= settings.gate:
            settings.gate = None  # a gate opens once, so that later requests are not stuck behind it
            self.open()
        if not settings.hold and settings.gate is None:
            return True
        if self._credits:
            self._credits -= 1
            return True
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(ticket)
        recorder.count("held", 1)
        try:
            return bool((await asyncio.wait([ticket], timeout=settings.max_hold))[0])
        finally:
            recorder.count("held", -1)
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
