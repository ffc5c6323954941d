"""One LM call on its way through its limit: it waits for its turn, makes a request, and queues again if refused."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, Protocol

from .. import events
from ..bridge import await_, in_bridge
from .alarm import alarm
from .assignment import Limit
from .limiter import Outcome, TurnedAwayError
from .refusals import copy_of, is_refusal, retry_after

__all__ = ["LimitedCall", "Progress", "around", "current_call"]

logger = logging.getLogger(__name__)

FIRST_REST, LONGEST_REST = 0.5, 60.0
"""Seconds after a first and after many refusals without `Retry-After`."""

_current: contextvars.ContextVar[LimitedCall | None] = contextvars.ContextVar("dspy_parallel_call", default=None)

current_call = _current.get
"""The LM call around the running code, if it is under a limit; also in threads to which DSPy hands a part of it."""


class Progress(Protocol):
    """How far a request has got: DSPy's record of an attempt."""

    emitted: bool
    """Whether some of the reply has been handed on."""
    completed: bool
    gave_up: bool
    """Set if the request must not be tried again."""


class LimitedCall:
    """The state of one call."""

    def __init__(self, limit: Limit, lm: Any, number: int | None = None) -> None:
        self.limit = limit
        self.lm = lm
        self._outer = current_call()
        self._limiter = limit.limiter
        self._number = limit.limiter.number() if number is None else number
        self._inside = False
        self._requesting = False
        self._sent_at = 0.0
        self._refusals = 0
        self._refusal: BaseException | None = None
        self._handled: BaseException | None = None
        """What the caller was handling already, as one who tries another LM after the first has failed."""
        self._turned_away = False
        self._deadline: float | None = None

    # One request

    async def attempt(
        self,
        request: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        progress: Progress | None = None,
    ) -> Any:
        """Make the request when it is its turn, again and again while it is refused."""
        with self._for_one_request() as call:
            while True:
                if not await call.enter():
                    raise call._given_up(progress)
                try:
                    result = await request(*args, **kwargs)
                except BaseException as exc:
                    rest = call._ended(exc, progress)
                    if rest is None:
                        raise
                else:
                    call._ended(None)
                    return result
                started = time.perf_counter()
                await alarm.sleep(rest)
                events.waited("limit", started)

    def attempt_blocking(
        self,
        request: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        progress: Progress | None = None,
    ) -> Any:
        """The same in sync code; inside a bridged program, the waiting is done on the loop."""
        with self._for_one_request() as call:
            while True:
                if not call.enter_blocking():
                    raise call._given_up(progress)
                try:
                    result = request(*args, **kwargs)
                except BaseException as exc:
                    rest = call._ended(exc, progress)
                    if rest is None:
                        raise
                else:
                    call._ended(None)
                    return result
                started = time.perf_counter()
                if in_bridge():
                    await_(alarm.sleep(rest))
                else:
                    alarm.sleep_blocking(rest)
                events.waited("limit", started)

    @contextmanager
    def _for_one_request(self) -> Generator[LimitedCall]:
        """This call; or a part of it, for a request that is made within another of its requests or beside it."""
        with self._limiter.lock:
            is_free, self._requesting = not self._requesting, True
        call = self if is_free else LimitedCall(self.limit, self.lm, self._number)
        call._handled = sys.exc_info()[1]
        try:
            with around(call):
                yield call
        finally:
            call._refusal = call._handled = None  # their tracebacks refer to this frame
            if is_free:
                self._requesting = False

    # Its place

    async def enter(self) -> bool:
        """Wait for the turn; False if it is not going to come."""
        if not self._has_place() and not self._turned_away:
            started = time.perf_counter()
            try:
                self._inside = await self._limiter.enter(self._number, self._seconds_left())
            except TurnedAwayError as exc:
                self._turn_away(exc)
            events.waited("limit", started)
        return self._begun()

    def enter_blocking(self) -> bool:
        """Wait for the turn in sync code; False if it is not going to come."""
        if not self._has_place() and not self._turned_away:
            if in_bridge():
                return await_(self.enter())
            # On an event loop's thread: the place may have to be given back by a task of that loop, which is blocked.
            needs_room = asyncio._get_running_loop() is None
            started = time.perf_counter()
            try:
                self._inside = self._limiter.enter_blocking(self._number, self._seconds_left(), needs_room=needs_room)
            except TurnedAwayError as exc:
                self._turn_away(exc)
            events.waited("limit", started)
        return self._begun()

    def leave(self) -> None:
        """Give back a place that was not used: the answer came from the cache."""
        with self._limiter.lock:
            inside, self._inside = self._inside, False
        if inside:
            self._limiter.leave("other", self._sent_at)

    def _has_place(self) -> bool:
        """Whether it need not wait: it is in already, or a part of a call that is, and would wait for itself.

        That call's place is its own from then on, and given back after this request.
        """
        with self._limiter.lock:
            call: LimitedCall | None = self
            while call is not None:
                if call.limit is self.limit and call._inside:
                    call._inside, self._inside = False, True
                    return True
                call = call._outer
            return False

    def _turn_away(self, exc: TurnedAwayError) -> None:
        self._turned_away, self._refusal = True, copy_of(exc.refusal)

    def _begun(self) -> bool:
        self._sent_at = alarm.now()
        return self._inside

    def _ended(self, exc: BaseException | None, progress: Progress | None = None) -> float | None:
        """Give the place back; return the seconds to rest before queueing again, or None if it is over."""
        with self._limiter.lock:
            inside, self._inside = self._inside, False
        if not inside:
            return None
        outcome: Outcome = "success" if exc is None else "other"
        rest = None
        # A place that is not given back is gone for good, and with the last of them every call: whatever an error has
        # for headers, and whoever interrupts us while we look at them.
        try:
            if exc is not None and is_refusal(exc, self._handled):
                outcome = "refused"
                rest = self._after_refusal(exc, progress)
        finally:
            self._limiter.leave(outcome, self._sent_at)
        return rest

    def _after_refusal(self, exc: BaseException, progress: Progress | None) -> float | None:
        now = alarm.now()
        patience = self.limit.settings.give_up_after
        if self._deadline is None:
            self._deadline = now + patience
        self._refusal = exc
        self._refusals += 1
        # Refused once, it keeps its place; after that it lets ever more others pass, or a call that is refused for
        # ever would be the only one to be tried.
        self._number += 2 ** min(self._refusals, 16) - 2
        asked = retry_after(exc, self._handled)
        if asked is not None:
            self._limiter.turn_away(exc, self._sent_at, asked, patience)
            # No longer than anybody is willing to wait: somebody has to ask again.
            self._limiter.pause_for(min(asked, patience))
        wait, rest = self._times(asked)
        logger.debug("%s refused a request (429); asking again in %.1f s", getattr(self.lm, "model", "an LM"), wait)
        if progress is not None and (progress.emitted or progress.completed):
            return None  # it would come twice
        if now + wait >= self._deadline:
            self._given_up(progress)
            return None
        return rest

    def _times(self, asked: float | None) -> tuple[float, float]:
        """Seconds until it asks again, and how many of them it spends outside of the queue."""
        doubled = 2 ** min(self._refusals - 1, 16)
        if asked is None:
            backoff = min(FIRST_REST * doubled, LONGEST_REST) * random.uniform(0.5, 1.0)
            return backoff, backoff
        # A few milliseconds that are too few again and again must not become a storm of requests.
        rest = min(asked * doubled, FIRST_REST)
        return (rest, rest) if rest > asked else (asked, 0.0)

    def _seconds_left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - alarm.now())

    def _given_up(self, progress: Progress | None) -> BaseException:
        if progress is not None:
            progress.gave_up = True
        assert self._refusal is not None  # only a refusal sets a deadline
        return self._refusal


@contextmanager
def around(call: LimitedCall) -> Generator[LimitedCall]:
    """Make it the call around the code in the block."""
    before = _current.get()
    _current.set(call)
    try:
        yield call
    finally:
        call.leave()
        # Not by a token, which is of no use where a coroutine is closed in another context than it ran in.
        if _current.get() is call:
            _current.set(before)
