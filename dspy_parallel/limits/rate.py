"""Requests per minute, by the generic cell rate algorithm (GCRA) of throttled-py."""

from __future__ import annotations

from ..errors import MissingExtraError

__all__ = ["Rate"]


class Rate:
    """Spreads requests evenly; what was not used in a tenth of a second may be made up for.

    Providers that allow 3,000 a minute often count 50 a second. And requests that begin together end together, and
    then all wait for the CPU. No minute may see more than was asked for, so the burst is taken from the rate: of
    3,000, 2,996 follow each other evenly and 4 may come early.
    """

    def __init__(self, per_minute: int) -> None:
        try:
            from throttled import MemoryStore, Throttled
            from throttled.rate_limiter import per_min
        except ImportError as exc:
            raise MissingExtraError(
                "requests_per_minute needs the package throttled-py. Install it with: pip install "
                "'dspy-parallel[limits]'."
            ) from exc
        burst = max(1, per_minute // 600)
        quota = per_min(per_minute - burst + 1, burst=burst)
        self._throttled = Throttled(key="lm", using="gcra", quota=quota, store=MemoryStore())

    def take(self) -> float:
        """Take one request if there is one now: 0. Else the seconds to wait before asking again."""
        result = self._throttled.limit()
        return result.state.retry_after if result.limited else 0.0
