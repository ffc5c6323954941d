"""Where a program runs is decided by who starts it; this is the record of the decision.

Code in a thread of its own is always right: it is what Python does without an event loop. Code on the loop is right if
it neither blocks nor depends on its thread. So a record may change in one direction only, off the loop, and it does so
once: a program that came back would be right ten times and wrong the eleventh.

What makes it change is code that computes for long while all others on the loop wait. Finding out costs no thread: the
driver of a program reads a clock around each *slice*, which is what runs between two waits. Only a program of which a
slice has once taken long is suspected, and looked at for a while, so that the warning can name the line.
"""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from dataclasses import dataclass, field
from typing import Literal

from .display import Line, Shown
from .errors import BlockingWarning, UnknownEngineError
from .escapes import escaped
from .loop_monitor import LONG_SECONDS, LoopMonitor

__all__ = ["ON_LOOP", "PINNED_TO_LOOP", "PINNED_TO_THREAD", "Engine", "Placement", "SliceMeter", "check_engine"]

Engine = Literal["auto", "loop", "thread"]
ENGINES: tuple[Engine, ...] = ("auto", "loop", "thread")

LONG_RUNS = 3
"""After so many runs with a long slice a program leaves the loop."""
NEAR_RUNS = 30
"""Those that are further apart do not add up: a full garbage collection falls now into one run, now into another."""
LOOKS = 400
"""For so long, some 10 seconds, the loop is watched after a long slice."""

logger = logging.getLogger("dspy_parallel")
wall_seconds, cpu_seconds = time.perf_counter, time.thread_time


def check_engine(engine: str) -> None:
    """Refuse an unknown engine.

    Raises:
        UnknownEngineError: If it is none of `"auto"`, `"loop"`, `"thread"`.
    """
    if engine not in ENGINES:
        raise UnknownEngineError(f"engine={engine!r} is not known. Choose one of {', '.join(map(repr, ENGINES))}.")


@dataclass(eq=False)
class Placement(Shown):
    """Where one program runs, and why.

    Attributes:
        name: The program's name, for people.
        engine: `"loop"`: on the event loop's own thread. `"thread"`: in a thread of its own.
        reason: Why it needs a thread; empty if it is on the loop.
        filename: The file of the line that needs it, if it is one line.
        line: The line's number.
        is_fixed: Whether it is no program's own, and never changes.
        computes: Whether it has left the loop because it computes for long. Then its runs compute one at a time.
        suspicion: What is known of the program since a slice of it took long.
    """

    name: str
    engine: Literal["loop", "thread"]
    reason: str = ""
    filename: str = ""
    line: int = 0
    is_fixed: bool = field(default=False, repr=False)
    computes: bool = field(default=False, repr=False)
    suspicion: _Suspicion | None = field(default=None, repr=False)

    @property
    def state(self) -> Literal["loop", "thread"]:
        """The `engine`, by its former name."""
        warnings.warn("Placement.state is deprecated: it is called engine.", DeprecationWarning, stacklevel=2)
        return self.engine

    def pieces(self) -> Line:
        """Where, and why, for people."""
        if self.engine == "loop":
            return [("on the event loop", "good")]
        is_told = not self.filename or self.reason.endswith(f":{self.line}")
        place = "" if is_told else f" at {self.filename}:{self.line}"
        return [("in a thread", "blocked"), (escaped(f": {self.reason}{place}"), "")]

    def _lines(self) -> list[Line]:
        return [[(f"{escaped(self.name)}: ", "bold"), *self.pieces()]]

    def leave_loop(self, reason: str, filename: str, line: int) -> None:
        """Keep the program in threads from now on, and warn once."""
        if self.engine == "thread":
            return
        self.engine, self.reason, self.filename, self.line = "thread", reason, filename, line
        self.computes = True
        where = f" at {filename}:{line}" if filename else ""
        message = (
            f"{self.name} {reason}{where}. It runs in threads from now on instead of on the event loop. "
            "Decorate the function that computes with offload, or pin the program with engine='thread' to silence this "
            "warning."
        )
        try:
            warnings.warn_explicit(message, BlockingWarning, filename, line)
        except BlockingWarning:
            # Warnings are errors here, but a remark about speed must not replace anybody's result.
            logger.warning(message)


class _Suspicion:
    """What is known of a program since one of its slices took long."""

    def __init__(self) -> None:
        self._monitor = LoopMonitor(looks=LOOKS)
        self._where = "", 0
        self._long_runs = self._last = 0
        self.runs = 0

    def look(self) -> None:
        """Have the running loop looked at for a while."""
        if self._monitor.is_over:
            self._monitor = LoopMonitor(looks=LOOKS)
        self._monitor.watch(asyncio.get_running_loop())

    def add(self, placement: Placement, seconds: float) -> None:
        """Count a run that has computed for so long, before the loop goes on; with enough of them, it was the last."""
        self._where = self._monitor.where(asyncio.get_running_loop()) or self._where
        self._long_runs = self._long_runs + 1 if self.runs - self._last <= NEAR_RUNS else 1
        self._last = self.runs
        if self._long_runs < LONG_RUNS:
            self.look()
        elif placement.engine == "loop":
            self._monitor.stop()
            placement.leave_loop(f"computes for {seconds:.2f} s between two waits", *self._where)


class SliceMeter:
    """Measures the slices of one run on the loop.

    All slices take long on a busy machine, and none computes for long that did not take long. So a first long one only
    raises suspicion; after that the CPU time of the loop's thread counts, which takes longer to ask for.
    """

    __slots__ = ("_began", "_clock", "_is_counted", "_placement")

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._is_counted = False
        if placement.suspicion is not None:
            placement.suspicion.runs += 1

    def begin(self) -> None:
        """A slice begins."""
        self._clock = wall_seconds if self._placement.suspicion is None else cpu_seconds
        self._began = self._clock()

    def end(self) -> None:
        """It ends."""
        seconds = self._clock() - self._began
        if seconds < LONG_SECONDS or self._is_counted:
            return
        suspicion = self._placement.suspicion
        if suspicion is None:
            suspicion = self._placement.suspicion = _Suspicion()
            suspicion.look()
        elif self._clock is cpu_seconds:
            self._is_counted = True
            suspicion.add(self._placement, seconds)


# What is fixed for all programs that are started so. They are told apart by identity.

PINNED_TO_LOOP = Placement('engine="loop"', "loop", is_fixed=True)
"""The strict one: work that needs a thread is an error."""

PINNED_TO_THREAD = Placement('engine="thread"', "thread", 'it is pinned with engine="thread"', is_fixed=True)

ON_LOOP = Placement("async code", "loop", is_fixed=True)
"""For code that is known to belong there, above all async code; work that needs a thread gets one."""
