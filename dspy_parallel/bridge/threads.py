"""The thread engine: a program's code in a worker thread, its awaits on the caller's loop.

The caller's task and the worker take turns. While the worker computes, the task waits for its next message;
when the worker wants to wait for something, it hands the awaitable over and the *task itself* awaits it. So
`asyncio.current_task()`, timeouts and cancellation are the caller's here as on the loop engine, and threads
are held only by programs, never by a thread that waits for a pool slot.

Context: the worker runs in the task's own context, and each awaitable in the worker's. Since they take turns,
nobody else is at work there, and set and reset have the effect that they have in plain sync code. Python's
`Context.run` refuses to enter a context twice; a greenlet's `gr_context` can.

Cancellation: a thread cannot be killed. A cancel while the program waits is raised there; a cancel while it
computes is raised at its next wait. Either way the task waits until the thread has left the program.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar, cast

from anyio import CancelScope
from greenlet import getcurrent, greenlet

from .. import events
from ..errors import BridgeError
from .inbox import inbox_of
from .kernel import chain, drive, new_program
from .meters import LoopMeter, ProbationMeter
from .workers import pool

__all__ = ["Outcome", "ThreadProgram", "close_unused", "current_thread_program", "run_in_thread"]

T = TypeVar("T")
_local = threading.local()


@dataclass
class Request:
    """The program waits for this awaitable, which has to run in this context."""

    awaitable: Awaitable[Any]
    context: contextvars.Context | None


@dataclass
class Outcome:
    """The result or the exception of something that ran in another thread."""

    value: Any = None
    exception: BaseException | None = None

    def unwrap(self) -> Any:
        """Return the value or raise the exception, in the context of what is being handled here."""
        exception, self.exception = self.exception, None  # no cycle between a traceback and the frames in it
        if exception is None:
            return self.value
        chain(exception, sys.exc_info()[1])
        context = exception.__context__
        try:
            raise exception
        finally:
            exception.__context__ = context  # `raise` has replaced it
            del exception, context


class ThreadProgram:
    """One run of a sync function in a worker thread, as seen from that thread."""

    strict = False

    def __init__(self, loop: asyncio.AbstractEventLoop, meter: ProbationMeter | None) -> None:
        self._loop = loop
        self._inbox = inbox_of(loop)
        self._meter = meter
        self._messages: deque[Request | Outcome] = deque()
        self._message_came: asyncio.Future[None] | None = None
        self._replies: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._cancelled: asyncio.CancelledError | None = None
        self._was_cancelled = False
        self._abandoned = False
        self._ended = False
        self._root: FrameType | None = None

    # In the worker thread

    def work(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run the program to its end; never raises."""
        outer = getattr(_local, "program", None)
        _local.program = self
        meter = self._meter
        self._root = sys._getframe()
        try:
            if meter is not None:
                meter.begin()
            try:
                if events.current() is None:
                    outcome = Outcome(fn(*args, **kwargs))
                else:
                    with events.span("thread", threading.current_thread().name):
                        outcome = Outcome(fn(*args, **kwargs))
            finally:
                if meter is not None:
                    meter.end()
        except BaseException as exc:
            outcome = Outcome(exception=exc)
        finally:
            _local.program, self._root = outer, None
        self._send(outcome)

    def wait_for(self, awaitable: Awaitable[T]) -> T:
        """Have the awaitable awaited by the program's task; blocks only this worker thread."""
        if self._abandoned:
            close_unused(awaitable)
            raise BridgeError("await_() in a program whose task is gone: its event loop closed, or it was destroyed.")
        meter = self._meter
        if meter is not None:
            meter.waiting(sys._getframe(1), self._root)
        try:
            if not self._send(Request(awaitable, getcurrent().gr_context)):
                close_unused(awaitable)
                raise BridgeError("await_() in a worker thread whose event loop has been closed.")
            outcome = self._replies.get()
        finally:
            if meter is not None:
                meter.waited()
        return cast("T", outcome.unwrap())

    def call(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        """Call what would run in another thread if the program were on the loop: there, it would wait meanwhile."""
        meter, self._meter = self._meter, None
        if meter is None:
            return fn(*args, **kwargs)
        meter.waiting(sys._getframe(1), self._root)
        try:
            return fn(*args, **kwargs)
        finally:
            self._meter = meter
            meter.waited()

    def _send(self, message: Request | Outcome) -> bool:
        self._messages.append(message)
        try:
            self._inbox.post(self._wake)
        except RuntimeError:  # the loop is closed
            return False
        return True

    # On the event loop

    def _wake(self) -> None:
        waiter = self._message_came
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _next_message(self) -> Request | Outcome:
        """The worker's next message; a cancel that arrives meanwhile is kept for the program's next wait."""
        while not self._messages:
            self._message_came = self._loop.create_future()
            try:
                if not self._was_cancelled:
                    await self._message_came
                else:
                    # An anyio scope cancels again on each turn of the loop, until it is left. The program has heard
                    # of it, or will at its next wait; its cleanup must find out by itself, and may be shielded.
                    with CancelScope(shield=True):
                        await self._message_came
            except asyncio.CancelledError as exc:
                self._cancelled, self._was_cancelled = exc, True
        return self._messages.popleft()

    async def serve(self) -> Any:
        """Await what the program waits for, until it is done; return its result."""
        try:
            while True:
                message = await self._next_message()
                cancelled, self._cancelled = self._cancelled, None
                if isinstance(message, Outcome):
                    self._ended = True
                    if cancelled is not None and isinstance(message.exception, Exception | None):
                        # As the program could not hear of it, it must not be lost either.
                        message = Outcome(exception=_during(message.exception, cancelled))
                    return message.unwrap()
                if cancelled is not None:
                    close_unused(message.awaitable)
                    reply = Outcome(exception=cancelled)
                else:
                    reply = await self._await(message)
                self._replies.put(reply)
                del message, reply, cancelled
        finally:
            if not self._ended:  # GeneratorExit
                self._abandoned = True
                self._replies.put(Outcome(exception=BridgeError("The program's task was destroyed while it waited.")))

    async def _await(self, request: Request) -> Outcome:
        # In a program of its own, so that sync code called by the awaited coroutine can wait, too.
        program = new_program(request.context)
        try:
            return Outcome(await drive(program, program.wait_for, (request.awaitable,), {}, LoopMeter(None)))
        except GeneratorExit:
            raise
        except BaseException as exc:
            self._was_cancelled |= isinstance(exc, asyncio.CancelledError)
            return Outcome(exception=exc)


def _during(first: BaseException | None, then: BaseException) -> BaseException:
    if first is not None:
        chain(then, first)
    return then


def close_unused(awaitable: object) -> None:
    """Close a coroutine that will not be awaited; leave tasks and futures to their owners."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()


def current_thread_program() -> ThreadProgram | None:
    """The program that runs in this worker thread, if any.

    Not in the tasks of an event loop that the program itself runs: waiting there would block that loop.
    """
    program = cast("ThreadProgram | None", getattr(_local, "program", None))
    return program if program is not None and asyncio._get_running_loop() is None else None


async def run_in_thread(
    fn: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    meter: ProbationMeter | None = None,
    submit: Callable[[Callable[[], None]], None] = pool.submit,
) -> T:
    """Run `fn(*args, **kwargs)` in a worker thread, bridged to the running loop.

    Any thread of the pool will do, unless `submit` starts the job in a certain one.

    Raises:
        BaseException: Whatever `fn` raises.
        asyncio.CancelledError: After the thread has left `fn`, if the task was cancelled meanwhile.
    """
    program = ThreadProgram(asyncio.get_running_loop(), meter)
    context = getcurrent().gr_context

    def job() -> None:
        worker = greenlet(program.work)
        worker.gr_context = context
        worker.switch(fn, args, kwargs)

    try:
        submit(job)
        result = await program.serve()
    finally:
        if meter is not None:
            meter.left()
    if meter is not None:
        meter.finished()
    return cast("T", result)


if hasattr(os, "register_at_fork"):
    # A child forked by a program has its thread, but not the loop on the other side.
    os.register_at_fork(after_in_child=lambda: _local.__dict__.clear())
