"""What the server saw: counters, a log of requests, and waiting for either to reach a value."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

__all__ = ["Entry", "Recorder"]

_LOG_LENGTH = 200_000


class Entry:
    """One request on its way through the server."""

    __slots__ = ("body", "end", "fault", "latency", "model", "ordinal", "path", "start", "status")

    def __init__(self, ordinal: int, path: str, model: str, start: float) -> None:
        self.ordinal = ordinal
        self.path = path
        self.model = model
        self.start = start
        self.end: float | None = None
        self.status: int | None = None
        self.latency = 0.0
        self.fault: str | None = None
        self.body: Any = None

    def as_dict(self) -> dict[str, Any]:
        """The entry as plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


class Recorder:
    """Counters with waiters; every method runs on the server's loop."""

    def __init__(self) -> None:
        self._waiters: list[tuple[dict[str, int], asyncio.Future[None]]] = []
        self.connections = 0
        self.in_flight = 0
        self.queued = 0
        self.held = 0
        self._clear()

    def _clear(self) -> None:
        self.requests = 0
        self.completed = 0
        self.disconnects = 0
        self.rejected: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.peak_in_flight = self.in_flight
        self.peak_queued = self.queued
        self.peak_connections = self.connections
        self.log: deque[Entry] = deque(maxlen=_LOG_LENGTH)

    def reset(self) -> None:
        """Start all counts anew; what is in flight stays in flight."""
        self._clear()
        self.changed()

    def begin(self, path: str, model: str, start: float, *, logged: bool) -> Entry:
        """Count a request that has arrived."""
        self.requests += 1
        self.models[model] += 1
        entry = Entry(self.requests, path, model, start)
        if logged:
            self.log.append(entry)
        return entry

    def admit(self) -> None:
        """Count a request that is being served from now on."""
        self.in_flight += 1
        if self.in_flight > self.peak_in_flight:
            self.peak_in_flight = self.in_flight
        self.changed()

    def leave(self) -> None:
        """Count a served request out again, whatever became of it."""
        self.in_flight -= 1
        self.changed()

    def finish(self, entry: Entry, status: int | None) -> None:
        """Note how a request ended; None means that no reply was sent."""
        entry.end = time.monotonic()
        entry.status = status
        if status is not None:
            self.statuses[status] += 1
            if status == 200 and entry.fault is None:
                self.completed += 1
        self.changed()

    def changed(self) -> None:
        """Wake those whose wait is over."""
        if not self._waiters:
            return
        waiting = []
        for wanted, future in self._waiters:
            if future.done():
                continue
            if self._reached(wanted):
                future.set_result(None)
            else:
                waiting.append((wanted, future))
        self._waiters = waiting

    async def wait(self, wanted: Mapping[str, int], timeout: float) -> bool:
        """Wait until every count is at least the given one (exactly zero for 0); False when the time is over."""
        wanted = dict(wanted)
        if self._reached(wanted):
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((wanted, future))
        done, _ = await asyncio.wait([future], timeout=timeout)
        future.cancel()
        return bool(done)

    def _reached(self, wanted: Mapping[str, int]) -> bool:
        for name, value in wanted.items():
            count = sum(self.rejected.values()) if name == "rejected" else getattr(self, name)
            if count < value or (value == 0 and count > 0):
                return False
        return True

    def snapshot(self) -> dict[str, Any]:
        """All counts as plain data."""
        return {
            "requests": self.requests,
            "completed": self.completed,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak_in_flight,
            "queued": self.queued,
            "peak_queued": self.peak_queued,
            "held": self.held,
            "disconnects": self.disconnects,
            "connections": self.connections,
            "peak_connections": self.peak_connections,
            "models": dict(self.models),
            "faults": dict(self.faults),
            "rejected": dict(self.rejected),
            "statuses": {str(k): v for k, v in self.statuses.items()},
        }
