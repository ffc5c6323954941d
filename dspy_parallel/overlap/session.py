"""One run of a program with a scout ahead of it, and the calls that the two share.

There are two sides. The *main line* is the program itself; it runs unchanged. The *scout* makes some of the same
calls, early. When a side begins a call that the other has made or is making, with equal inputs, the two are paired:
first made, first paired. A scout that comes second waits for the main line's result and does nothing itself. A main
line that comes second does all that it would do alone, but at the LM's transport, where it would send a request, it
takes the reply to the scout's equal one (see `request_sharing`).
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
from typing import Any, Literal, NamedTuple

import dspy

from ..analysis.trusted_types import CONTAINERS, RECORDS, is_box
from .runtime.snapshot import private_copy
from .runtime.thunks import Pending, ProgramPoint

__all__ = ["PATIENCE", "Call", "Session", "SharedRequest", "Side", "current"]


PATIENCE = 8
"""Turns of the loop for which one side lets the other go first: until the next request has been sent."""


@dataclass(eq=False)
class SharedRequest:
    """One request at the LM's transport.

    Attributes:
        request: What was asked, to compare by value.
        result: Its outcome.
        usage: What it cost, as DSPy before 3.3 accounts for it at the transport.
    """

    request: Any
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
        config: What else the request is made of: LM, adapter, demos, configuration.
        cause: The call that it had to wait for, if the scout made it.
        attempt: The innermost `try` that it is in, if the scout made it.
        point: Its place in program order, if the scout made it.
        place: Where in the source: file and line.
        partner: The other side's call, once they are paired.
        requests: The requests that it has made at the transport, shared with the partner.
        position: How many of them this side has made or taken.
        outcome: The result, for the scout.
        task: The scout's work on it.
        came_second: Whether the other side had made it already.
        is_issued: Whether the scout makes it, instead of waiting for the main line to make it.
        is_made: Whether its target was made by the scout, or in a module as a whole: the other side has one of its own.
        is_whole: Whether it is that of a module that is declared pure: its predictors' calls are paired, not itself.
        is_orphan: Whether the scout that has made it is gone.
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
    config: Any = ()
    point: ProgramPoint = ()
    place: tuple[str, int] | None = None
    cause: Call | None = None
    attempt: Any = None
    partner: Call | None = None
    requests: list[SharedRequest] = field(default_factory=list)
    position: int = 0
    outcome: Pending | None = None
    task: asyncio.Task[Any] | None = None
    came_second: bool = False
    is_issued: bool = False
    is_made: bool = False
    is_whole: bool = False
    is_orphan: bool = False
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
        self._left: list[Call] = []
        """Those that the scout does not make, for `would_overtake()`."""
        self._open: dict[tuple[Side, int], list[Call]] = {}
        self._mains_ahead = 0
        self.was_abandoned = False
        self._held: Call | None = None
        """The call that the main line is in."""
        self.moves = 0
        """How often the scout has begun a call, sent its request or had its reply."""
        self._rested = 0
        """After which of these nothing more came for some turns."""
        self._pause: asyncio.Future[None] | None = None
        """While somebody counts these turns."""
        self._lock = threading.Lock()
        self.on_result: Callable[[Pending, Any], None] = lambda pending, value: None
        self.on_failure: Callable[[Call, BaseException], None] = lambda call, exc: None
        self.on_call: Callable[[Call], None] = lambda call: None
        self.joined_at: Call | None = None
        """The main line's call that it was in when the present scout began; until it is the first that the scout makes.
        """

    def begin(self, call: Call) -> Call:
        """Enter a call, and pair it if the other side has its partner."""
        if call.is_whole:
            self.calls.append(call)
            return call
        other: Side = "scout" if call.side == "main" else "main"
        partners: list[Call] = []
        waiting: list[Call] = []
        with self._lock:
            if call.side == "main":
                self._held = call
            for waiting in self._waiting(call, other):
                # A call that is being cancelled, because the program might never come to it, has no reply to take.
                partners = [each for each in waiting if not each.was_cancelled and _is_same_call(each, call)]
                if partners:
                    break
            self.calls.append(call)
            if not call.is_issued:
                self._left.append(call)
            if not partners:
                self._mains_ahead += call.side == "main"
                self._open.setdefault((call.side, 0 if call.is_made else id(call.target)), []).append(call)
                return call
            partner = min(partners, key=lambda call: call.point) if other == "scout" else partners[0]
            waiting.remove(partner)
            self._mains_ahead -= partner.side == "main"
            call.partner, partner.partner, call.came_second = partner, call, True
        if partner.is_issued or call.is_issued:
            call.requests = partner.requests
        if partner.has_ended and call.side == "scout":
            self._tell(partner, call)
        return call

    async def let_scout_go_first(self) -> None:
        """Wait until the scout has made what calls it can.

        Of twenty nodes whose replies come at once, the last one's next request would else wait until the first
        nineteen have gone on, and LangGraph with them. They have time while that request is answered. Turns are
        counted, as nobody can say of a call whether it waits for a thread that is at work, or for this main line.
        """
        while self._rested != (moves := self.moves) and not self.is_closed:
            if self._pause is not None and self._pause.get_loop() is asyncio.get_running_loop():
                await asyncio.shield(self._pause)  # of four hundred nodes, one counts for all
                continue
            pause = self._pause = asyncio.get_running_loop().create_future()
            try:
                for _ in range(PATIENCE):
                    await asyncio.sleep(0)
            finally:
                self._pause = None
                pause.set_result(None)
            if moves == self.moves:
                self._rested = moves

    async def before_reply(self) -> None:
        """Wait until the main line may take a reply that is there."""
        await self.let_scout_go_first()

    def abandon(self) -> None:
        """The scout is replaced by another one, which takes over those of its calls that it would make, too."""
        with self._lock:
            for (side, _), calls in self._open.items():
                if side == "scout":
                    calls[:] = [call for call in calls if call.is_issued and not call.was_cancelled]
                    for call in calls:
                        call.is_orphan = True
            self._left = [call for call in self._left if call.side == "main"]
            self.was_abandoned = True

    def rejoin(self, call: Call) -> bool:
        """The same, by one that begins where the main line is in a call, if it still is: what was before is over."""
        with self._lock:
            if self._held is not call or call.has_ended:
                return False
            for (side, _), calls in self._open.items():
                if side == "main":
                    calls[:] = [each for each in calls if each is call]
            self._mains_ahead, self.joined_at = 1, call
        self.abandon()
        return True

    def is_joined(self, call: Call) -> bool:
        """Whether a scout's call may be the first: it is that which the main line is in, if the scout began there."""
        first, self.joined_at = self.joined_at, None
        return first is None or ((call.is_made or first.target is call.target) and _is_same_call(first, call))

    def take_over(self, call: Call) -> bool:
        """Let a call that an earlier scout has made and the main line has not come to stand for this one."""
        with self._lock:
            waiting = self._open.get(("scout", id(call.target)), [])
            found = next((each for each in waiting if each.is_orphan and _is_same_call(each, call)), None)
            if found is None or found.outcome is None or call.outcome is None or (found.failure is not None):
                return False
            found.is_orphan, found.point, found.attempt = False, call.point, call.attempt
        before, after = found.outcome, call.outcome
        after.call = found

        def tell() -> None:
            self.on_result(after, private_copy(before.value))

        if before.done:
            self.loop.call_soon(tell)
        else:
            before.on_value(tell)
        return True

    def _waiting(self, call: Call, other: Side) -> list[list[Call]]:
        """The other side's calls that may be the same."""
        if call.is_made:
            return [calls for (side, _), calls in self._open.items() if side == other] or [[]]
        known = self._open.get((other, id(call.target)), [])
        return [known, self._open.get((other, 0), [])] if call.side == "main" else [known]

    def end(self, call: Call, result: Any = None, failure: BaseException | None = None) -> None:
        """Note the main line's result for the scout, which also learns of a failure that it had no part in."""
        with self._lock:
            self._held = None
            call.ended = time.perf_counter()
            call.result, call.failure, call.has_ended = private_copy(result), failure, True
            partner = call.partner
        if partner is not None and (failure is not None or not partner.is_issued):
            self._tell(call, partner)

    def _tell(self, main: Call, scout: Call) -> None:
        def tell(turns: int = PATIENCE) -> None:
            if self.is_closed or scout.outcome is None:
                return
            if turns and main.failure is None:
                self.loop.call_soon(tell, turns - 1)
                return
            if main.failure is not None:
                self.on_failure(scout, main.failure)
            else:
                self.on_result(scout.outcome, main.result)

        # On the loop's own thread, and later: now, it is the main line's turn.
        self.loop.call_soon_threadsafe(tell)

    def would_overtake(self, call: Call) -> bool:
        """Whether an equal call, of the same predictor or another, comes before and is left to the main line."""
        with self._lock:
            self._left = [other for other in self._left if _is_left(other)]
            return any(not _is_twin_to_be(other, call) and _is_same_call(other, call) for other in self._left)

    def is_held_before(self, point: ProgramPoint) -> bool:
        """Whether the main line is in a call that comes before a place, so that it has not passed that."""
        held = self._held
        if held is not None and held is self.joined_at:
            return True
        return self._mains_ahead == 0 and held is not None and held.partner is not None and held.partner.point < point

    def cancel(self, is_unwanted: Callable[[ProgramPoint], bool]) -> None:
        """Cancel those of the scout's calls that the main line has not come to, by their places."""
        for call in self.calls:
            is_own = call.is_issued and call.outcome is not None
            is_over = call.task is not None and call.task.done()
            if is_own and not is_over and call.partner is None and is_unwanted(call.point):
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
                call.was_cancelled = call.partner is None


