"""Meters: they watch single runs of a program, and tell its placement what they see.

What counts as clean, as a sign and as a stall is said in `placement`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import FrameType

from .locks import HeldLock, held_locks, place_of, see_semaphores
from .placement import Placement
from .stretches import Sighting, Slot, current_slot, was_on_time

__all__ = ["LoopMeter", "ProbationMeter", "watch"]

CLEAN_SECONDS = 0.005
"""Unexplained time that a clean stretch may have."""
BLOCKED_SECONDS = 0.075
"""Time of standing still that is a sign of blocking: four ticks. With 20 busy threads and processes on two cores,
stretches that only waited for their turn stood still for up to 72 ms."""
BUSY_SECONDS = 0.1
"""CPU time in one stretch that is too long for an event loop."""
STALLED_SECONDS = 0.02
"""Unexplained time of a stretch on the loop that sends a program back on probation, if there is one in each run."""


def watch(placement: Placement | None) -> ProbationMeter | None:
    """A meter for a run in a worker thread, if it needs one."""
    if placement is None or not placement.is_to_be_watched:
        return None
    see_semaphores()
    return ProbationMeter(placement)


class LoopMeter:
    """Watches one run on the event loop; cheap enough for every stretch."""

    __slots__ = ("_clean", "_cpu", "_is_known", "_outer", "_placement", "_signs", "_slot", "_stall", "_started")

    def __init__(self, placement: Placement | None) -> None:
        self._placement = placement
        self._signs = placement.signs if placement is not None else 0
        self._clean = True
        self._cpu: float | None = None
        self._stall = ""
        self._is_known = True  # False: there was a long stretch, whose CPU time was not read

    def begin(self) -> None:
        """The program gets the loop's thread."""
        slot = self._slot = current_slot()
        slot.on_loop = True
        if self._placement is not None:
            self._cpu = time.thread_time() if self._placement.suspected else None
        self._outer = slot.started
        self._started = slot.started = time.perf_counter()

    def end(self) -> None:
        """The program lets go of it."""
        slot = self._slot
        wall = time.perf_counter() - self._started
        if wall >= STALLED_SECONDS:
            self._ran_long(wall)
        seen = slot.seen
        if seen is not None and seen.started == self._started:
            slot.seen = None
            self._clean = False
            if self._placement is not None:
                self._judge(self._placement, seen)
        slot.started = self._outer

    def _ran_long(self, wall: float) -> None:
        slot, placement = self._slot, self._placement
        is_another = slot.last_long >= self._started  # that of a program inside this one
        slot.last_long = self._started
        if placement is None or is_another:
            return
        if self._cpu is None:
            placement.suspected, self._is_known = True, False
            return
        cpu = time.thread_time() - self._cpu
        if wall - cpu >= max(STALLED_SECONDS, 2 * cpu) and was_on_time(self._started):
            seen = slot.seen
            where = f" at {seen.where}" if seen is not None and seen.started == self._started else ""
            self._stall, self._clean = f"stalled for {wall - cpu:.2f} s{where}", False

    def _judge(self, placement: Placement, seen: Sighting) -> None:
        if _stood_still(self._slot, seen):
            placement.blocked(self._signs, _blocked_text(time.perf_counter() - self._started, seen), seen)
        elif self._slot.has_clock and self._slot.cpu() - seen.first_cpu >= BUSY_SECONDS:
            reason = f"computed for over {BUSY_SECONDS:.1f} s without an await at {seen.where}"
            placement.blocked(self._signs, reason, seen)

    def finished(self) -> None:
        """The run has ended without an exception."""
        placement = self._placement
        if placement is None:
            return
        if self._stall:
            placement.ran_stalling(self._signs, self._stall)
        elif self._is_known:
            placement.ran_without_stalling()
        if self._clean:
            placement.ran_clean(self._signs)


class ProbationMeter:
    """Watches one run in a worker thread, to find out whether the loop could have carried it."""

    __slots__ = ("_clean", "_cpu", "_held", "_modules", "_place", "_placement", "_signs", "_slot", "_started", "_waits")

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._signs = placement.signs
        self._clean = True
        self._place: int | None = None
        self._held: Sequence[HeldLock] = ()
        placement.watched.add(self)

    def begin(self) -> None:
        """The program computes in its thread."""
        slot = self._slot = current_slot()
        slot.on_loop = False
        self._modules = len(sys.modules)
        self._waits = _waits()
        self._cpu = time.thread_time()
        self._started = slot.started = time.perf_counter()

    def end(self) -> None:
        """The program waits, or has ended."""
        slot = self._slot
        wall = time.perf_counter() - self._started
        cpu = time.thread_time() - self._cpu
        seen, slot.seen, slot.started = slot.seen, None, 0.0
        if wall - cpu <= CLEAN_SECONDS and cpu < BUSY_SECONDS and _waits() == self._waits:
            return
        self._clean = False
        imported = len(sys.modules) != self._modules
        if seen is not None and seen.started == self._started and _stood_still(slot, seen) and not imported:
            self._placement.blocked(self._signs, _blocked_text(wall, seen), seen)

    def waiting(self, frame: FrameType | None, until: FrameType | None) -> None:
        """The program is about to wait: see which locks it may hold. Called in its thread."""
        self.end()
        if not self._clean:
            return  # such a run promotes nobody, with or without locks
        place = place_of(frame, until)
        if self._placement.looks_at(place):
            self._place, self._held = place, held_locks(frame, until)

    def waited(self) -> None:
        """The program goes on. Somebody else's short use of a lock is over by now."""
        if self._place is not None:
            self._placement.no_longer_looks_at(self._place)
            held = next((lock for lock in self._held if lock.is_held), None)
            self._place, self._held = None, ()
            if held is not None:
                self._clean = False
                self._placement.blocked(self._signs, f"holds {held.where} while it waits")
        self.begin()

    def finished(self) -> None:
        """The run has ended without an exception."""
        if self._clean:
            self._placement.ran_clean(self._signs)
        else:
            self._placement.ran_unclean()

    def left(self) -> None:
        """The run has ended."""
        self._placement.watched.discard(self)


def _stood_still(slot: Slot, seen: Sighting) -> bool:
    # For twice as long as it computed: between its turns, a thread that computes stands still for a while too.
    return seen.blocked >= max(BLOCKED_SECONDS, 2 * (slot.cpu() - seen.first_cpu))


if sys.platform == "linux":
    import resource

    def _waits() -> int:
        """How often this thread has waited for something."""
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw

else:

    def _waits() -> int:
        """No other system counts that for each thread."""
        return 0


def _blocked_text(wall: float, seen: Sighting) -> str:
    return f"blocked its thread for {wall:.2f} s at {seen.where}"
