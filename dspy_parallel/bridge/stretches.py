"""Watches the stretches of code that run between two awaits.

Each thread that runs programs has a slot that says since when the present stretch has been running. Writing it
costs two clock readings per stretch. All else is done by one watching thread, and only when a stretch has
become long: it notes where the stretch is, and for how long its thread then stands still.

*Standing still* is not the same as taking long. On a busy machine, or among many threads that want the GIL, every
stretch takes long. So time counts as blocked only from tick to tick, and only if in that tick the thread used no
CPU time while the watching thread, which has to get a CPU and the GIL just the same, was on time. Several such ticks
in a row are rare in a thread that waits for its turn, and the rule in one that waits for something else.
"""

from __future__ import annotations

import logging
import os
import sys
import sysconfig
import threading
import time
from dataclasses import dataclass
from types import FrameType

__all__ = ["Sighting", "Slot", "current_slot", "is_user_code", "was_on_time"]

logger = logging.getLogger("dspy_parallel")

TICK_SECONDS = 0.02
LATE_SECONDS = 0.01
"""A tick that came later than this proves nothing: the machine is too busy."""
IDLE_SHARE = 0.05
"""CPU time per tick that a thread may use and still count as standing still."""
LONG_SECONDS = 0.03
"""A stretch of this length is looked at."""
QUIET_TICKS = 100
"""Ticks without a stretch after which nobody watches any more, until the next one."""
STUCK_SECONDS = 2.0
"""A stretch of this length on an event loop is reported while it still runs."""

_NOT_USER_CODE = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_OWN_CODE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclass
class Sighting:
    """What the watching thread sees of a long stretch.

    Attributes:
        started: When the stretch began; tells it from others in the same thread.
        first_cpu: The thread's CPU time when it was first seen.
        last_cpu: The same when it was last seen.
        still: Seconds for which it has stood still now.
        blocked: Seconds for which it stood still at a time, at most.
    """

    started: float
    first_cpu: float
    last_cpu: float
    filename: str
    line: int
    function: str
    still: float = 0.0
    blocked: float = 0.0
    reported: bool = False

    @property
    def where(self) -> str:
        """File, line and function, for people."""
        return f"{self.filename}:{self.line} in {self.function}"


class Slot:
    """The stretch that runs in one thread now."""

    __slots__ = ("_clock", "last_long", "on_loop", "seen", "started", "thread")

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.started = 0.0  # perf_counter seconds; 0: no stretch is running
        self.last_long = 0.0  # the same: when the last long stretch that has ended had begun
        self.seen: Sighting | None = None
        self.on_loop = False
        try:
            # Here, in the thread itself: asking for the clock of a thread that has ended can crash the process.
            self._clock: int | None = time.pthread_getcpuclockid(threading.get_ident())
        except (AttributeError, OSError):
            self._clock = None

    @property
    def has_clock(self) -> bool:
        """Whether `cpu()` is this thread's alone."""
        return self._clock is not None

    def cpu(self) -> float:
        """CPU seconds used by the thread; by the whole process on platforms where threads cannot be asked."""
        if self._clock is not None:
            try:
                return time.clock_gettime(self._clock)
            except OSError:  # the thread has just ended
                pass
        return time.process_time()


def is_user_code(filename: str) -> bool:
    """Whether a file is neither the standard library's, nor an installed package's, nor ours."""
    return not filename.startswith(("<frozen", _OWN_CODE, *_NOT_USER_CODE))


def _culprit(frame: FrameType) -> FrameType:
    """The innermost frame of the user's own code, else the innermost of all."""
    candidate: FrameType | None = frame
    while candidate is not None:
        if is_user_code(candidate.f_code.co_filename):
            return candidate
        candidate = candidate.f_back
    return frame


def _sighting(slot: Slot, started: float, frame: FrameType) -> Sighting:
    culprit = _culprit(frame)
    code = culprit.f_code
    # co_qualname exists from Python 3.11 on.
    name: str = getattr(code, "co_qualname", code.co_name)
    cpu = slot.cpu()
    return Sighting(started, cpu, cpu, code.co_filename, culprit.f_lineno, name)


class _Watch:
    """One daemon thread for all slots; it sleeps when no program has run for a while."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._slots: dict[int, Slot] = {}
        self._lock = threading.Lock()
        self._running = False
        self._asleep = self._late = 0.0
        self.used = False

    def slot(self) -> Slot:
        """The calling thread's slot."""
        slot = getattr(_local, "slot", None)
        if slot is None:
            slot = _local.slot = Slot()
            with self._lock:
                self._slots[id(slot)] = slot
        self.used = True
        if not self._running:
            with self._lock:
                if not self._running:
                    self._running = True
                    self._asleep = time.perf_counter()
                    threading.Thread(target=self._look_out, name="dspy-parallel-watch", daemon=True).start()
        return slot

    def was_on_time(self, since: float) -> bool:
        """Whether the watching thread has had a CPU and the GIL whenever it wanted them, since a moment until now."""
        return self._late < since and time.perf_counter() - self._asleep < TICK_SECONDS + LATE_SECONDS

    def _look_out(self) -> None:
        quiet = 0
        while True:
            self._asleep = time.perf_counter()
            time.sleep(TICK_SECONDS)
            awake = time.perf_counter()
            tick = awake - self._asleep
            if tick >= TICK_SECONDS + LATE_SECONDS:
                self._late = awake
            with self._lock:
                slots = list(self._slots.items())
            busy = False
            frames: dict[int, FrameType] = {}
            for key, slot in slots:
                if slot.started:
                    busy = True
                    self._look_at(slot, tick, frames)
                elif not slot.thread.is_alive():
                    with self._lock:
                        self._slots.pop(key, None)
            quiet = 0 if busy or self.used else quiet + 1
            self.used = False
            if quiet > QUIET_TICKS:
                with self._lock:
                    if not self.used:
                        self._running = False
                        return

    def _look_at(self, slot: Slot, tick: float, frames: dict[int, FrameType]) -> None:
        now = time.perf_counter()
        started, seen = slot.started, slot.seen
        if not started or now - started < LONG_SECONDS:
            return
        if seen is None or seen.started != started:
            if not frames:
                frames.update(sys._current_frames())
            frame = frames.get(slot.thread.ident or 0)
            if frame is not None:
                seen = _sighting(slot, started, frame)
                if slot.started == started:
                    slot.seen = seen
            return
        cpu = slot.cpu()
        is_still = tick < TICK_SECONDS + LATE_SECONDS and cpu - seen.last_cpu < IDLE_SHARE * tick
        seen.still = seen.still + tick if is_still else 0.0
        seen.blocked = max(seen.blocked, seen.still)
        seen.last_cpu = cpu
        # Neither blocked nor computing, it waits for a CPU: the machine's fault, not the program's.
        explained = max(seen.blocked, cpu - seen.first_cpu) > STUCK_SECONDS / 4
        if slot.on_loop and not seen.reported and explained and now - started > STUCK_SECONDS:
            seen.reported = True
            logger.warning(
                "The event loop of thread %r has been blocked for %.1f s at %s. Nothing else on it can run. If that "
                "line waits for a lock which another program holds across an await, it waits forever: run the program "
                "with engine='thread'. If it does blocking I/O, decorate the function with offload.",
                slot.thread.name,
                now - started,
                seen.where,
            )

    def after_fork(self) -> None:
        """Threads and their slots exist only in the parent process."""
        self._reset()
        _local.__dict__.clear()


_local = threading.local()
_watch = _Watch()
current_slot = _watch.slot
was_on_time = _watch.was_on_time
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_watch.after_fork)
