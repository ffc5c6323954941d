"""The queue before an LM: first come, first served, for tasks on any event loop and for threads alike.

Nobody works for the queue. Whoever comes, leaves or gives up lets those in who may go in; where only time can help,
because the rate is used up or the provider wants to be left alone, an alarm has the queue looked at again.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

from .alarm import alarm

__all__ = ["Limiter", "Outcome", "Rate", "TurnedAwayError", "Window"]

Outcome = Literal["success", "refused", "other"]


class TurnedAwayError(Exception):
    """The provider has refused others for as long as this call was willing to wait."""

    def __init__(self, refusal: BaseException) -> None:
        super().__init__()
        self.refusal = refusal


class Waiter:
    """A call in the queue: a task of an event loop, or a thread. All but waiting is done under the queue's lock."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._woken = threading.Event() if loop is None else None
        self._decided: asyncio.Future[None] | None = None if loop is None else loop.create_future()
        self._will_tell = False
        self.granted = False
        self.refusal: BaseException | None = None
        """Why it will not be granted."""
        self.came_at = alarm.now()

    def is_alive(self, look: Callable[[], None]) -> bool:
        """Whether somebody is there to take the place; if not, `look` is called when somebody is.

        A loop may have been left with tasks that nobody will ever resume. They must not hold up those behind them.
        """
        if self._loop is None or self._loop.is_running():
            self._will_tell = False
            return True
        if not self._will_tell:
            self._loop.call_soon_threadsafe(look)
            self._will_tell = True
        return False

    def decide(self, refusal: BaseException | None = None) -> None:
        """It is this one's turn, or never will be.

        Raises:
            RuntimeError: If its event loop has been closed.
        """
        self._wake()
        self.granted, self.refusal = refusal is None, refusal

    def _wake(self) -> None:
        if self._woken is not None:
            self._woken.set()
        elif self._loop is not None and threading.get_ident() == self._thread:
            self._resume()
        elif self._loop is not None:
            self._loop.call_soon_threadsafe(self._resume)

    def _resume(self) -> None:
        if self._decided is not None and not self._decided.done():
            self._decided.set_result(None)

    def _time_is_up(self) -> None:
        with suppress(RuntimeError):
            self._wake()

    async def wait(self, seconds: float | None) -> None:
        """Return when it is decided, or after so many seconds; as a task."""
        assert self._decided is not None
        cancel = None if seconds is None else alarm.call_after(seconds, self._time_is_up)
        try:
            await self._decided
        finally:
            if cancel is not None:
                cancel()

    def wait_blocking(self, seconds: float | None) -> None:
        """The same as a thread."""
        assert self._woken is not None
        cancel = None if seconds is None else alarm.call_after(seconds, self._time_is_up)
        try:
            self._woken.wait()
        finally:
            if cancel is not None:
                cancel()


Entry = tuple[int, int, Waiter]
"""Number, arrival, waiter: with equal numbers, who came first."""

_arrivals = itertools.count()


class Queue:
    """Waiters by their numbers; to leave from the middle costs no more than to come. Not thread-safe by itself."""

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._present: set[Waiter] = set()

    def __len__(self) -> int:
        return len(self._present)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(list(self._present))  # they may leave meanwhile

    def push(self, number: int, waiter: Waiter) -> None:
        """Come in."""
        self._present.add(waiter)
        heapq.heappush(self._heap, (number, next(_arrivals), waiter))

    def first(self) -> Entry | None:
        """Whose turn it is."""
        while self._heap and self._heap[0][-1] not in self._present:
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None

    def put_aside(self) -> Entry:
        """Take the first out for a moment; it is still counted."""
        return heapq.heappop(self._heap)

    def put_back(self, entry: Entry) -> None:
        """Undo that."""
        heapq.heappush(self._heap, entry)

    def remove(self, waiter: Waiter) -> None:
        """Leave. What is left in the heap goes when it comes to the top, or is half of it."""
        self._present.discard(waiter)
        if len(self._heap) > 2 * len(self._present) + 8:
            self._heap = [entry for entry in self._heap if entry[-1] in self._present]
            heapq.heapify(self._heap)


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


