"""How many calls may be in flight: additive increase, multiplicative decrease."""

from __future__ import annotations

__all__ = ["Window"]

DECREASE = 0.7
ROUNDS_TO_RECOVER = 50
"""From nothing to the full window, if every call succeeds."""


class Window:
    """Shrinks when the provider refuses calls and grows back as calls succeed. Not thread-safe by itself."""

    def __init__(self, most: int | None) -> None:
        self._most = float("inf") if most is None else float(most)
        self._step = 1.0 if most is None else max(1.0, most / ROUNDS_TO_RECOVER)
        self._size = self._most
        self._shrunk_at = float("-inf")

    @property
    def size(self) -> float:
        """Calls that may be in flight; infinite while nothing is known."""
        return self._size

    def has_room(self, in_flight: int) -> bool:
        """Whether one more may be in flight."""
        return in_flight < max(1.0, self._size)

    def succeeded(self) -> None:
        """Grow: by one step for each window full of successes."""
        if self._size < self._most:
            self._size = min(self._most, self._size + self._step / self._size)

    def refused(self, sent_at: float, now: float, in_flight: int) -> None:
        """Shrink, once for each round.

        A burst of calls meets a burst of refusals. Those sent before the last decrease say nothing about the size
        since then.
        """
        if sent_at >= self._shrunk_at:
            self._size = max(1.0, min(self._size, float(in_flight)) * DECREASE)
            self._shrunk_at = now
