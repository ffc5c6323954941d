"""Decides where a program runs under `engine="auto"`: in threads, or on the event loop.

A program that never blocks is best off on the loop; one that blocks there holds up everybody. Which kind it is
cannot be known beforehand, and guessing wrong is expensive in one direction only (a 200-way fan-out of a
blocking node took 40 s on the loop, 7 s in threads). So a program begins *on probation* in threads, as it would
run without this library. A few runs without blocking promote it to the loop; a stretch that blocks keeps it in
threads for good, or sends it back there.

The evidence, per stretch between two awaits:

- *clean*: the wall-clock time is explained by the thread's own CPU time, and both are short. A short stretch
  keeps the GIL from beginning to end, so this holds in a crowd of threads too.
- *blocking*: the time passed while the whole process was idle.
- otherwise no verdict: imports, the first use of something, or a thread starved by others.

A lock held across an await (see `locks`) counts as blocking.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType, MethodType
from typing import Any, Literal

from ..errors import BlockingWarning
from .locks import held_lock
from .stretches import Sighting, current_slot

__all__ = ["LoopMeter", "Placement", "ProbationMeter", "placement_of"]

logger = logging.getLogger("dspy_parallel")

CLEAN_RUNS = 3
"""Clean runs before a program is promoted to the loop."""
CLEAN_SECONDS = 0.005
"""Unexplained time that a clean stretch may have."""
BLOCKED_SECONDS = 0.02
"""Idle time that proves a stretch to be blocking."""
BUSY_SECONDS = 0.1
"""CPU time in one stretch that is too long for an event loop."""

State = Literal["probation", "loop", "thread"]


@dataclass
class Placement:
    """What has been learned about one program.

    Attributes:
        name: The program's name, for people.
        state: `"probation"` (in threads, being watched), `"loop"` or `"thread"`.
        reason: Why it is in threads, with file and line; empty otherwise.
        clean_runs: Runs without a sign of blocking so far.
        busy_stretches: Stretches that computed for too long on the loop.
    """

    name: str
    state: State = "probation"
    reason: str = ""
    clean_runs: int = 0
    busy_stretches: int = 0

    def ran_clean(self) -> None:
        self.clean_runs += 1
        if self.state == "probation" and self.clean_runs >= CLEAN_RUNS:
            self.state = "loop"

    def blocked(self, reason: str, sighting: Sighting | None = None) -> None:
        """Keep the program in threads from now on, and say so once."""
        if self.state == "thread":
            return
        self.state, self.reason = "thread", reason
        message = (
            f"{self.name} {reason}. It runs in worker threads instead of on the event loop. Move the blocking call "
            "out, decorate it with offload, or pin the program with engine='thread' to silence this warning."
        )
        try:
            if sighting is None:
                warnings.warn(message, BlockingWarning, stacklevel=2)
            else:
                warnings.warn_explicit(message, BlockingWarning, sighting.filename, sighting.line)
        except BlockingWarning:
            # Warnings are errors here, but a remark about speed must not replace the program's result.
            logger.warning(message)


_placements: weakref.WeakKeyDictionary[Any, Placement] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def placement_of(program: Callable[..., Any] | type) -> Placement:
    """What has been learned about a program.

    Args:
        program: A class whose instances are programs, or a function. Functions made anew from the same source
            line (lambdas, closures) count as one program; partials count as what they wrap.
    """
    key = _key(program)
    try:
        placement = _placements.get(key)
    except TypeError:  # no weak references: such a program is on probation forever
        return Placement(_name(program))
    if placement is None:
        with _lock:
            placement = _placements.setdefault(key, Placement(_name(program)))
    return placement


def _key(program: Any) -> CodeType | type | Any:
    while hasattr(program, "func"):  # functools.partial
        program = program.func
    if isinstance(program, MethodType):
        program = program.__func__
    if isinstance(program, type):
        return program
    return getattr(program, "__code__", None) or type(program)


def _name(program: Any) -> str:
    named = program if hasattr(program, "__qualname__") else type(program)
    return f"{named.__module__}.{named.__qualname__}"


class LoopMeter:
    """Watches one run on the event loop; cheap enough for every stretch."""

    __slots__ = ("_outer", "_placement", "_slot", "_started")

    def __init__(self, placement: Placement | None) -> None:
        self._placement = placement
        self._slot = current_slot()
        self._slot.on_loop = True
        self._outer = self._started = 0.0

    def begin(self) -> None:
        slot = self._slot
        self._outer = slot.started
        self._started = slot.started = time.perf_counter()

    def end(self) -> None:
        slot = self._slot
        seen = slot.seen
        if seen is not None:
            slot.seen, slot.reported = None, False
            if self._placement is not None and seen.at >= self._started:
                self._judge(self._placement, seen)
        slot.started = self._outer

    def _judge(self, placement: Placement, seen: Sighting) -> None:
        idle = _idle_since(seen)
        if idle >= BLOCKED_SECONDS:
            placement.blocked(_blocked_text(time.perf_counter() - self._started, seen), seen)
        elif seen.thread_cpu is not None and time.thread_time() - seen.thread_cpu >= BUSY_SECONDS:
            placement.busy_stretches += 1
            if placement.busy_stretches > 1:  # once may be the first use of something
                placement.blocked(f"computed for over {BUSY_SECONDS:.1f} s without an await at {seen.where}", seen)


class ProbationMeter:
    """Watches one run in a worker thread, to find out whether the loop could have carried it."""

    __slots__ = ("_clean", "_cpu", "_modules", "_placement", "_root", "_slot", "_started")

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._clean = True

    def begin(self) -> None:
        slot = self._slot = current_slot()
        self._modules = len(sys.modules)
        self._cpu = time.thread_time()
        self._started = slot.started = time.perf_counter()

    def end(self) -> None:
        slot = self._slot
        wall = time.perf_counter() - self._started
        cpu = time.thread_time() - self._cpu
        seen, slot.seen, slot.started = slot.seen, None, 0.0
        if wall - cpu <= CLEAN_SECONDS and cpu < BUSY_SECONDS:
            return
        self._clean = False
        imported = len(sys.modules) != self._modules
        if seen is not None and seen.at >= self._started and not imported and _idle_since(seen) >= BLOCKED_SECONDS:
            self._placement.blocked(_blocked_text(wall, seen), seen)

    def waiting(self, frame: FrameType | None, until: FrameType | None) -> None:
        """Look for held locks; called in the program's thread when it is about to wait."""
        if self._placement.state == "probation":
            held = held_lock(frame, until)
            if held is not None:
                self._clean = False
                self._placement.blocked(f"holds {held} while it waits")

    def finished(self) -> None:
        if self._clean:
            self._placement.ran_clean()


def _idle_since(seen: Sighting) -> float:
    """Seconds since the sighting in which nobody in this process computed."""
    return time.perf_counter() - seen.at - (time.process_time() - seen.process_cpu)


def _blocked_text(wall: float, seen: Sighting) -> str:
    return f"blocked its thread for {wall:.2f} s at {seen.where}"