def _is_left(call: Call) -> bool:
    """Whether the main line has yet to make it, or is about to."""
    return not (call.has_ended or (call.partner is not None and (call.partner.has_ended or call.partner.is_issued)))


def _is_twin_to_be(main: Call, call: Call) -> bool:
    return main.side == "main" and main.partner is None and (main.target is call.target or call.is_made)


def _is_same_call(one: Call, other: Call) -> bool:
    try:
        is_alike = one.inputs.keys() == other.inputs.keys() if isinstance(one.inputs, dict) else True
        if is_alike and isinstance(one.inputs, dict):  # in whatever order they are given
            is_alike = all(is_same(value, other.inputs[name]) for name, value in one.inputs.items())
        else:
            is_alike = is_alike and is_same(one.inputs, other.inputs)
        return is_alike and is_same(one.config, other.config)
    except Exception:  # arrays and the like; then they are not known to be equal
        return False


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are not only equal, but look the same to an LM: of the same types, in the same order."""
    cls = type(one)
    if one is other:
        return True
    if cls is not type(other):
        return False
    if cls is type(dspy.Signature):
        return bool(one.equals(other)) and _types(one) == _types(other)
    if issubclass(cls, dspy.BaseLM):  # copies of one another, as `BestOfN` makes them
        return is_same(_state_of_lm(one), _state_of_lm(other))
    if cls is dspy.Retrieve:
        return bool(one.k == other.k)
    if cls is float:
        return repr(one) == repr(other)
    if isinstance(one, dict):
        return len(one) == len(other) and all(map(is_same, _flat(one), _flat(other)))
    if isinstance(one, (list, tuple, deque)):
        return len(one) == len(other) and all(map(is_same, one, other))
    if cls in RECORDS:
        return is_same(one._store, other._store)
    if cls not in CONTAINERS and is_box(cls):
        return is_same(vars(one), vars(other))
    return bool(one == other)


def _state_of_lm(lm: dspy.BaseLM) -> dict[str, Any]:
    return {name: value for name, value in vars(lm).items() if name not in ("history", "callbacks")}


def _types(signature: type[dspy.Signature]) -> list[tuple[str, Any]]:
    return [(name, field.annotation) for name, field in signature.fields.items()]


def _flat(table: dict[Any, Any]) -> list[Any]:
    return [part for item in table.items() for part in item]
