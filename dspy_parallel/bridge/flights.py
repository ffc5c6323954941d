"""Many programs in flight on one loop, as many at a time as allowed; started and waited for from any thread."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from .engines import Engine, start
from .placement import placement_of
from .waits import Wait

__all__ = ["Flight", "Launch"]

PROBATION_WIDTH = 16
"""Programs in flight, in threads, while it is not known yet whether they block. It doubles after each
`PROBATION_SECONDS`, because they may wait for each other."""
PROBATION_SECONDS = 0.5


@dataclass(eq=False)
class Launch:
    """One program that is to run.

    Attributes:
        fn: The program, sync or a coroutine function.
        args: Its arguments.
        kwargs: Its keyword arguments.
        context: What it runs in; nobody else may use it.
        known_as: What `engine="auto"` remembers it by, see `start()`.
        probation: Whose placement decides how many start at once; None for programs that need no probation.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    context: Context
    known_as: Any
    probation: Any


class Flight:
    """Runs what it is given as tasks of one loop.

    Args:
        loop: Where they run.
        limit: How many at a time; the others wait for their turn, in order.
        engine: As for `run()`.
        landed: Called on the loop's thread, with the launch, the result and the exception, whichever there is.
    """

    # All state belongs to the loop's thread; methods that may be called from others hand over to it.

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limit: int,
        engine: Engine,
        landed: Callable[[Any, Any, BaseException | None], None],
    ) -> None:
        self._loop = loop
        self._limit = limit
        self._engine: Engine = engine
        self._landed = landed
        self._wait = Wait(loop)
        self._waiting: deque[Launch] = deque()
        self._running: dict[asyncio.Task[None], Launch] = {}
        self._since = 0.0
        self._later: asyncio.TimerHandle | None = None

    def launch(self, launch: Launch) -> None:
        """Have it run as soon as there is room; from any thread.

        Raises:
            RuntimeError: If the loop is closed.
        """
        self._wait.cover(launch.context)
        self._loop.call_soon_threadsafe(self._arrive, launch)

    def cancel(self, which: Callable[[Any], bool] = lambda _: True) -> None:
        """Cancel those that run, and have those that wait for their turn land cancelled; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._cancel, which)
        except RuntimeError:  # the loop is closed, and has cancelled its tasks
            pass

    def _arrive(self, launch: Launch) -> None:
        self._waiting.append(launch)
        self._wait.is_over = False
        self._fill()

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._limit and self._has_room(self._waiting[0].probation):
            launch = self._waiting.popleft()
            # `create_task(context=...)` is new in Python 3.11. This makes the task's context a copy of that one.
            task = launch.context.run(self._loop.create_task, self._run(launch))
            if not task.done():  # eagerly
                self._running[task] = launch
                task.add_done_callback(self._ended)
        self._wait.is_over = not self._running and not self._waiting

    def _has_room(self, program: Any) -> bool:
        if program is None or self._engine != "auto" or len(self._running) < PROBATION_WIDTH:
            return True
        if placement_of(program).state != "probation":
            return True
        now = time.monotonic()
        self._since = self._since or now
        if len(self._running) < PROBATION_WIDTH * 2 ** min(int((now - self._since) / PROBATION_SECONDS), 20):
            return True
        if self._later is None:
            self._later = self._loop.call_later(PROBATION_SECONDS, self._look_again)
        return False

    def _look_again(self) -> None:
        self._later = None
        self._fill()

    async def _run(self, launch: Launch) -> None:
        try:
            result = await start(launch.fn, launch.args, launch.kwargs, self._engine, launch.known_as)
        except BaseException as exc:  # whatever it is, it belongs to whoever waits for the program, not to the loop
            self._landed(launch, None, exc)
        else:
            self._landed(launch, result, None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        launch = self._running.pop(task)
        if task.cancelled():  # before its first step
            self._landed(launch, None, asyncio.CancelledError())
        elif (failure := task.exception()) is not None:  # of `landed` itself
            raise failure
        self._fill()

    def _cancel(self, which: Callable[[Any], bool]) -> None:
        left = deque(launch for launch in self._waiting if not which(launch))
        dropped = [launch for launch in self._waiting if which(launch)]
        self._waiting = left
        for launch in dropped:
            self._landed(launch, None, asyncio.CancelledError())
        for task, launch in self._running.items():
            if which(launch):
                task.cancel()
