"""One LM call on its way through its limit: it waits for its turn, makes a request, and queues again if refused."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

from .. import events
from ..bridge import await_, in_bridge
from .assignment import Limit
from .refusals import is_refusal, retry_after

__all__ = ["Passage", "current_passage", "passing"]

logger = logging.getLogger(__name__)

FIRST_REST, LONGEST_REST = 0.5, 60.0
"""Seconds after a first and after many refusals without `Retry-After`."""

_current: contextvars.ContextVar[Passage | None] = contextvars.ContextVar("dspy_parallel_passage", default=None)

current_passage = _current.get
"""The LM call around the running code, if it is under a limit; also in threads to which DSPy hands a part of it."""


class Passage:
    """The state of one call."""

    def __init__(self, limit: Limit, lm: Any) -> None:
        self.limit = limit
        self.lm = lm
        self.gave_up = False
        """Whether the call has been refused until its time was up, and must not be tried again."""
        self._outer = current_passage()
        self._gate = limit.gate
        self._number = limit.gate.number()
        self._inside = False
        self._sent_at = 0.0
        self._refusals = 0
        self._deadline: float | None = None

    # One request

    async def attempt(self, request: Callable[..., Awaitable[Any]], args: tuple[Any, ...], kwargs: Any) -> Any:
        """Make the request when it is its turn, again and again while it is refused."""
        refused: BaseException | None = None
        while True:
            if not await self.enter():
                raise self._given_up(refused)
            try:
                result = await request(*args, **kwargs)
            except BaseException as exc:
                rest = self._ended(exc)
                if rest is None:
                    raise
                refused = exc
            else:
                self._ended(None)
                return result
            started = time.perf_counter()
            await asyncio.sleep(rest)
            events.waited("limit", started)

    def attempt_blocking(self, request: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        """The same in sync code; inside a bridged program, the waiting is done on the loop."""
        refused: BaseException | None = None
        while True:
            if not self.enter_blocking():
                raise self._given_up(refused)
            try:
                result = request(*args, **kwargs)
            except BaseException as exc:
                rest = self._ended(exc)
                if rest is None:
                    raise
                refused = exc
            else:
                self._ended(None)
                return result
            started = time.perf_counter()
            if in_bridge():
                await_(asyncio.sleep(rest))
            else:
                time.sleep(rest)
            events.waited("limit", started)

    # Its place

    async def enter(self) -> bool:
        """Wait for the turn; False if the time is up."""
        started = time.perf_counter()
        if not self._is_free() and not await self._gate.enter(self._number, self._seconds_left()):
            return False
        events.waited("limit", started)
        self._begin()
        return True

    def enter_blocking(self) -> bool:
        """Wait for the turn in sync code; False if the time is up."""
        if not self._is_free():
            if in_bridge():
                return await_(self.enter())
            if asyncio._get_running_loop() is not None:
                # The place may have to be given back by a task of the very loop that would be blocked here.
                self._gate.enter_at_once()
            else:
                started = time.perf_counter()
                if not self._gate.enter_blocking(self._number, self._seconds_left()):
                    return False
                events.waited("limit", started)
        self._begin()
        return True

    def leave(self) -> None:
        """Give back a place that was not used: the answer came from the cache."""
        if self._inside:
            self._inside = False
            self._gate.leave("other", self._sent_at)

    def _is_free(self) -> bool:
        """Whether it is in already, or is a part of a call that is: that one would wait for itself."""
        outer = self._outer
        while outer is not None:
            if outer.limit is self.limit and outer._inside:
                return True
            outer = outer._outer
        return self._inside

    def _begin(self) -> None:
        if not self._inside:
            self._sent_at = time.monotonic()
            # Within another call's place it has none of its own.
            self._inside = not self._is_free()

    def _ended(self, exc: BaseException | None) -> float | None:
        """Give the place back; return the seconds to rest before queueing again, or None if it is over."""
        if not self._inside:
            return None
        refused = exc is not None and is_refusal(exc)
        rest = self._after_refusal(exc) if exc is not None and refused else None
        self._inside = False
        self._gate.leave("refused" if refused else "success" if exc is None else "other", self._sent_at)
        return rest

    def _after_refusal(self, exc: BaseException) -> float | None:
        now = time.monotonic()
        patience = self.limit.settings.give_up_after
        if self._deadline is None:
            self._deadline = now + patience
        self._refusals += 1
        # Refused once, it keeps its place; after that it lets ever more others pass, or a call that is refused for
        # ever would be the only one to be tried.
        self._number += 2 ** min(self._refusals, 16) - 2
        asked = retry_after(exc)
        if asked is not None:
            # No longer than anybody is willing to wait: somebody has to ask again.
            self._gate.pause_for(min(asked, patience))
            rest, wait = 0.0, asked
        else:
            backoff = min(FIRST_REST * 2 ** min(self._refusals - 1, 16), LONGEST_REST)
            rest = wait = backoff * random.uniform(0.5, 1.0)
        logger.debug("%s refused a request (429); asking again in %.1f s", self.lm.model, wait)
        if now + wait >= self._deadline:
            self.gave_up = True
            return None
        return rest

    def _seconds_left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _given_up(self, refused: BaseException | None) -> BaseException:
        self.gave_up = True
        assert refused is not None  # only a refusal sets a deadline
        return refused


@contextmanager
def passing(passage: Passage) -> Generator[Passage]:
    """Make it the call around the code in the block."""
    token = _current.set(passage)
    try:
        yield passage
    finally:
        passage.leave()
        _current.reset(token)
