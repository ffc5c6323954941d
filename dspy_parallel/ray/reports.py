"""How a worker tells the ledger what is finished: at once, or together with others if there are many."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["Reports"]

SECONDS_PER_ROW = 0.0025
LONGEST = 0.05
"""A message waits for so long after the one before, by the rows in that. So up to 400 rows a second are told at once.
Of more, messages would cost CPU that the rows need: they go together, at least every 50 ms. Rows that are finished but
not told yet when their worker is killed are run again."""


class Reports:
    """All methods are for the loop's thread."""

    def __init__(self, ledger: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._ledger = ledger
        self._loop = loop
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._finished: list[tuple[bytes, bytes]] = []
        self._errors = self._tokens = 0

    def finished(self, key: bytes, result: bytes, tokens: int) -> None:
        """A row has a result."""
        self._finished.append((key, result))
        self._tokens += tokens
        self._soon()

    def failed(self, tokens: int) -> None:
        """A row has none."""
        self._errors += 1
        self._tokens += tokens
        self._soon()

    def _soon(self) -> None:
        if self._timer is None:
            wait = self._next - self._loop.time()
            if wait <= 0:
                self._send()
            else:
                self._timer = self._loop.call_later(wait, self._send)

    def _send(self) -> None:
        self._timer = None
        self._next = self._loop.time() + min(LONGEST, SECONDS_PER_ROW * (len(self._finished) + self._errors))
        self._ledger.note.remote(self._finished, self._errors, self._tokens)
        self._finished, self._errors, self._tokens = [], 0, 0
