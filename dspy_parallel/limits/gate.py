"""The queue before an LM: first come, first served, for tasks on any event loop and for threads alike.

Nobody works for the queue. Whoever comes, leaves or gives up lets those in who may go in; where only time can help,
because the rate is used up or the provider wants to be left alone, the first in the queue looks again by itself.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
import weakref
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Literal

from .queue import Entry, Queue
from .rate import Rate
from .turns import Lookout, TaskTurn, ThreadTurn, Turn
from .window import Window

__all__ = ["Gate", "Outcome", "TurnedAwayError"]

Outcome = Literal["success", "refused", "other"]


class TurnedAwayError(Exception):
    """The provider has refused others for as long as this call was willing to wait."""

    def __init__(self, refusal: BaseException) -> None:
        super().__init__()
        self.refusal = refusal


class Gate:
    """Lets calls in by the order of their numbers."""

    def __init__(self, max_in_flight: int | None, rate: Rate | None) -> None:
        self._most = max_in_flight
        self._rate = rate
        self._numbers = itertools.count()
        self._reset()
        _gates.add(self)

    def _reset(self) -> None:
        # Reentrant: the garbage collector may close an abandoned coroutine, which then leaves, at any line below.
        self.lock = threading.RLock()
        """Held while a place changes hands."""
        self._queue = Queue()
        self._without_room = Queue()
        """Those whom it would not help to wait for room: see `enter_blocking`."""
        self._rings: tuple[Turn, float] | None = None
        self._lookouts: dict[asyncio.AbstractEventLoop, Lookout] = {}
        self._paused_until = float("-inf")
        self._held_since: float | None = None
        """When the pauses began, if nobody has been answered since."""
        self.window = Window(self._most)
        self.in_flight = 0
        self.refusals = 0

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._queue) + len(self._without_room)

    @property
    def pause(self) -> float:
        """Seconds for which nobody is let in any more."""
        return max(0.0, self._paused_until - time.monotonic())

    def number(self) -> int:
        """A call's place in the order. With a higher one it lets as many pass as the difference is."""
        return next(self._numbers)

    # To enter

    async def enter(self, number: int, seconds: float | None = None) -> bool:
        """Wait for the turn as a task; False if it did not come in time.

        Raises:
            TurnedAwayError: If it is not going to come.
        """
        turn = TaskTurn()
        try:
            if not self._join(self._queue, number, turn):
                with self._lookout(turn.loop):
                    await turn.wait(seconds)
        except BaseException:
            self._give_back(self._queue, turn)
            raise
        return self._has_come(self._queue, turn)

    def enter_blocking(self, number: int, seconds: float | None = None, *, needs_room: bool = True) -> bool:
        """Wait for the turn as a thread; False if it did not come in time.

        Args:
            number: The place in the order.
            seconds: For how long to wait.
            needs_room: Whether to wait for others to leave, and not only for the rate and the end of a pause.

        Raises:
            TurnedAwayError: If it is not going to come.
        """
        turn = ThreadTurn()
        queue = self._queue if needs_room else self._without_room
        try:
            if not self._join(queue, number, turn):
                turn.wait(seconds, self._look)
        except BaseException:
            self._give_back(queue, turn)
            raise
        return self._has_come(queue, turn)

    def _join(self, queue: Queue, number: int, turn: Turn) -> bool:
        with self.lock:
            queue.push(number, turn)
            self._admit()
            return turn.granted

    def _has_come(self, queue: Queue, turn: Turn) -> bool:
        with self.lock:
            if turn.refusal is not None:
                raise TurnedAwayError(turn.refusal)
            if not turn.granted:
                self._remove(queue, turn)
            return turn.granted

    def _give_back(self, queue: Queue, turn: Turn) -> None:
        with self.lock:
            if turn.granted:  # in the same moment
                self.in_flight -= 1
                self._admit()
            else:
                self._remove(queue, turn)

    def _remove(self, queue: Queue, turn: Turn) -> None:
        queue.remove(turn)
        self._admit()

    # To leave

    def leave(self, outcome: Outcome, sent_at: float) -> None:
        """Make room, and learn from how the call went."""
        with self.lock:
            if outcome == "success":
                self.window.succeeded()
                self._held_since = time.monotonic() if self.pause else None
            elif outcome == "refused":
                self.refusals += 1
                self.window.refused(sent_at, time.monotonic(), self.in_flight)
            self.in_flight -= 1
            self._admit()

    def pause_for(self, seconds: float) -> None:
        """Let nobody in for so long."""
        with self.lock:
            now = time.monotonic()
            self._paused_until = max(self._paused_until, now + seconds)
            if self._held_since is None and seconds > 0:
                self._held_since = now

    def turn_away(self, refusal: BaseException, sent_at: float, wait: float, patience: float) -> None:
        """Have those in the queue give up whose time would be over before the provider wants to be asked again.

        Only if it has been asked again already, after a pause, and has answered nothing since that began.

        Args:
            refusal: The last one.
            sent_at: When that request was sent.
            wait: Seconds after which the provider wants to be asked again.
            patience: Seconds for which each of them may be held back by pauses.
        """
        with self.lock:
            since = self._held_since
            if since is None or sent_at < self._paused_until:
                return
            latest = time.monotonic() + wait - patience
            for queue in (self._queue, self._without_room):
                for turn in queue:
                    if max(since, turn.came_at) <= latest:
                        queue.remove(turn)
                        with suppress(RuntimeError):  # its event loop has been closed
                            turn.decide(refusal)

    # Under the lock

    def _admit(self) -> None:
        asleep: list[Entry] = []
        while (found := self._next()) is not None:
            queue, turn = found
            try:
                if not turn.is_alive(self._ring):
                    asleep.append(queue.put_aside())
                    continue
                seconds = self.pause or (self._rate.take() if self._rate is not None else 0.0)
                if seconds > 0:
                    self._ring_after(seconds, turn)
                    break
                turn.decide()
            except RuntimeError:  # its event loop has just been closed
                queue.remove(turn)
                continue
            queue.remove(turn)
            self.in_flight += 1
        for entry in asleep:
            self._queue.put_back(entry)

    def _next(self) -> tuple[Queue, Turn] | None:
        """Whose turn it is."""
        first = self._queue.first() if self.window.has_room(self.in_flight) else None
        other = self._without_room.first()
        if other is not None and (first is None or other < first):
            return self._without_room, other[-1]
        return None if first is None else (self._queue, first[-1])

    def _ring_after(self, seconds: float, turn: Turn) -> None:
        when = time.monotonic() + seconds
        if self._rings is None or self._rings[0] is not turn or self._rings[1] > when:
            turn.ring_after(seconds, self._ring)
            self._rings = (turn, when)

    def _ring(self) -> None:
        with self.lock:
            self._rings = None
            self._admit()

    def _look(self) -> None:
        with self.lock:
            self._admit()

    @contextmanager
    def _lookout(self, loop: asyncio.AbstractEventLoop) -> Generator[None]:
        """Have the loop look at the queue now and then while one of its tasks waits there."""
        lookout = self._lookouts.setdefault(loop, Lookout(loop, self._look))
        lookout.come()
        try:
            yield
        finally:
            if lookout.leave():
                self._lookouts.pop(loop, None)

    def after_fork(self) -> None:
        """Forget the calls of the parent process, which will never leave here."""
        self._reset()


_gates: weakref.WeakSet[Gate] = weakref.WeakSet()


def _after_fork() -> None:
    for gate in list(_gates):
        gate.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
