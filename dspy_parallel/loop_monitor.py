"""Finds the code that holds up an event loop: for `record()`, for the doctor, and for `engine="auto"`.

A thread looks at the threads of loops, again and again. If one is at work, it asks that loop for a sign of life; while
none comes, it looks at what the thread is doing. The same call of the same function in two looks in a row has blocked
the loop. Many short calls that make a loop late have not: then no two looks are alike. A loop that sleeps is left
alone.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

__all__ = ["LONG_SECONDS", "BlockedSlice", "LoopMonitor"]

LONG_SECONDS = 0.05
"""Whatever holds up a loop for less is left alone."""
LOOK_SECONDS = 0.025
LATE_SECONDS = 0.01
"""A look that comes later than this is late."""

_ASYNCIO = os.path.dirname(asyncio.__file__)
_NOT_USER_CODE = (
    "<frozen",
    os.path.dirname(os.path.abspath(__file__)),
    *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")},
)


@dataclass(eq=False)
class BlockedSlice:
    """For how long one call held up its loop, and the line at which it was seen last; `time.perf_counter()` seconds."""

    thread: int
    frame: FrameType | None
    start: float
    end: float
    looks: int = 0
    line: int = 0


class _Probe:
    """What is known of one loop, whose thread makes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, now: float) -> None:
        self.loop = loop
        self.thread = threading.get_ident()
        self.asked = self.answered = now
        self.slice: BlockedSlice | None = None
        self.cpu = 0.0
        try:
            # Here, in the thread itself: asking for the clock of a thread that has ended can crash the process.
            self._cpu_clock: int | None = time.pthread_getcpuclockid(self.thread)
        except (AttributeError, OSError):  # not on macOS and Windows
            self._cpu_clock = None

    def cpu_seconds(self) -> float:
        """CPU time of the loop's thread since it was last asked for."""
        try:
            now = 0.0 if self._cpu_clock is None else time.clock_gettime(self._cpu_clock)
        except OSError:  # the thread has just ended
            now = self.cpu
        used, self.cpu = now - self.cpu, now
        return used


class LoopMonitor:
    """Watches loops until it is stopped.

    Args:
        found: Called with what has blocked a loop, and its frame; in the monitor's thread.
        looks: After how many looks it stops by itself; by default never.
        clock: Seconds, for tests.
    """

    def __init__(
        self,
        found: Callable[[BlockedSlice, FrameType], None] | None = None,
        looks: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._found = found
        self._looks = looks
        self._clock = clock
        self._looked = clock()
        self._probes: dict[int, _Probe] = {}
        # Held until the end. Waiting for a lock takes a tenth of what waiting for an event does, 40 times a second; and
        # other than for time.sleep(), tests have no reason to patch it.
        self._going_on = threading.Lock()
        self._lock = threading.Lock()
        self.is_over = False
        self._thread: threading.Thread | None = None

    def add(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have `look()` look at the loop that runs in the calling thread, if it does not yet."""
        probe = self._probes.get(id(loop))
        if probe is not None and probe.loop is loop:
            return
        with self._lock:
            self._probes = {**self._probes, id(loop): _Probe(loop, self._clock())}

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch the loop that runs in the calling thread."""
        self.add(loop)
        with self._lock:
            if self._thread is None and not self.is_over:
                self._going_on.acquire()
                self._thread = threading.Thread(target=self._look_out, name="dspy-parallel-monitor", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Report what is going on, and look no more."""
        with self._lock:
            was_over, self.is_over = self.is_over, True
        if self._thread is not None:
            if not was_over:
                self._going_on.release()
            self._thread.join()

    def where(self, loop: asyncio.AbstractEventLoop) -> tuple[str, int] | None:
        """The file and line that hold up the loop, as far as seen; called by what holds it up, before it lets go."""
        probe = self._probes.get(id(loop))
        seen = None if probe is None else probe.slice
        frame = None if seen is None else seen.frame
        return None if seen is None or frame is None else (frame.f_code.co_filename, seen.line)

    def _look_out(self) -> None:
        for number in itertools.count():
            if number == self._looks:
                self.is_over = True
            if self.is_over or self._going_on.acquire(timeout=LOOK_SECONDS):
                break
            self.look()
        for probe in self._probes.values():
            # The block ends on a loop's own thread as a rule, and the loop has not had its turn since.
            self._close(probe, self._clock())

    def look(self) -> None:
        """Look once at each loop."""
        now = self._clock()
        is_late, self._looked = now - self._looked > LOOK_SECONDS + LATE_SECONDS, now
        for key, probe in list(self._probes.items()):
            if probe.loop.is_closed():
                self._close(probe, now)
                with self._lock:
                    self._probes = {k: p for k, p in self._probes.items() if k != key}
            else:
                self._look_at(probe, now, is_late)

    def _look_at(self, probe: _Probe, now: float, is_late: bool) -> None:
        if probe.answered >= probe.asked:
            self._close(probe, probe.answered)
            if not _is_asleep(sys._current_frames().get(probe.thread)):
                self._ask(probe, now)
            return
        if not probe.loop.is_running() or now - probe.asked < LOOK_SECONDS:
            return
        frame, cpu = _held_by(sys._current_frames().get(probe.thread)), probe.cpu_seconds()
        seen = probe.slice
        if seen is None or seen.frame is not frame:
            self._close(probe, now)
            start = probe.asked if seen is None else now
            seen = probe.slice = BlockedSlice(probe.thread, frame, start, now)
        seen.end = now
        if frame is not None:
            seen.line = frame.f_lineno
        # On a busy machine every slice takes long. This thread wants a CPU and the GIL just as the loop's does: a look
        # that comes late says nothing, unless it was the loop's thread that was at work.
        if not is_late or cpu > LOOK_SECONDS / 2:
            seen.looks += 1

    def _ask(self, probe: _Probe, now: float) -> None:
        def answer() -> None:
            probe.answered = self._clock()

        probe.asked = now
        probe.cpu_seconds()
        try:
            probe.loop.call_soon_threadsafe(answer)
        except RuntimeError:  # closed meanwhile
            pass

    def _close(self, probe: _Probe, end: float) -> None:
        seen, probe.slice = probe.slice, None
        if seen is None or self._found is None:
            return
        frame, seen.frame, seen.end = seen.frame, None, max(seen.end, end)
        if frame is not None and seen.looks > 1 and seen.end - seen.start >= LONG_SECONDS:
            self._found(seen, frame)


def _is_asleep(frame: FrameType | None) -> bool:
    """Whether the loop waits for something to do, as far as its thread's innermost call tells."""
    if frame is None:
        return True
    return frame.f_code.co_filename.endswith("selectors.py") or _is_loop(frame)


def _is_loop(frame: FrameType) -> bool:
    """Whether it is the loop itself, or, around a loop that is written in C, what runs it."""
    code = frame.f_code
    return code.co_name in ("run_forever", "_run_once", "run") and code.co_filename.startswith(_ASYNCIO)


def _held_by(frame: FrameType | None) -> FrameType | None:
    """The innermost call of the user's own code that the loop has made, else the innermost of any."""
    innermost = None
    while frame is not None:
        filename = frame.f_code.co_filename
        if _is_loop(frame):
            break
        if not filename.startswith(_NOT_USER_CODE):
            return frame
        if innermost is None and not filename.startswith(_ASYNCIO) and "selectors" not in filename:
            innermost = frame
        frame = frame.f_back
    return innermost
