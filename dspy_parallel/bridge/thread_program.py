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
import os
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

from anyio import CancelScope
from greenlet import getcurrent, greenlet

from .. import events
from ..errors import BridgeError
from ..thread_pool import join_workers
from .caller_thread import CallingThread, calling_thread
from .kernel import Program, StoppedProgram, chain, close_unused, drive, handling
from .mailbox import Mailbox, mailbox_of

__all__ = ["Outcome", "ThreadProgram", "current_thread_program", "run_in_thread"]

T = TypeVar("T")
_local = threading.local()
_waiting: dict[ThreadProgram, Request] = {}
_process_ends = False
_computing = threading.Lock()
"""Held by the one program, of those that left the loop because they compute for long, that does so now.

They gain nothing from computing side by side: all that they do is known, and holds the GIL. But each would have its
share of that, and the loop's thread one of fifty instead of every other.
"""


@dataclass(eq=False)
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
    """One run of a sync function in a thread of its own, as seen from that thread.

    Args:
        mailbox: That of the loop where its awaitables run.
        thread: Its thread; by default one that it is yet to `begin()` in.
        has_task: Whether a task has started it, and serves it. Otherwise one comes into being with its first wait.
        in_order: Whether its task hears its first message behind what others have sent to the loop before, also if the
            message is there already.
        computes: Whether it takes turns with the others that do.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        thread: CallingThread | None = None,
        *,
        has_task: bool = True,
        in_order: bool = False,
        computes: bool = False,
    ) -> None:
        self.thread = thread or CallingThread()
        self._in_order = in_order
        self._computes = computes
        self._has_turn = False
        self._has_task = has_task
        self.loop = mailbox.loop
        self._mailbox = mailbox
        self._messages: deque[Request | Outcome] = deque()
        self._message_came: asyncio.Future[None] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._awaited: Request | None = None
        self._cancelled: asyncio.CancelledError | None = None
        self._was_cancelled = False
        self._was_interrupted = False
        self._has_waited = False
        self._is_served = False
        self._abandoned = False

    # In the program's thread

    @contextmanager
    def _here(self) -> Generator[None]:
        outer, _local.program = getattr(_local, "program", None), self
        token = calling_thread.set(self.thread)
        try:
            self._turn(self._computes)
            yield
        finally:
            self._turn(False)
            calling_thread.reset(token)
            _local.program = outer
            self.thread.is_over = True

    def _turn(self, wanted: bool) -> bool:
        """Take or leave its turn to compute, and tell whether it had it."""
        had = self._has_turn
        if wanted and not had:
            _computing.acquire()
        elif had and not wanted:
            _computing.release()
        self._has_turn = wanted
        return had

    @contextmanager
    def blocks(self) -> Generator[None]:
        """It waits for something else than an awaitable; others may compute meanwhile."""
        self.thread.waits()
        had_turn = self._turn(False)
        try:
            yield
        finally:
            self._turn(had_turn)

    def work(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run the program to its end in a worker thread; never raises."""
        try:
            outcome = Outcome(self._call(fn, args, kwargs))
        except StopIteration as stop:
            outcome = Outcome(exception=StoppedProgram(stop))
        except BaseException as exc:
            outcome = Outcome(exception=exc)
        self._send(outcome)

    def _call(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        with self._here(), events.span("thread", threading.current_thread().name):
            return fn(*args, **kwargs)

    def run(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], *, is_callers: bool = True) -> T:
        """Run the program here, in the thread and context of a sync caller, or of a `TaskPool`'s worker.

        Its task has no part in the result: what is raised here, be it StopIteration or KeyboardInterrupt, passes
        through no coroutine.
        """
        try:
            if not is_callers:
                return self._call(fn, args, kwargs)
            with self._here():
                return fn(*args, **kwargs)
        finally:
            if self._has_waited:
                self._send(Outcome())

    def wait_for(self, awaitable: Awaitable[T], *, is_free: bool = False) -> T:
        """Have the awaitable awaited by the program's task, and wait; with `is_free`, run programs started below it."""
        request = _waiting[self] = Request(awaitable, getcurrent().gr_context)
        self._has_waited = True
        had_turn = self._turn(False)
        try:
            with self.thread.offered() if is_free else nullcontext():
                is_sent = self._send(request) and not self._abandoned
                is_heard = is_sent and not (_process_ends and not self.loop.is_running())
                outcome: Outcome | None = self.thread.wait(request, is_free=is_free) if is_heard else None
        except BaseException:
            # Ctrl-C, raised in this thread by the signal's handler. What it waited for is cancelled, and may clean up.
            # A second Ctrl-C leaves that behind; what comes of it then belongs to no later wait.
            self._mailbox.post(partial(self._interrupt, request))
            self.thread.wait(request)
            raise
        finally:
            _waiting.pop(self, None)
            self._turn(had_turn)
        if outcome is None:
            if not is_sent:
                close_unused(awaitable)
            raise BridgeError(
                "await_() in a program whose task is gone: its loop closed or ended, or it was destroyed."
            )
        return cast("T", outcome.unwrap())

    def _send(self, message: Request | Outcome) -> bool:
        self._messages.append(message)
        try:
            self._mailbox.post(self._wake)
        except RuntimeError:  # the loop is closed
            return False
        return True

    # On the event loop

    def cancel(self) -> None:
        """Raise CancelledError where it waits, or at its next wait; for a program that no task has started."""
        if self._task is not None:
            self._task.cancel()
        else:
            self._cancelled = asyncio.CancelledError()

    def _interrupt(self, request: Request) -> None:
        if self._awaited is request and self._task is not None:
            self._was_interrupted = True
            self._task.cancel()
        elif request in self._messages:
            self._cancelled = asyncio.CancelledError()
            self._wake()  # the signal may have come between the message and its post
        else:  # before the message, or behind the reply: a second reply to the same request is thrown away
            self.thread.post(request, Outcome())

    def _wake(self) -> None:
        if not self._has_task:
            self._has_task = True
            # In a context of its own: each awaitable runs in the program's.
            self._task = contextvars.Context().run(self.loop.create_task, self.serve())
            self._task.add_done_callback(self._serve_after_all)
        waiter = self._message_came
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _serve_after_all(self, task: asyncio.Task[Any]) -> None:
        # Cancelled before its first step, the task has never heard of the program, which would wait for good.
        if not self._is_served:
            self._cancelled, self._has_task = asyncio.CancelledError(), False
            self._wake()

    async def _next_message(self) -> Request | Outcome:
        """The worker's next message; a cancel that arrives meanwhile is kept for the program's next wait."""
        while not self._messages or self._in_order:
            self._in_order = False
            self._message_came = self.loop.create_future()
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
        self._is_served = True
        try:
            while not isinstance(message := await self._next_message(), Outcome):
                cancelled, self._cancelled = self._cancelled, None
                if cancelled is not None:
                    close_unused(message.awaitable)
                    reply = Outcome(exception=cancelled)
                else:
                    self._awaited = message
                    reply = await self._await(message)
                    self._awaited = None
                self.thread.post(message, reply)
                del message, reply, cancelled
        except BaseException:  # GeneratorExit
            self._abandoned = True
            # In this order: the program looks at `_abandoned` once more when its request is among the messages.
            for request in (self._awaited, *self._messages):
                self.thread.post(request, Outcome(exception=BridgeError("The program's task was destroyed.")))
            raise
        if self._cancelled is not None and isinstance(message.exception, Exception | None):
            # As the program could not hear of it, it must not be lost either.
            chain(self._cancelled, message.exception)
            message.exception = self._cancelled
        self._cancelled = None
        return message.unwrap()

    async def _await(self, request: Request) -> Outcome:
        # In a program of its own, so that sync code called by the awaited coroutine can wait, too.
        program = Program(request.context)
        try:
            return Outcome(await drive(program, program.wait_for, (request.awaitable,), {}))
        except BaseException as exc:
            if program.closing:
                raise
            self._was_cancelled |= isinstance(exc, asyncio.CancelledError) and not self._was_interrupted
            return Outcome(exception=exc)
        finally:
            if self._was_interrupted and self._task is not None and sys.version_info >= (3, 11):
                self._task.uncancel()  # for timeouts and task groups in what the program still waits for
            self._was_interrupted = False


