"""The queue before an LM: first come, first served, for tasks on any event loop and for threads alike.

Nobody works for the queue. Whoever comes, leaves or gives up lets those in who may go in; where only time can help,
because the rate is used up or the provider wants to be left alone, the first in the queue looks again by itself.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
import weakref
from typing import Literal

from .rate import Rate
from .turns import TaskTurn, ThreadTurn, Turn
from .window import Window

__all__ = ["Gate", "Outcome"]

Outcome = Literal["success", "refused", "other"]


class Gate:
    """Lets calls in by the order of their numbers."""

    def __init__(self, max_in_flight: int | None, rate: Rate | None) -> None:
        self._most = max_in_flight
        self._rate = rate
        self._numbers = itertools.count()
        self._arrivals = itertools.count()
        self._reset()
        _gates.add(self)

    def _reset(self) -> None:
        # Reentrant: the garbage collector may close an abandoned coroutine, which then leaves, at any line below.
        self._lock = threading.RLock()
        self._queue: list[tuple[int, int, Turn]] = []
        self._rings: tuple[Turn, float] | None = None
        self._paused_until = float("-inf")
        self.window = Window(self._most)
        self.in_flight = 0
        self.refusals = 0

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._queue)

    @property
    def pause(self) -> float:
        """Seconds for which nobody is let in any more."""
        return max(0.0, self._paused_until - time.monotonic())

    def number(self) -> int:
        """A call's place in the order. With a higher one it lets as many pass as the difference is."""
        return next(self._numbers)

    # To enter

    async def enter(self, number: int, seconds: float | None = None) -> bool:
        """Wait for the turn as a task; False if it did not come in time."""
        turn = TaskTurn()
        try:
            if not self._join(number, turn):
                await turn.wait(seconds)
        except BaseException:
            self._give_back(turn)
            raise
        return self._has_come(turn)

    def enter_blocking(self, number: int, seconds: float | None = None) -> bool:
        """Wait for the turn as a thread; False if it did not come in time."""
        turn = ThreadTurn()
        try:
            if not self._join(number, turn):
                turn.wait(seconds)
        except BaseException:
            self._give_back(turn)
            raise
        return self._has_come(turn)

    def enter_at_once(self) -> None:
        """Go in without a turn, even if that is one too many."""
        with self._lock:
            self.in_flight += 1

    def _join(self, number: int, turn: Turn) -> bool:
        with self._lock:
            heapq.heappush(self._queue, (number, next(self._arrivals), turn))
            self._admit()
            return turn.granted

    def _has_come(self, turn: Turn) -> bool:
        with self._lock:
            if not turn.granted:
                self._remove(turn)
            return turn.granted

    def _give_back(self, turn: Turn) -> None:
        with self._lock:
            if turn.granted:  # in the same moment
                self.in_flight -= 1
            else:
                self._remove(turn)
            self._admit()

    def _remove(self, turn: Turn) -> None:
        self._queue = [entry for entry in self._queue if entry[-1] is not turn]
        heapq.heapify(self._queue)
        self._admit()

    # To leave

    def leave(self, outcome: Outcome, sent_at: float) -> None:
        """Make room, and learn from how the call went."""
        with self._lock:
            if outcome == "success":
                self.window.succeeded()
            elif outcome == "refused":
                self.refusals += 1
                self.window.refused(sent_at, time.monotonic(), self.in_flight)
            self.in_flight -= 1
            self._admit()

    def pause_for(self, seconds: float) -> None:
        """Let nobody in for so long."""
        with self._lock:
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    # Under the lock

    def _admit(self) -> None:
        asleep: list[tuple[int, int, Turn]] = []
        while self._queue and self.window.has_room(self.in_flight):
            turn = self._queue[0][-1]
            try:
                if not turn.is_alive(self._ring):
                    asleep.append(heapq.heappop(self._queue))
                    continue
                seconds = self.pause or (self._rate.take() if self._rate is not None else 0.0)
                if seconds > 0:
                    self._ring_after(seconds, turn)
                    break
                turn.grant()
            except RuntimeError:  # its event loop has just been closed
                turn.granted = False
                heapq.heappop(self._queue)
                continue
            heapq.heappop(self._queue)
            self.in_flight += 1
        for entry in asleep:
            heapq.heappush(self._queue, entry)

    def _ring_after(self, seconds: float, turn: Turn) -> None:
        when = time.monotonic() + seconds
        if self._rings is None or self._rings[0] is not turn or self._rings[1] > when:
            turn.ring_after(seconds, self._ring)
            self._rings = (turn, when)

    def _ring(self) -> None:
        with self._lock:
            self._rings = None
            self._admit()

    def after_fork(self) -> None:
        """Forget the calls of the parent process, which will never leave here."""
        self._reset()


_gates: weakref.WeakSet[Gate] = weakref.WeakSet()


def _after_fork() -> None:
    for gate in list(_gates):
        gate.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
