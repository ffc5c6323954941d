"""Many programs in flight, as many at a time as allowed; started and waited for from any thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from .bridge.caller_thread import CallingThread, calling_thread
from .bridge.engines import needs_thread, start
from .bridge.kernel import StoppedProgram
from .bridge.mailbox import Mailbox
from .bridge.start_pace import SECONDS_PER_TURN
from .bridge.thread_program import ThreadProgram
from .placement import Placement

__all__ = ["Job", "TaskPool"]


@dataclass(eq=False)
class Job:
    """One program that is to run.

    Attributes:
        fn: The program, sync or a coroutine function.
        args: Its arguments.
        kwargs: Its keyword arguments.
        context: What it runs in; nobody else may use it.
        placement: Where it runs.
        run: What cancels it: from the beginning if it needs a thread, else as soon as it is a task.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    context: Context
    placement: Placement
    run: ThreadProgram | asyncio.Task[None] | None = field(default=None, init=False, repr=False)


class TaskPool:
    """Runs what it is given: as tasks of one loop, or in threads.

    A thread that has done with one program goes on with the next that needs a thread. If the loop had to start that,
    it would wait for the GIL first, among all the threads, and so would whoever takes the result.

    Args:
        loop: Where they run, or where their awaits run.
        limit: How many at a time; the others wait for their turn, in order.
        on_done: Called on the loop's thread, with the job, the result and the exception, whichever there is.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, limit: int, on_done: Callable[[Any, Any, BaseException | None], None]
    ) -> None:
        self._loop = loop
        self._mailbox = Mailbox(loop)
        self._limit = limit
        self._on_done = on_done
        # Made in code of another loop, it blocks that while it is waited for.
        running = asyncio._get_running_loop()
        self._blocked = CallingThread(running, is_callers=True) if running is not None and running is not loop else None
        self._caller = self._blocked or calling_thread.get()
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        self._at_work: set[Job] = set()
        self._is_due = False

    def submit(self, job: Job) -> None:
        """Have it run as soon as there is room; from any thread.

        Raises:
            RuntimeError: If the loop is closed.
        """
        if self._loop.is_closed():
            raise RuntimeError("Event loop is closed")
        if self._caller is not None:
            self._caller.cover(job.context)
        if needs_thread(job.fn, job.placement):
            computes = job.placement.computes
            job.run = job.context.run(ThreadProgram, self._mailbox, has_task=False, computes=computes)
        with self._lock:
            self._waiting.append(job)
            self._tell_whether_over()
        if asyncio._get_running_loop() is self._loop:
            self._fill_soon()
        else:
            self._fill_with_threads()

    def cancel(self, which: Callable[[Any], bool] = lambda _: True) -> None:
        """Cancel those that run, and have those that wait for their turn land cancelled; from any thread."""
        try:
            self._mailbox.post(partial(self._cancel, which))
        except RuntimeError:  # the loop is closed, and has cancelled its tasks
            pass

    # In any thread

    def _next(self, *, on_loop: bool) -> Job | None:
        """The job whose turn it is, if there is room.

        One for the loop is taken there only: between this and its first step nobody could cancel it.
        """
        with self._lock:
            if not self._waiting or len(self._at_work) >= self._limit:
                return None
            if on_loop or self._waiting[0].run is not None:
                job = self._waiting.popleft()
                self._at_work.add(job)
                return job
        self._fill_soon()
        return None

    def _fill_soon(self) -> None:
        if not self._is_due:  # it would take its time as often as it is called
            self._is_due = True
            try:
                self._mailbox.post(self._fill)
            except RuntimeError:  # the loop is closed, and a worker must not raise
                pass

    def _release(self, job: Job) -> None:
        with self._lock:
            self._at_work.discard(job)
            self._tell_whether_over()

    def _tell_whether_over(self) -> None:
        if self._blocked is not None:
            self._blocked.is_over = not self._at_work and not self._waiting

    def _fill_with_threads(self) -> None:
        while (job := self._next(on_loop=False)) is not None:
            self._begin(job)

    def _begin(self, job: Job) -> None:
        try:
            cast("ThreadProgram", job.run).thread.begin(partial(self._work, job))
        except RuntimeError:  # there are no threads, see `run_in_thread()`
            self._mailbox.post(partial(self._start, job))

    def _work(self, first: Job) -> None:
        is_callers = cast("ThreadProgram", first.run).thread.is_callers  # who has other things to do
        job: Job | None = first
        while job is not None:
            result = error = None
            run = cast("ThreadProgram", job.run).run
            try:
                result = job.context.run(run, job.fn, job.args, job.kwargs, is_callers=False)
            except BaseException as exc:  # whatever it is, it belongs to whoever waits for the program
                error = exc
            try:
                self._mailbox.post(partial(self._land, job, result, error))
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            del result, error, run
            self._release(job)
            if is_callers:
                self._fill_with_threads()
                return
            job = self._next(on_loop=False)

    # On the loop

    def _land(self, job: Job, result: Any, error: BaseException | None) -> None:
        self._loop.call_soon(self._on_done, job, result, error)  # which may raise; a mailbox's calls must not

    def _fill(self) -> None:
        self._is_due, since = False, time.perf_counter()  # first: what comes from now on may come too late for it
        while (job := self._next(on_loop=True)) is not None:
            if job.run is None:
                self._start(job)
            else:
                self._begin(job)
            if time.perf_counter() - since >= SECONDS_PER_TURN:  # threads take long to make
                self._fill_soon()
                return

    def _start(self, job: Job) -> None:
        # `create_task(context=...)` is new in Python 3.11. This makes the task's context a copy of that one.
        job.run = job.context.run(self._loop.create_task, self._run(job))
        job.run.add_done_callback(partial(self._ended, job))

    async def _run(self, job: Job) -> None:
        try:
            result = await start(job.fn, job.args, job.kwargs, job.placement)
        except StoppedProgram as stopped:
            self._on_done(job, None, stopped.__cause__)
        except BaseException as exc:
            self._on_done(job, None, exc)
        else:
            self._on_done(job, result, None)

    def _ended(self, job: Job, task: asyncio.Task[None]) -> None:
        job.run = None  # no cycle through its traceback
        self._release(job)
        self._fill()
        if task.cancelled():  # before its first step
            self._on_done(job, None, asyncio.CancelledError())
        elif (failure := task.exception()) is not None:  # of `on_done` itself
            raise failure

    def _cancel(self, which: Callable[[Any], bool]) -> None:
        with self._lock:
            dropped = [job for job in self._waiting if which(job)]
            self._waiting = deque(job for job in self._waiting if not which(job))
            at_work = [job for job in self._at_work if which(job)]
            self._tell_whether_over()
        for job in dropped:
            self._on_done(job, None, asyncio.CancelledError())
        for job in at_work:
            if job.run is not None:
                job.run.cancel()
