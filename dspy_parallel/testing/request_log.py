"""What the server saw: counters, a log of requests, and waiting for either to reach a value."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dspy_parallel.testing.server_stats import ServerStats

__all__ = ["Entry", "Recorder"]

_LOG_LENGTH = 200_000


@dataclass
class Entry:
    """One request on its way through the server; what a test gets to see of it is a `LoggedRequest`."""

    ordinal: int
    path: str
    model: str
    start: float
    end: float | None = None
    status: int | None = None
    latency: float = 0.0
    fault: str | None = None
    body: Any = None


class Recorder:
    """The counters of `ServerStats`, with waiters; every method runs on the server's loop."""

    def __init__(self) -> None:
        self._waiters: list[tuple[Mapping[str, int], asyncio.Future[None]]] = []
        self.connections = self.in_flight = self.held = 0
        self.reset()

    def reset(self) -> None:
        """Start all counts anew; what is in flight stays in flight."""
        self.requests = self.completed = self.disconnects = 0
        self.rejected: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.peak_in_flight, self.peak_connections = self.in_flight, self.connections
        self.log: deque[Entry] = deque(maxlen=_LOG_LENGTH)
        self.changed()

    def begin(self, path: str, model: str, start: float, *, logged: bool) -> Entry:
        """Count a request that has arrived."""
        self.requests += 1
        self.models[model] += 1
        entry = Entry(self.requests, path, model, start)
        if logged:
            self.log.append(entry)
        return entry

    def finish(self, entry: Entry, status: int | None) -> None:
        """Note how a request ended; None means that no reply was sent."""
        entry.end = time.monotonic()
        entry.status = status
        if status is not None:
            self.statuses[status] += 1
            self.completed += status == 200 and entry.fault is None
        self.changed()

    def count(self, name: str, change: int) -> None:
        """Change the number of connections, or of requests in flight or held, and with it what it was at most."""
        number = getattr(self, name) + change
        setattr(self, name, number)
        if number > getattr(self, f"peak_{name}", number):
            setattr(self, f"peak_{name}", number)
        self.changed()

    def changed(self) -> None:
        """Wake those whose wait is over."""
        for wanted, future in self._waiters:
            if not future.done() and self._reached(wanted):
                future.set_result(None)

    async def wait(self, wanted: Mapping[str, int], timeout: float) -> bool:
        """Wait until every count is at least the given one (exactly zero for 0); False when the time is over."""
        if self._reached(wanted):
            return True
        waiter: tuple[Mapping[str, int], asyncio.Future[None]] = wanted, asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return bool((await asyncio.wait([waiter[1]], timeout=timeout))[0])
        finally:
            self._waiters.remove(waiter)

    def _reached(self, wanted: Mapping[str, int]) -> bool:
        for name, value in wanted.items():
            count = sum(self.rejected.values()) if name == "rejected" else getattr(self, name)
            if count < value or (value == 0 and count > 0):
                return False
        return True

    def snapshot(self) -> dict[str, Any]:
        """All counts as plain data."""
        return {each.name: getattr(self, each.name) for each in fields(ServerStats)}