def current_thread_program() -> ThreadProgram | None:
    """The program that runs in this thread, if any.

    Not in the tasks of an event loop that the program itself runs: waiting there would block that loop. (A loop that
    a sync caller has blocked, it has blocked anyway.)
    """
    program: ThreadProgram | None = getattr(_local, "program", None)
    return program if program is not None and asyncio._get_running_loop() is program.thread.blocked else None


async def run_in_thread(
    fn: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    submit: Callable[[Callable[[], None]], None] | None = None,
    *,
    computes: bool = False,
) -> T:
    """Run `fn(*args, **kwargs)` in a worker thread, bridged to the running loop.

    A calling thread that waits for it and has nothing to do, else one of the pool, unless `submit` starts the job in a
    certain one. The callers of several that do that hear of them in the order in which they end.

    Raises:
        BaseException: Whatever `fn` raises.
        asyncio.CancelledError: After the thread has left `fn`, if the task was cancelled meanwhile.
    """
    mailbox, in_order = mailbox_of(asyncio.get_running_loop()), submit is not None
    program = ThreadProgram(mailbox, in_order=in_order, computes=computes)
    context = getcurrent().gr_context
    fn = handling(sys.exc_info()[1], fn)

    def job() -> None:
        worker = greenlet(program.work)
        worker.gr_context = context
        worker.switch(handling(sys.exc_info()[1], fn), args, kwargs)

    try:
        if submit is not None:
            submit(job)
        else:
            program.thread.begin(job)
    except RuntimeError:
        # There are no threads, none at all: so it is once the main thread of Python 3.12 has ended.
        return await drive(Program(), fn, args, kwargs)
    return cast("T", await program.serve())


def _end() -> None:
    """Let programs in workers come to their end with the main thread, but not wait for loops that will not go on."""
    global _process_ends
    _process_ends = True
    for program, request in list(_waiting.items()):
        if not program.loop.is_running():
            program.thread.post(request, None)
    join_workers()


with suppress(RuntimeError):  # imported while the process ends
    threading._register_atexit(_end)  # type: ignore[attr-defined]  # before the executors', which programs may use


def _after_fork() -> None:
    """A child has the thread that forked, but neither the loop on the other side nor a thread that waits for it."""
    global _computing
    _computing = threading.Lock()
    _waiting.clear()
    _local.__dict__.clear()
    calling_thread.set(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
