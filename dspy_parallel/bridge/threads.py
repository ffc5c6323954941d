"""The thread engine: a program's code in a worker thread, its awaits on the caller's loop.

The caller's task and the worker take turns. While the worker computes, the task waits for its next message;
when the worker wants to wait for something, it hands the awaitable over and the *task itself* awaits it. So
`asyncio.current_task()`, timeouts and cancellation are the caller's here as on the loop engine, and threads
are held only by programs, never by a thread that waits for a pool slot.

Context: the worker starts with a copy of the task's context. Each awaitable runs in a copy of the worker's
context as it stands, and what it changes is carried back; so are the program's own changes, at its end. The
program and the coroutines that it waits for see the context variables that they would see in plain sync code.

Cancellation: a thread cannot be killed. A cancel while the program waits is raised there; a cancel while it
computes is raised at its next wait. Either way the task waits until the thread has left the program.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import queue
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar, cast

from ..errors import BridgeError
from .kernel import Program, drive
from .placement import ProbationMeter
from .workers import pool

__all__ = ["ThreadProgram", "adopt", "close_unused", "current_thread_program", "run_in_thread"]

T = TypeVar("T")
_local = threading.local()
_MISSING = object()


@dataclass
class _Request:
    """The program waits for this awaitable, which has to run in this context."""

    awaitable: Awaitable[Any]
    context: contextvars.Context


@dataclass
class _Outcome:
    """The result or exception of a request or of the program, and the context as it was left."""

    value: Any
    exception: BaseException | None
    context: contextvars.Context | None

    def unwrap(self) -> Any:
        try:
            if self.exception is not None:
                raise self.exception
            return self.value
        finally:
            self.exception = None  # no cycle between a traceback and the frames in it


def adopt(context: contextvars.Context | None) -> None:
    """Take over what was set in another context."""
    if context is not None:
        for variable, value in context.items():
            if variable.get(_MISSING) is not value:
                variable.set(value)


class ThreadProgram:
    """One run of a sync function in a worker thread, as seen from that thread."""

    strict = False

    def __init__(self, loop: asyncio.AbstractEventLoop, meter: ProbationMeter | None) -> None:
        self._loop = loop
        self._meter = meter
        self._messages: deque[_Request | _Outcome] = deque()
        self._message_came: asyncio.Future[None] | None = None
        self._replies: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self._cancelled: asyncio.CancelledError | None = None
        self._abandoned = False
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
                outcome = _Outcome(fn(*args, **kwargs), None, None)
            finally:
                if meter is not None:
                    meter.end()
        except BaseException as exc:
            outcome = _Outcome(None, exc, None)
        finally:
            _local.program, self._root = outer, None
        outcome.context = contextvars.copy_context()
        self._send(outcome)

    def wait_for(self, awaitable: Awaitable[T]) -> T:
        """Have the awaitable awaited by the program's task; blocks only this worker thread."""
        if self._abandoned:
            close_unused(awaitable)
            raise BridgeError("await_() in a program whose task is gone: its event loop closed, or it was destroyed.")
        meter = self._meter
        if meter is not None:
            meter.end()
            meter.waiting(sys._getframe(1), self._root)
        try:
            if not self._send(_Request(awaitable, contextvars.copy_context())):
                close_unused(awaitable)
                raise BridgeError("await_() in a worker thread whose event loop has been closed.")
            outcome = self._replies.get()
        finally:
            if meter is not None:
                meter.begin()
        adopt(outcome.context)
        return cast("T", outcome.unwrap())

    def _send(self, message: _Request | _Outcome) -> bool:
        self._messages.append(message)
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # the loop is closed
            return False
        return True

    # On the event loop

    def _wake(self) -> None:
        waiter = self._message_came
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _next_message(self) -> _Request | _Outcome:
        """The worker's next message; a cancel that arrives meanwhile is kept for the program's next wait."""
        while not self._messages:
            self._message_came = self._loop.create_future()
            try:
                await self._message_came
            except asyncio.CancelledError as exc:
                self._cancelled = exc
        return self._messages.popleft()

    async def serve(self) -> Any:
        """Await what the program waits for, until it is done; return its result."""
        try:
            while True:
                message = await self._next_message()
                if isinstance(message, _Outcome):
                    adopt(message.context)
                    if self._cancelled is not None:
                        raise self._cancelled
                    return message.unwrap()
                if self._cancelled is not None:
                    close_unused(message.awaitable)
                    reply = _Outcome(None, self._cancelled, None)
                    self._cancelled = None
                else:
                    # In a program of its own, so that sync code called by the awaited coroutine can wait, too.
                    program = Program(message.context)
                    try:
                        value = await drive(program, program.wait_for, (message.awaitable,), {})
                        reply = _Outcome(value, None, message.context)
                    except GeneratorExit:
                        raise
                    except BaseException as exc:
                        reply = _Outcome(None, exc, message.context)
                self._replies.put(reply)
                del message, reply
        except GeneratorExit:
            self._abandoned = True
            self._replies.put(_Outcome(None, BridgeError("The program's task was destroyed while it waited."), None))
            raise
        finally:
            self._cancelled = None


def close_unused(awaitable: object) -> None:
    """Close a coroutine that will not be awaited; leave tasks and futures to their owners."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()


def current_thread_program() -> ThreadProgram | None:
    """The program that runs in this worker thread, if any."""
    return cast("ThreadProgram | None", getattr(_local, "program", None))


async def run_in_thread(
    fn: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    meter: ProbationMeter | None = None,
    submit: Callable[[Callable[[], None]], None] = pool.submit,
) -> T:
    """Run `fn(*args, **kwargs)` in a worker thread, bridged to the running loop.

    Args:
        submit: Starts a job in the thread that is to run it; by default any thread of the pool.

    Raises:
        BaseException: Whatever `fn` raises.
        asyncio.CancelledError: After the thread has left `fn`, if the task was cancelled meanwhile.
    """
    program = ThreadProgram(asyncio.get_running_loop(), meter)
    context = contextvars.copy_context()
    submit(lambda: context.run(program.work, fn, args, kwargs))
    result = await program.serve()
    if meter is not None:
        meter.finished()
    return cast("T", result)
