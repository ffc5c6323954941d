"""Finds the code that holds up an event loop while something is recorded.

A thread looks at each loop's thread, again and again. If that is at work, it asks the loop for a sign of life; while
none comes, it looks at what the thread is doing. The same call of the same function in two looks in a row is a blocked
stretch. Many short ones that make a loop late are not: then no two looks are alike. A loop that sleeps is left alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

from ..bridge.stretches import is_user_code

__all__ = ["BLOCKED_SECONDS", "BlockedStretch", "LoopWatch"]

TICK_SECONDS = 0.025
BLOCKED_SECONDS = 0.05
"""Shorter stretches are not shown."""

_ASYNCIO = os.path.dirname(asyncio.__file__)


@dataclass(eq=False)
class BlockedStretch:
    """For how long, and at which line, one call held up its loop; `time.perf_counter()` seconds."""

    thread: int
    frame: FrameType | None
    start: float
    end: float
    looks: int = 0
    lines: Counter[int] = field(default_factory=Counter[int])

    @property
    def is_one(self) -> bool:
        """Whether it was seen twice, and for long enough."""
        return self.looks > 1 and self.end - self.start >= BLOCKED_SECONDS


class _Pulse:
    """What is known of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        self.loop = loop
        self.thread = thread
        self.asked = self.answered = time.perf_counter()
        self.stretch: BlockedStretch | None = None

    def ask(self) -> None:
        self.asked = time.perf_counter()
        try:
            self.loop.call_soon_threadsafe(self.answer)
        except RuntimeError:  # closed meanwhile
            pass

    def answer(self) -> None:
        self.answered = time.perf_counter()


class LoopWatch:
    """Watches loops until it is stopped.

    Args:
        found: Called with each blocked stretch, in the watching thread.
    """

    def __init__(self, found: Callable[[BlockedStretch, FrameType, int], None]) -> None:
        self._found = found
        self._pulses: dict[int, _Pulse] = {}
        # Held until the end. Waiting for a lock takes a tenth of what waiting for an event does, 40 times a second.
        self._going_on = threading.Lock()
        self._lock = threading.Lock()
        self._is_over = False
        self._thread: threading.Thread | None = None

    def knows(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the loop is being watched."""
        pulse = self._pulses.get(id(loop))
        return pulse is not None and pulse.loop is loop

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch the loop that runs in the calling thread."""
        with self._lock:
            self._pulses = {**self._pulses, id(loop): _Pulse(loop, threading.get_ident())}
            if self._thread is None and not self._is_over:
                self._going_on.acquire()
                self._thread = threading.Thread(target=self._look_out, name="dspy-parallel-timeline", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Report what is going on, and look no more."""
        with self._lock:
            self._is_over = True
        if self._thread is not None:
            self._going_on.release()
            self._thread.join()

    def _look_out(self) -> None:
        while not self._going_on.acquire(timeout=TICK_SECONDS):
            for key, pulse in list(self._pulses.items()):
                if pulse.loop.is_closed():
                    self._close(pulse, time.perf_counter())
                    with self._lock:
                        self._pulses = {k: p for k, p in self._pulses.items() if k != key}
                else:
                    self._look_at(pulse)
        for pulse in self._pulses.values():
            # The block ends on a loop's own thread as a rule, and the loop has not had its turn since.
            self._close(pulse, time.perf_counter())

    def _look_at(self, pulse: _Pulse) -> None:
        if pulse.answered >= pulse.asked:
            self._close(pulse, pulse.answered)
            if not _is_asleep(sys._current_frames().get(pulse.thread)):
                pulse.ask()
            return
        now = time.perf_counter()
        if not pulse.loop.is_running() or now - pulse.asked < TICK_SECONDS:
            return
        frame = _held_by(sys._current_frames().get(pulse.thread))
        stretch = pulse.stretch
        if stretch is None or stretch.frame is not frame:
            self._close(pulse, now)
            start = pulse.asked if stretch is None else now
            stretch = pulse.stretch = BlockedStretch(pulse.thread, frame, start, now)
        stretch.end = now
        stretch.looks += 1
        if frame is not None:
            stretch.lines[frame.f_lineno] += 1

    def _close(self, pulse: _Pulse, end: float) -> None:
        stretch, pulse.stretch = pulse.stretch, None
        if stretch is not None:
            frame, stretch.frame, stretch.end = stretch.frame, None, max(stretch.end, end)
            if frame is not None and stretch.is_one:
                self._found(stretch, frame, stretch.lines.most_common(1)[0][0])


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
        if is_user_code(filename):
            return frame
        if innermost is None and not filename.startswith(_ASYNCIO) and "selectors" not in filename:
            innermost = frame
        frame = frame.f_back
    return innermost
