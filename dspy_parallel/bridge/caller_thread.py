"""Threads that wait for what runs elsewhere, and what they do meanwhile.

A sync caller keeps its thread: its code, and what it calls, finds its thread-locals, its re-entrant locks and its
connections again. Where it waits for a coroutine that starts programs in turn (a graph's `ainvoke`, `gather()`), the
first of these that needs a thread has that very thread, as in a plain call; the others have threads of the pool. The
model is asgiref's `CurrentThreadExecutor`.

The thread is known by a context variable to all that is started below its wait. So an outer caller's thread is found
behind an inner one's only if nothing in between has a thread of its own: then the inner one is the nearer.
"""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar
from typing import Any

from ..thread_pool import pool

__all__ = ["CallingThread", "blocked_loop", "calling_thread", "is_called_in_sync", "is_waiting"]

calling_thread: ContextVar[CallingThread | None] = ContextVar("dspy_parallel_calling_thread", default=None)
"""The nearest thread that waits for the running code, or runs it."""

LOST_SECONDS = 1.0
"""Longer than it takes to put a message into a queue."""


class CallingThread:
    """One thread that waits for an event loop in another thread.

    Attributes:
        blocked: The loop that runs in this thread, if any; it stands still until the thread returns to it.
        is_callers: Whether it is a sync caller's own thread, not one of the pool.
        is_plain: Whether that caller knows nothing of the bridge: it makes a sync call as without this library.
        outer: The thread that waits for this one.
        is_over: Whether it has returned.
        on_wait: Called when it first waits.
    """

    def __init__(
        self, blocked: asyncio.AbstractEventLoop | None = None, *, is_callers: bool = False, is_plain: bool = False
    ) -> None:
        self.blocked = blocked
        self.is_callers = is_callers
        self.is_plain = is_plain
        self.outer = calling_thread.get()
        self.is_over = False
        self.on_wait: Callable[[], None] | None = None
        self._messages: queue.SimpleQueue[tuple[object, Any]] = queue.SimpleQueue()
        # One token while the thread has nothing to do. To take it out is atomic, so that of two programs that come
        # at the same moment one has the thread, and the other goes to the pool instead of waiting behind the first:
        # they may wait for each other.
        self._free: deque[None] = deque()

    def cover(self, context: Context) -> None:
        """Make it known to what runs in the context."""
        context.run(calling_thread.set, self)

    def begin(self, job: Callable[[], None]) -> None:
        """Run the job in the thread that waits for this one, if that has nothing to do, or in one of the pool's.

        Raises:
            RuntimeError: If there is none.
        """
        outer = self.outer
        if outer is not None:
            self.blocked, self.is_callers = outer.blocked, outer.is_callers  # before the job, which may ask
            if outer.take(job):
                return
            self.blocked, self.is_callers = None, False
        # A sync caller's thread holds none of the pool's.
        pool.submit(job, may_wait=outer is None or outer.is_callers)

    def post(self, of: object, message: Any) -> None:
        """Give the thread what it waits for; from any thread."""
        self._messages.put((of, message))

    def take(self, job: Callable[[], None]) -> bool:
        """Whether the thread, which had nothing to do, runs the job now; from any thread. The job must not raise."""
        try:
            self._free.pop()
        except IndexError:
            return False
        self._messages.put((None, job))
        return True

    def waits(self) -> None:
        """It is about to wait, here or for something else."""
        if self.on_wait is not None:
            on_wait, self.on_wait = self.on_wait, None
            on_wait()

    def wait(self, of: object, *, is_free: bool = False) -> Any:
        """Return the message that belongs to `of`; if it `is_free`, in `offered()`, run jobs until that comes.

        Messages for an earlier wait, which was left by an exception of a signal handler's, are thrown away.
        """
        self.waits()
        while True:
            whose, message = self._messages.get()
            if whose is of:
                return message
            if whose is None:
                message()
                if is_free:
                    self._free.append(None)
            del message  # a finished job must not be kept alive by a thread that waits

    @contextmanager
    def offered(self) -> Generator[None]:
        """Let programs have the thread from now on, which is about to wait.

        It begins before others are told what the thread waits for: a program that they start at once would otherwise
        come before the thread waits, and find it busy.
        """
        self._free.append(None)
        try:
            yield
        finally:
            try:
                self._free.pop()
            except IndexError:
                self._pass_on_job()

    def _pass_on_job(self) -> None:
        """A job that was given to it at the last moment goes to the pool."""
        others: list[tuple[object, Any]] = []
        with suppress(queue.Empty):  # the job has been run, and a signal handler raised right behind it
            while (message := self._messages.get(timeout=LOST_SECONDS))[0] is not None:
                others.append(message)
            pool.submit(message[1])
        for message in others:
            self._messages.put(message)


def _waiting() -> Iterator[CallingThread]:
    """The threads that wait for the running code; also known in threads and tasks that have a copy of the context."""
    thread = calling_thread.get()
    while thread is not None:
        if not thread.is_over:
            yield thread
        thread = thread.outer


def blocked_loop() -> asyncio.AbstractEventLoop | None:
    """The nearest loop that stands still until the running code is done."""
    return next((thread.blocked for thread in _waiting() if thread.blocked is not None), None)


def is_waiting(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop stands still until the running code is done, so that nothing may be sent there."""
    return any(thread.blocked is loop for thread in _waiting())


def is_called_in_sync() -> bool:
    """Whether the running code must not await what sync code cannot: others' coroutines.

    Such a coroutine may need the loop that its maker's sync call blocks (a session that a task there reads for), and
    would never end on another one. And in a plain sync call it is refused as without this library.
    """
    return any(thread.is_plain or thread.blocked is not None for thread in _waiting())