class Rate:
    """Spreads requests evenly; what was not used in a tenth of a second may be made up for.

    Providers that allow 3,000 a minute often count 50 a second. And requests that begin together end together, and
    then all wait for the CPU. No minute may see more than was asked for, so the burst is taken from the rate: of
    3,000, 2,996 follow each other evenly and 4 may come early. Not thread-safe by itself.

    It is the generic cell rate algorithm:
    https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
    """

    def __init__(self, per_minute: int) -> None:
        burst = max(1, per_minute // 600)
        self._interval = 60 / (per_minute - burst + 1)
        self._early = (burst - 1) * self._interval
        self._next = float("-inf")
        """When the next request would come if all were even."""

    def take(self) -> float:
        """Take one request if there is one now: 0. Else the seconds to wait before asking again."""
        now = alarm.now()
        due = max(self._next, now)
        wait = due - self._early - now
        if wait > 1e-9:  # less is the error of the subtraction
            return wait
        self._next = due + self._interval
        return 0.0


class Limiter:
    """Lets calls in by the order of their numbers."""

    def __init__(self, max_in_flight: int | None, rate: Rate | None) -> None:
        self._most = max_in_flight
        self._rate = rate
        self._numbers = itertools.count()
        self._reset()
        _limiters.add(self)

    def _reset(self) -> None:
        # Reentrant: the garbage collector may close an abandoned coroutine, which then leaves, at any line below.
        self.lock = threading.RLock()
        """Held while a place changes hands."""
        self._queue = Queue()
        self._without_room = Queue()
        """Those whom it would not help to wait for room: see `enter_blocking`."""
        self._alarm: tuple[float, Callable[[], None]] | None = None
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
        return max(0.0, self._paused_until - alarm.now())

    def number(self) -> int:
        """A call's place in the order. With a higher one it lets as many pass as the difference is."""
        return next(self._numbers)

    # To enter

    async def enter(self, number: int, seconds: float | None = None) -> bool:
        """Wait for the turn as a task; False if it did not come in time.

        Raises:
            TurnedAwayError: If it is not going to come.
        """
        waiter = Waiter(asyncio.get_running_loop())
        try:
            if not self._join(self._queue, number, waiter):
                await waiter.wait(seconds)
        except BaseException:
            self._give_back(self._queue, waiter)
            raise
        return self._has_come(self._queue, waiter)

    def enter_blocking(self, number: int, seconds: float | None = None, *, needs_room: bool = True) -> bool:
        """Wait for the turn as a thread; False if it did not come in time.

        Args:
            number: The place in the order.
            seconds: For how long to wait.
            needs_room: Whether to wait for others to leave, and not only for the rate and the end of a pause.

        Raises:
            TurnedAwayError: If it is not going to come.
        """
        waiter = Waiter()
        queue = self._queue if needs_room else self._without_room
        try:
            if not self._join(queue, number, waiter):
                waiter.wait_blocking(seconds)
        except BaseException:
            self._give_back(queue, waiter)
            raise
        return self._has_come(queue, waiter)

    def _join(self, queue: Queue, number: int, waiter: Waiter) -> bool:
        with self.lock:
            queue.push(number, waiter)
            self._admit()
            return waiter.granted

    def _has_come(self, queue: Queue, waiter: Waiter) -> bool:
        with self.lock:
            if waiter.refusal is not None:
                raise TurnedAwayError(waiter.refusal)
            if not waiter.granted:
                self._remove(queue, waiter)
            return waiter.granted

    def _give_back(self, queue: Queue, waiter: Waiter) -> None:
        with self.lock:
            if waiter.granted:  # in the same moment
                self.in_flight -= 1
                self._admit()
            else:
                self._remove(queue, waiter)

    def _remove(self, queue: Queue, waiter: Waiter) -> None:
        queue.remove(waiter)
        self._admit()

    # To leave

    def leave(self, outcome: Outcome, sent_at: float) -> None:
        """Make room, and learn from how the call went."""
        with self.lock:
            if outcome == "success":
                self.window.succeeded()
                self._held_since = alarm.now() if self.pause else None
            elif outcome == "refused":
                self.refusals += 1
                self.window.refused(sent_at, alarm.now(), self.in_flight)
            self.in_flight -= 1
            self._admit()

    def pause_for(self, seconds: float) -> None:
        """Let nobody in for so long."""
        with self.lock:
            now = alarm.now()
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
            latest = alarm.now() + wait - patience
            for queue in (self._queue, self._without_room):
                for waiter in queue:
                    if max(since, waiter.came_at) <= latest:
                        queue.remove(waiter)
                        with suppress(RuntimeError):  # its event loop has been closed
                            waiter.decide(refusal)

    # Under the lock

    def _admit(self) -> None:
        asleep: list[Entry] = []
        while (found := self._next()) is not None:
            queue, waiter = found
            try:
                if not waiter.is_alive(self._look):
                    asleep.append(queue.put_aside())
                    continue
                seconds = self.pause or (self._rate.take() if self._rate is not None else 0.0)
                if seconds > 0:
                    self._look_after(seconds)
                    break
                waiter.decide()
            except RuntimeError:  # its event loop has just been closed
                queue.remove(waiter)
                continue
            queue.remove(waiter)
            self.in_flight += 1
        for entry in asleep:
            self._queue.put_back(entry)

    def _next(self) -> tuple[Queue, Waiter] | None:
        """Whose turn it is."""
        first = self._queue.first() if self.window.has_room(self.in_flight) else None
        other = self._without_room.first()
        if other is not None and (first is None or other < first):
            return self._without_room, other[-1]
        return None if first is None else (self._queue, first[-1])

    def _look_after(self, seconds: float) -> None:
        when = alarm.now() + seconds
        if self._alarm is None or self._alarm[0] > when:
            if self._alarm is not None:
                self._alarm[1]()
            self._alarm = when, alarm.call_after(seconds, self._look_at_alarm)

    def _look_at_alarm(self) -> None:
        with self.lock:
            self._alarm = None
            self._admit()

    def _look(self) -> None:
        with self.lock:
            self._admit()

    def after_fork(self) -> None:
        """Forget the calls of the parent process, which will never leave here."""
        self._reset()


_limiters: weakref.WeakSet[Limiter] = weakref.WeakSet()


def _after_fork() -> None:
    for limiter in list(_limiters):
        limiter.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
