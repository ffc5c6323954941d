"""What a test must not leave behind: threads at work, pending tasks, suspended programs."""

from __future__ import annotations

import gc
import sys
import threading
import time
from types import FrameType

from greenlet import getcurrent, greenlet

left_pending: list[str] = []
"""Tasks that `run_on` found pending when its coroutine function had returned."""

SERVICES = ("dspy-parallel-alarm", "dspy-parallel-loop", "dspy-parallel-monitor", "pytest_timeout")
"""Threads that exist once per process and stay."""

_WAITING = ("threading.py", "queue.py", "selectors.py")
_IDLE = (
    ("dspy_parallel/thread_pool.py", "run"),
    ("concurrent/futures/thread.py", "_worker"),
    ("anyio/_backends/_asyncio.py", "run"),
)


def _is_idle(frame: FrameType | None) -> bool:
    """Whether a thread with this innermost frame waits in its pool for work."""
    if frame is None:
        return True  # it has not run any Python code yet, or no longer does
    while frame is not None and frame.f_code.co_filename.replace("\\", "/").endswith(_WAITING):
        frame = frame.f_back
    if frame is None:
        return False
    filename = frame.f_code.co_filename.replace("\\", "/")
    return any(filename.endswith(file) and frame.f_code.co_name == name for file, name in _IDLE)


def busy_threads() -> set[threading.Thread]:
    """Threads that are neither idle in a pool nor a service of the process."""
    frames = sys._current_frames()
    return {
        thread
        for thread in threading.enumerate()
        if thread is not threading.current_thread()
        and not thread.name.startswith(SERVICES)
        and not _is_idle(frames.get(thread.ident or 0))
    }


def live_programs() -> list[greenlet]:
    """Greenlets that were started and have not finished, other than the caller's own and each thread's main one."""
    gc.collect()
    # type() and not isinstance(): the latter asks lazy module proxies for their class, and so imports them.
    greenlets = [found for found in gc.get_objects() if issubclass(type(found), greenlet)]
    return [found for found in greenlets if found and found.parent is not None and found is not getcurrent()]


def check(before: set[threading.Thread], *, patience: float = 30.0) -> None:
    """Fail if something was left behind; threads get `patience` seconds to finish what they are at."""
    deadline = time.monotonic() + patience
    while (threads := busy_threads() - before) and time.monotonic() < deadline:
        next(iter(threads)).join(0.02)
    assert not threads, f"threads still at work: {sorted(thread.name for thread in threads)}"
    tasks = left_pending.copy()
    left_pending.clear()
    assert not tasks, f"tasks left pending: {tasks}"
    programs = live_programs()
    assert not programs, f"programs left suspended: {[(program, program.gr_frame) for program in programs]}"
