"""Decides where a program runs under `engine="auto"`: in threads, or on the event loop.

A program that never blocks is best off on the loop; one that blocks there holds up everybody. Which kind it is
cannot be known beforehand, and guessing wrong is expensive in one direction only (a 200-way fan-out of a
blocking node took 40 s on the loop, 7 s in threads). So a program begins *on probation* in threads, as it would
run without this library. A few clean runs in a row promote it to the loop.

A run is *clean* if each of its stretches between two awaits is short, explained by the thread's own CPU time, and
gives up the CPU for nothing (the system counts that: programs that meet at a barrier wait for each other, though
not for long). A short stretch keeps the GIL from beginning to end, so this holds in a crowd of threads too.
Imports, the first use of something, or a thread starved by others make a run unclean, which proves nothing.

A *sign* of blocking is a stretch that stood still (see `stretches`), that computed for long on the loop, or a lock
held across an await (see `locks`). The first sign sends the program back on probation, for ten times as many
runs: it may have been the first use of something. The second one keeps it in threads for good. Runs that were
already under way at the last sign count neither for nor against, so that a crowd of them is one sign, not many.

Shorter stretches prove nothing one by one: on a busy machine every stretch may take some time. But a program that
stalls on the loop for some time in each of many runs in a row is sent back on probation, too, without a sign. If that
was the machine's fault, it is soon on the loop again.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import MethodType
from typing import Any, Literal

from ..errors import BlockingWarning
from .stretches import Sighting

__all__ = ["Placement", "placement_of"]

logger = logging.getLogger("dspy_parallel")

CLEAN_RUNS = 10
"""Clean runs in a row before a program is promoted to the loop."""
STALLED_RUNS = 20
"""Runs in a row with a stall on the loop after which a program is on probation again."""
SIGNS = 2
"""Signs of blocking that keep a program in threads."""
FORGIVEN_AFTER = 1000
"""Clean runs after which an earlier sign is forgotten."""
WATCHED_AT_ONCE = 20
"""Runs of one program on probation that are watched at the same time. Of a crowd a few tell enough, and to look for
held locks is not cheap: the others run as in plain threads."""
LOOKS = 100
"""How often it is looked for held locks where a program on probation waits, for each such place in it. One that is
never clean does not pay for that for good."""
LOOKS_AT_ONCE = 1
"""How many of those that wait at the same place at the same time are looked at: a look takes some milliseconds."""
MOST_PLACES = 1000
"""Places whose looks are counted; code that is made anew for each run has no end of them."""

State = Literal["probation", "loop", "thread"]

_lock = threading.Lock()


@dataclass
class Placement:
    """What has been learned about one program.

    Attributes:
        name: The program's name, for people.
        state: `"probation"` (in threads, being watched), `"loop"` or `"thread"`.
        reason: Why it was last taken off the loop, or kept off it, with file and line; empty if it never was.
        clean_runs: Clean runs since then; on probation, in a row.
        signs: Signs of blocking so far.
    """

    name: str
    state: State = "probation"
    reason: str = ""
    clean_runs: int = 0
    signs: int = 0
    suspected: bool = field(default=False, init=False, repr=False, compare=False)
    """Whether the CPU time of stretches on the loop is read, which is not for free: there was a long one."""
    _stalled_runs: int = field(default=0, init=False, repr=False, compare=False)
    watched: set[object] = field(default_factory=set[object], init=False, repr=False, compare=False)
    """Runs that are being watched in worker threads."""
    _looks: Counter[int] = field(default_factory=Counter, init=False, repr=False, compare=False)
    _looked_at: Counter[int] = field(default_factory=Counter, init=False, repr=False, compare=False)

    @property
    def is_to_be_watched(self) -> bool:
        """Whether one more run in a worker thread is to be watched."""
        return self.state == "probation" and len(self.watched) < WATCHED_AT_ONCE

    def looks_at(self, place: int) -> bool:
        """Whether to look for held locks at a place where the program waits; if so, until `no_longer_looks_at()`."""
        with _lock:
            if self.state != "probation" or self._looked_at[place] >= LOOKS_AT_ONCE or self._looks[place] >= LOOKS:
                return False
            if len(self._looks) >= MOST_PLACES:
                self._looks.clear()
            self._looks[place] += 1
            self._looked_at[place] += 1
            return True

    def no_longer_looks_at(self, place: int) -> None:
        """The wait is over."""
        with _lock:
            self._looked_at[place] -= 1
            self._looked_at += Counter()  # without those that are zero

    def ran_clean(self, signs: int) -> None:
        """Count a clean run that began when there had been so many signs of blocking."""
        if signs != self.signs:
            return
        self.clean_runs += 1
        if self.state == "probation" and self.clean_runs >= CLEAN_RUNS * 10**signs:
            self.state = "loop"
        if self.clean_runs >= FORGIVEN_AFTER:
            self.signs = 0

    def ran_without_stalling(self) -> None:
        """On the loop, that is."""
        self._stalled_runs, self.suspected = 0, False

    def ran_stalling(self, signs: int, reason: str) -> None:
        """Count a run on the loop in which a stretch took long for no other reason than waiting for something."""
        if signs != self.signs or self.state != "loop":
            return
        self._stalled_runs += 1
        if self._stalled_runs < STALLED_RUNS:
            return
        self._stalled_runs, self.suspected = 0, False
        self.clean_runs, self.reason = 0, f"{reason}, as in {STALLED_RUNS} runs in a row"
        self.state = "probation"
        self._looks.clear()
        logger.info("%s %s; it is on probation in worker threads.", self.name, self.reason)

    def ran_unclean(self) -> None:
        """Count from the beginning, on probation.

        Programs that wait for each other, at a barrier say, look clean when they come last: but not three in a row.
        """
        if self.state == "probation":
            self.clean_runs = 0

    def blocked(self, signs: int, reason: str, sighting: Sighting | None = None) -> None:
        """Note a sign of blocking in a run that began when there had been so many; the last one is said aloud."""
        with _lock:
            if signs != self.signs or self.state == "thread":
                return
            self.signs += 1
            self.clean_runs, self.reason = 0, reason
            self.state = "thread" if self.signs >= SIGNS else "probation"
            self._looks.clear()
        if self.state == "thread":
            self._warn(sighting)
        else:
            logger.info("%s %s; it is on probation in worker threads.", self.name, reason)

    def _warn(self, sighting: Sighting | None) -> None:
        message = (
            f"{self.name} {self.reason}. It runs in worker threads instead of on the event loop. Move the blocking "
            "call out, decorate it with offload, or pin the program with engine='thread' to silence this warning."
        )
        try:
            if sighting is None:
                warnings.warn(message, BlockingWarning, stacklevel=3)
            else:
                warnings.warn_explicit(message, BlockingWarning, sighting.filename, sighting.line)
        except BlockingWarning:
            # Warnings are errors here, but a remark about speed must not replace the program's result.
            logger.warning(message)


# By identity: two code objects are equal if they look the same, even in different files.
_placements: dict[int, tuple[weakref.ref[Any], Placement]] = {}


def placement_of(program: Callable[..., Any] | type) -> Placement:
    """What has been learned about a program.

    Args:
        program: A class whose instances are programs, or a function. Functions made anew from the same source
            line (lambdas, closures) count as one program; partials and decorated functions count as what they wrap.

    Returns:
        The program's record, which goes on changing as it runs.

    Example:
        ```python
        import asyncio
        from dspy_parallel import placement_of, run

        def program():
            return 1

        asyncio.run(run(program))
        assert placement_of(program).state == "probation"
        ```
    """
    key = _key(program)
    number = id(key)
    found = _placements.get(number)
    if found is None:
        try:
            alive = weakref.ref(key, lambda _: _placements.pop(number, None))
        except TypeError:  # no weak references: such a program is on probation forever
            return Placement(_name(program))
        found = _placements.setdefault(number, (alive, Placement(_name(program))))
    return found[1]


def _key(program: Any) -> Any:
    program = _unwrapped(program)
    if isinstance(program, type):
        return program
    return getattr(program, "__code__", None) or type(program)


def _unwrapped(program: Any) -> Any:
    while not isinstance(program, type):
        if isinstance(program, partial):
            program = program.func
        elif isinstance(program, MethodType):
            program = program.__func__
        elif (wrapped := getattr(program, "__wrapped__", None)) is not None:
            # Otherwise all functions with the same decorator would be one program.
            program = wrapped
        else:
            break
    return program


def _name(program: Any) -> str:
    program = _unwrapped(program)
    named = program if hasattr(program, "__qualname__") else type(program)
    return f"{named.__module__}.{named.__qualname__}"


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
