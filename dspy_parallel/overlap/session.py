"""One run of a program with a scout ahead of it, and the calls that the two share.

There are two sides. The *main line* is the program itself; it runs unchanged. The *scout* makes some of the same
calls, early. When a side begins a call that the other has made or is making, with equal inputs, the two are paired:
first made, first paired. A scout that comes second waits for the main line's result and does nothing itself. A main
line that comes second does all that it would do alone, but at the LM's wire, where it would send a request, it takes
the reply to the scout's equal one (see `wire`).
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
import types
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import dspy

from .inert import CONTAINERS, RECORDS, is_box
from .outside import private_copy
from .strands import Path, Pending

if TYPE_CHECKING:
    from .guesses import Guess

__all__ = ["Call", "Flight", "Session", "Side", "current"]


PATIENCE = 8
"""Turns of the loop before the scout looks at a result of the main line's: until the next request has been sent."""


@dataclass(eq=False)
class Flight:
    """One request at the LM's wire.

    Attributes:
        request: What was asked, to compare by value.
        issuer: The side that sent it.
        result: Its outcome.
        usage: What it cost, as DSPy before 3.3 accounts for it at the wire.
    """

    request: Any
    issuer: Side
    result: asyncio.Future[Any]
    usage: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    traceback: types.TracebackType | None = None


Side = Literal["main", "scout"]


@dataclass(eq=False)
class Call:
    """One call of a predictor or of a function that is declared pure, by one side.

    Attributes:
        side: Who made it.
        target: What was called.
        inputs: With what: keyword arguments, or a tuple of both kinds.
        manner: What else the request is made of: LM, adapter, demos, configuration.
        cause: The call that it had to wait for, if the scout made it.
        path: Its place in program order, if the scout made it.
        place: Where in the source: file and line.
        twin: The other side's call, once they are paired.
        flights: The requests that it has made at the wire, shared with the twin.
        position: How many of them this side has made or taken.
        outcome: The result, for the scout.
        guess: The side of an undecided branch for which it was made.
        guessed: The result, for whoever follows that side.
        task: The scout's work on it.
        came_second: Whether the other side had made it already.
        is_issued: Whether the scout makes it, instead of waiting for the main line to make it.
        is_whole: Whether it is that of a module that is declared pure: its predictors' calls are paired, not itself.
        has_diverged: Whether the two sides' requests turned out to be different.
        was_cancelled: Whether it was cancelled in flight.
        result: What the function or, on the main line, the predictor returned.
        failure: What it raised.
        has_ended: Whether it has returned or raised.
        began: When it was made.
        ended: When it was done.
    """

    side: Side
    target: Any
    inputs: Any
    manner: Any = ()
    path: Path = ()
    place: tuple[str, int] | None = None
    cause: Call | None = None
    twin: Call | None = None
    flights: list[Flight] = field(default_factory=list)
    position: int = 0
    outcome: Pending | None = None
    guess: Guess | None = None
    guessed: Pending | None = None
    task: asyncio.Task[Any] | None = None
    came_second: bool = False
    is_issued: bool = False
    is_whole: bool = False
    has_diverged: bool = False
    was_cancelled: bool = False
    result: Any = None
    failure: BaseException | None = None
    has_ended: bool = False
    began: float = field(default_factory=time.perf_counter)
    ended: float = 0.0


class Current(NamedTuple):
    """In which session, on which side and in which call the running code is."""

    session: Session
    side: Side
    call: Call | None


current: contextvars.ContextVar[Current | None] = contextvars.ContextVar("dspy_parallel_overlap", default=None)


