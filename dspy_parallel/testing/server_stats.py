"""What a test gets to see of the server: its statistics and its log, as typed, frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["LoggedRequest", "ServerStats"]


@dataclass(frozen=True)
class ServerStats:
    """Counts of one server since its start or the last `reset_stats()`; control requests are not in them."""

    requests: int
    """Requests received."""
    completed: int
    """Replies sent with status 200 and without a fault."""
    in_flight: int
    """Requests being served now: admitted and not yet answered."""
    peak_in_flight: int
    held: int
    """Requests waiting for `release()` or a gate."""
    disconnects: int
    """Clients that left while their request was in flight."""
    connections: int
    """Open connections that have carried at least one request."""
    peak_connections: int
    models: Mapping[str, int]
    """Requests by model."""
    faults: Mapping[str, int]
    """Injected faults by kind."""
    rejected: Mapping[str, int]
    """Requests turned away by limit: `"concurrency"` or `"rate"`."""
    statuses: Mapping[str, int]
    """Replies by HTTP status."""


@dataclass(frozen=True)
class LoggedRequest:
    """One request as the server saw it; times are of the system's monotonic clock, in seconds."""

    ordinal: int
    path: str
    model: str
    start: float
    end: float | None
    """None while the request is in flight."""
    status: int | None
    """None while in flight, and where no reply was sent."""
    latency: float
    """The latency that was asked for; ``end - start`` is the one that came about."""
    fault: str | None
    body: Any
    """The request's body, if the server was told to keep bodies."""

    def overlaps(self, other: LoggedRequest) -> bool:
        """Whether both requests were in flight at the same moment."""
        never = float("inf")
        return self.start < (other.end or never) and other.start < (self.end or never)
