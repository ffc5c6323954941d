"""An alarm whose clock stands still until a test moves it: pauses, rates and rests without waiting for any of them."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from dspy_parallel.limits.alarm import Alarm

__all__ = ["VirtualAlarm"]


class VirtualAlarm(Alarm):
    """Takes the place of `dspy_parallel.limits`' alarm."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1000.0
        self.now = lambda: self.time
        self._calls: list[tuple[float, int, list[Callable[[], None]]]] = []
        self._numbers = itertools.count()

    def call_after(self, seconds: float, fn: Callable[[], None]) -> Callable[[], None]:
        fns = [fn]
        heapq.heappush(self._calls, (self.time + seconds, next(self._numbers), fns))
        return fns.clear

    @property
    def next(self) -> float | None:
        """Seconds until the first call that is to come."""
        while self._calls and not self._calls[0][-1]:
            heapq.heappop(self._calls)
        return self._calls[0][0] - self.time if self._calls else None

    def advance(self, seconds: float) -> None:
        """Let time pass, and call what is due on the way."""
        end = self.time + seconds
        while (wait := self.next) is not None and self.time + wait <= end:
            when, _, fns = heapq.heappop(self._calls)
            self.time = max(self.time, when)
            fns.pop()()
        self.time = end