class Session:
    """What main line and scout share."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.is_closed = False
        self.began = self.ended = time.perf_counter()
        self.notes_places = False
        self.calls: list[Call] = []
        self.guesses: list[Call] = []
        """Those made for undecided branches that the scout has not come to."""
        self._left: list[Call] = []
        """Those that the scout does not make, for `would_overtake()`."""
        self._open: dict[tuple[Side, int], list[Call]] = {}
        self._mains_ahead = 0
        self._held: Call | None = None
        """The call that the main line is in."""
        self._lock = threading.Lock()
        self.on_result: Callable[[Pending, Any], None] = lambda pending, value: None
        self.on_failure: Callable[[Path, BaseException, Any], None] = lambda path, exc, place: None

    def begin(self, call: Call) -> Call:
        """Enter a call, and pair it if the other side has its twin. Gives the call, or a guess in its place."""
        if call.is_whole:
            self.calls.append(call)
            return call
        other: Side = "scout" if call.side == "main" else "main"
        with self._lock:
            if call.side == "main":
                self._held = call
            waiting = self._open.get((other, id(call.target)), [])
            # A call that is being cancelled, because the program might never come to it, has no reply to take.
            twins = [twin for twin in waiting if not twin.was_cancelled and _is_same_call(twin, call)]
            guess = None if twins else self._guess_like(call)
            if guess is not None and call.side == "scout":
                return self._take(guess, call)
            self.calls.append(call)
            if not call.is_issued:
                self._left.append(call)
            if guess is not None:
                self._mains_ahead += 1  # the scout has not come to it
                call.twin, guess.twin, call.flights, call.came_second = guess, call, guess.flights, True
                return call
            if not twins:
                self._mains_ahead += call.side == "main"
                self._open.setdefault((call.side, id(call.target)), []).append(call)
                return call
            twin = min(twins, key=lambda call: call.path) if other == "scout" else twins[0]
            waiting.remove(twin)
            self._mains_ahead -= twin.side == "main"
            call.twin, twin.twin, call.came_second = twin, call, True
        if twin.is_issued or call.is_issued:
            call.flights = twin.flights
        if twin.has_ended and call.side == "scout":
            self._tell(twin, call)
        return call

    # Guesses

    def suppose(self, call: Call) -> Call | None:
        """Enter a call for an undecided branch.

        Gives the call, an earlier guess in its place, or None if the program has come to an equal one itself.
        """
        with self._lock:
            if any(_is_same_call(main, call) for main in self._open.get(("main", id(call.target)), [])):
                return None
            for known in self.guesses:
                if known.guess is not None and known.guess.is_settled and _is_like(known, call):
                    known.guess = call.guess
                    return known
            self.calls.append(call)
            self.guesses.append(call)
            return call

    def refuse(self, guess: Guess) -> None:
        """The program does not take this side."""
        with self._lock:
            for call in [call for call in self.guesses if call.guess is not None and call.guess.is_within(guess)]:
                if call.twin is None:
                    self.guesses.remove(call)
                    self._cancel(call)

    def _guess_like(self, call: Call) -> Call | None:
        for guess in self.guesses:
            if _is_like(guess, call) and (call.side == "scout" or guess.twin is None):
                return guess
        return None

    def _take(self, guess: Call, call: Call) -> Call:
        self.guesses.remove(guess)
        guess.path, guess.place, guess.outcome = call.path, call.place, call.outcome
        if guess.twin is None:
            self._open.setdefault(("scout", id(guess.target)), []).append(guess)
        else:
            self._mains_ahead -= 1
        return guess

    def end(self, call: Call, result: Any = None, failure: BaseException | None = None) -> None:
        """Note the main line's result for the scout, which also learns of a failure that it had no part in."""
        with self._lock:
            self._held = None
            call.ended = time.perf_counter()
            call.result, call.failure, call.has_ended = private_copy(result), failure, True
            twin = call.twin
        if twin is not None and (failure is not None or not twin.is_issued):
            self._tell(call, twin)

    def _tell(self, main: Call, scout: Call) -> None:
        def tell(turns: int = PATIENCE) -> None:
            if self.is_closed or scout.outcome is None:
                return
            if turns and main.failure is None:
                self.loop.call_soon(tell, turns - 1)
                return
            if main.failure is not None:
                self.on_failure(scout.path, main.failure, scout.place)
            else:
                self.on_result(scout.outcome, main.result)

        # On the loop's own thread, and later: now, it is the main line's turn.
        self.loop.call_soon_threadsafe(tell)

    def would_overtake(self, call: Call) -> bool:
        """Whether an equal call, of the same predictor or another, comes before and is left to the main line."""
        with self._lock:
            self._left = [other for other in self._left if _is_left(other)]
            return any(not _is_twin_to_be(other, call) and _is_same_call(other, call) for other in self._left)

    def is_held_before(self, path: Path) -> bool:
        """Whether the main line is in a call that comes before a place, so that it has not passed that."""
        held = self._held
        return self._mains_ahead == 0 and held is not None and held.twin is not None and held.twin.path < path

    def cancel(self, is_unwanted: Callable[[Path], bool]) -> None:
        """Cancel those of the scout's calls that the main line has not come to, by their places."""
        for call in self.calls:
            is_own = call.is_issued and (call.outcome is not None or call.guessed is not None)
            is_over = call.task is not None and call.task.done()
            if is_own and not is_over and call.twin is None and is_unwanted(call.path):
                self._cancel(call)

    @staticmethod
    def _cancel(call: Call) -> None:
        call.was_cancelled = call.task is None or not call.task.done()
        if call.task is not None:
            call.task.cancel()

    def close(self) -> None:
        """The program has ended."""
        self.is_closed = True
        self.ended = time.perf_counter()
        for call in self.calls:
            if call.task is not None and not call.task.done():
                call.task.cancel()
                call.was_cancelled = call.twin is None


def _is_like(guess: Call, call: Call) -> bool:
    return guess.target is call.target and not guess.was_cancelled and _is_same_call(guess, call)


def _is_left(call: Call) -> bool:
    """Whether the main line has yet to make it, or is about to."""
    return not (call.has_ended or (call.twin is not None and (call.twin.has_ended or call.twin.is_issued)))


def _is_twin_to_be(main: Call, call: Call) -> bool:
    return main.side == "main" and main.twin is None and main.target is call.target


def _is_same_call(one: Call, other: Call) -> bool:
    try:
        is_alike = one.inputs.keys() == other.inputs.keys() if isinstance(one.inputs, dict) else True
        if is_alike and isinstance(one.inputs, dict):  # in whatever order they are given
            is_alike = all(_is_same(value, other.inputs[name]) for name, value in one.inputs.items())
        else:
            is_alike = is_alike and _is_same(one.inputs, other.inputs)
        return is_alike and _is_same(one.manner, other.manner)
    except Exception:  # arrays and the like; then they are not known to be equal
        return False


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are not only equal, but look the same to an LM: of the same types, in the same order."""
    cls = type(one)
    if one is other:
        return True
    if cls is not type(other):
        return False
    if cls is type(dspy.Signature):
        return bool(one.equals(other)) and _types(one) == _types(other)
    if cls is float:
        return repr(one) == repr(other)
    if isinstance(one, dict):
        return len(one) == len(other) and all(map(_is_same, _flat(one), _flat(other)))
    if isinstance(one, (list, tuple, deque)):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if cls in RECORDS:
        return _is_same(one._store, other._store)
    if cls not in CONTAINERS and is_box(cls):
        return _is_same(vars(one), vars(other))
    return bool(one == other)


def _types(signature: type[dspy.Signature]) -> list[tuple[str, Any]]:
    return [(name, field.annotation) for name, field in signature.fields.items()]


def _flat(table: dict[Any, Any]) -> list[Any]:
    return [part for item in table.items() for part in item]
