"""Watches the stretches of code that run between two awaits.

Each thread that runs programs has a slot that says since when the present stretch has been running. Writing it
costs two clock readings per stretch. All else is done by one watching thread, and only when a stretch has
become long: it notes where the stretch is and how much CPU time the thread and the process have used, so that
at the stretch's end one can tell *blocked* (the time went by while the whole process was idle) from *busy* (the
thread computed) and from *starved* (others computed while this thread waited for the GIL: no verdict).
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

__all__ = ["Sighting", "Slot", "current_slot"]

logger = logging.getLogger("dspy_parallel")

TICK_SECONDS = 0.02
LONG_SECONDS = 0.03
"""A stretch of this length is looked at."""
STUCK_SECONDS = 2.0
"""A stretch of this length on an event loop is reported while it still runs."""

_NOT_USER_CODE = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_OWN_CODE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclass(frozen=True)
class Sighting:
    """What the watching thread saw of a long stretch."""

    at: float
    thread_cpu: float | None
    process_cpu: float
    filename: str
    line: int
    function: str

    @property
    def where(self) -> str:
        return f"{self.filename}:{self.line} in {self.function}"


class Slot:
    """The stretch that runs in one thread now."""

    __slots__ = ("__weakref__", "on_loop", "reported", "seen", "started", "thread")

    def __init__(self, thread: threading.Thread) -> None:
        self.thread = thread
        self.started = 0.0  # perf_counter seconds; 0: no stretch is running
        self.seen: Sighting | None = None
        self.on_loop = False
        self.reported = False


def _thread_cpu(ident: int | None) -> float | None:
    try:
        return time.clock_gettime(time.pthread_getcpuclockid(ident or 0))
    except (AttributeError, OSError):  # not on this platform, or the thread has just ended
        return None


def _culprit(frame: FrameType) -> FrameType:
    """The innermost frame of the user's own code, else the innermost of all."""
    candidate: FrameType | None = frame
    while candidate is not None:
        filename = candidate.f_code.co_filename
        if not filename.startswith(("<frozen", *_NOT_USER_CODE)) and not filename.startswith(_OWN_CODE):
            return candidate
        candidate = candidate.f_back
    return frame


class _Watch:
    """One daemon thread for all slots; it sleeps when no program has run for a while."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._slots: dict[int, Slot] = {}
        self._lock = threading.Lock()
        self._running = False
        self.used = False

    def slot(self) -> Slot:
        """The calling thread's slot."""
        slot = getattr(_local, "slot", None)
        if slot is None:
            slot = _local.slot = Slot(threading.current_thread())
            with self._lock:
                self._slots[id(slot)] = slot
        self.used = True
        if not self._running:
            with self._lock:
                if not self._running:
                    self._running = True
                    threading.Thread(target=self._look_out, name="dspy-parallel-watch", daemon=True).start()
        return slot

    def _look_out(self) -> None:
        quiet = 0
        while True:
            time.sleep(TICK_SECONDS)
            with self._lock:
                slots = list(self._slots.items())
            busy = False
            frames: dict[int, FrameType] = {}
            for key, slot in slots:
                if slot.started:
                    busy = True
                    self._look_at(slot, frames)
                elif not slot.thread.is_alive():
                    with self._lock:
                        self._slots.pop(key, None)
            quiet = 0 if busy or self.used else quiet + 1
            self.used = False
            if quiet > 100:
                with self._lock:
                    if not self.used:
                        self._running = False
                        return

    def _look_at(self, slot: Slot, frames: dict[int, FrameType]) -> None:
        now = time.perf_counter()
        started = slot.started
        if not started or now - started < LONG_SECONDS:
            return
        if slot.seen is None:
            if not frames:
                frames.update(sys._current_frames())
            frame = frames.get(slot.thread.ident or 0)
            if frame is None:
                return
            culprit = _culprit(frame)
            code = culprit.f_code
            sighting = Sighting(
                now,
                _thread_cpu(slot.thread.ident),
                time.process_time(),
                code.co_filename,
                culprit.f_lineno,
                code.co_qualname if sys.version_info >= (3, 11) else code.co_name,
            )
            if slot.started == started:
                slot.seen = sighting
        elif slot.on_loop and not slot.reported and now - started > STUCK_SECONDS:
            slot.reported = True
            logger.warning(
                "The event loop of thread %r has been blocked for %.1f s at %s. Nothing else on it can run. If that "
                "line waits for a lock which another program holds across an await, it waits forever: run the program "
                "with engine='thread'. If it does blocking I/O, decorate the function with offload.",
                slot.thread.name,
                now - started,
                slot.seen.where,
            )

    def after_fork(self) -> None:
        """Threads and their slots exist only in the parent process."""
        self._reset()
        _local.__dict__.clear()


_local = threading.local()
_watch = _Watch()
current_slot = _watch.slot
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_watch.after_fork)
