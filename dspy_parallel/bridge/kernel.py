"""Synchronous code that can wait for the event loop without blocking its thread.

A *program* is one run of a sync function inside a greenlet. `drive()` is the coroutine that stands for
it on the event loop, and `Program.wait_for()` is how the program waits: it steps the awaited coroutine
*inside* the program's greenlet and switches to the driver only with what that coroutine yields, that is,
with the futures that asyncio expects. The driver yields them on to the task. Hence:

- there is no extra task: `asyncio.current_task()`, cancellation and timeouts are those of the caller;
- the awaited coroutine runs inside the program too, so that sync code called from it can wait in turn;
- an exception keeps one natural traceback from the coroutine through the sync frames to the caller.

Two rules keep this correct, both found by breaking them:

- Before every switch the program's parent is set to the greenlet that is running now. A task that was
  started eagerly (`asyncio.eager_task_factory`) takes its first step in whatever greenlet created it and
  all later ones in the loop's.
- A program belongs to one task. Code that runs eagerly inside a program's greenlet but in another task is
  not in the bridge: if it switched, it would suspend somebody else's step.

Greenlets as stackful coroutines on asyncio are the method of SQLAlchemy's `greenlet_spawn` and of
oremanj/greenback; the marker attribute below is SQLAlchemy's protocol for sharing a greenlet.
"""

from __future__ import annotations

import asyncio
import contextvars
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

from ..errors import BridgeError
from ..placement import SliceMeter

__all__ = [
    "Program",
    "StoppedProgram",
    "chain",
    "close_unused",
    "current_greenlet_program",
    "drive",
    "handling",
    "is_suspendable",
]

T = TypeVar("T")


class StoppedProgram(RuntimeError):
    """A program raised StopIteration, its `__cause__`, which no coroutine lets out (PEP 479)."""

    def __init__(self, stop: StopIteration) -> None:
        super().__init__("coroutine raised StopIteration")
        self.__cause__ = stop


class Program(greenlet):
    """One run of a sync function on the event loop's own thread, for the running task.

    Args:
        context: Where its context variables live; by default, the caller's own context, shared.
        strict: Whether work that needs a thread is an error in it.
        meter: Measures for how long it keeps the loop from others.
    """

    # SQLAlchemy's `await_only` accepts any greenlet with this marker and switches to its parent with the
    # awaitable itself; drive() understands that.
    __sqlalchemy_greenlet_provider__ = True

    __slots__ = ("closing", "driven", "exited", "meter", "refusal", "strict", "task")

    def __init__(
        self, context: contextvars.Context | None = None, *, strict: bool = False, meter: SliceMeter | None = None
    ) -> None:
        here = getcurrent()
        super().__init__(_body, here)
        self.gr_context = here.gr_context if context is None else context
        self.task: asyncio.Task[Any] | None = asyncio.current_task()
        self.strict = strict
        self.meter = meter
        self.refusal: Exception | None = None
        self.closing = False
        self.driven = False
        self.exited: GreenletExit | None = None

    def wait_for(self, awaitable: Awaitable[T], *, is_free: bool = False) -> T:
        """Suspend the program until the awaitable is done; called in the program's own greenlet.

        `is_free` is for programs that have a thread: whether others may use it meanwhile. The loop's serves all anyway.
        """
        if self.refusal is not None:
            # A strict program has caught the error that says so, which must not become a prompt: it gets no further.
            close_unused(awaitable)
            raise self.refusal
        # A coroutine that somebody else has begun to await must not be stepped: `await` raises what is right.
        is_fresh = isinstance(awaitable, types.CoroutineType) and awaitable.cr_await is None
        steps: Any = awaitable if is_fresh else _await(awaitable)
        value: Any
        failure: BaseException | None
        try:
            yielded = steps.send(None)
            while True:
                if self.closing:
                    raise BridgeError(
                        "await_() had to wait while its program was being closed (GeneratorExit), where nothing can "
                        "wait any more. Cancel the task and await it instead of closing its coroutine."
                    )
                value = failure = None
                self.driven = False
                try:
                    value = _running().parent.switch((yielded,))
                except BaseException as exc:
                    failure = exc
                while not self.driven:
                    value, failure = _pass_on(value, failure)
                if failure is None:
                    yielded = steps.send(value)
                else:
                    # Outside the except clause, or it would become the context of unrelated exceptions.
                    try:
                        yielded = steps.throw(failure)
                    finally:
                        failure = None  # no cycle between a traceback and this frame
        except StopIteration as stop:
            # A coroutine never lets a StopIteration of its own out (PEP 479): this is its return.
            return stop.value  # type: ignore[no-any-return]
        finally:
            steps.close()


_running: Callable[[], Any] = getcurrent
"""The running program, where it can only be one."""


def _body(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T | None:
    """A program's outermost frame.

    It keeps no reference to its greenlet: a suspended one that its own frames refer to would never be collected.
    """
    try:
        return fn(*args, **kwargs)
    except GreenletExit as exc:
        _running().exited = exc  # greenlet would turn it into a result
        return None
    except StopIteration as stop:
        raise StoppedProgram(stop) from stop
    finally:
        # No cycle between the task and the traceback of its exception.
        _running().task = None


def _pass_on(value: Any, failure: BaseException | None) -> tuple[Any, BaseException | None]:
    """Hand something to the running program's driver.

    Also what was not for the program: a greenlet of SQLAlchemy that was created in a task started eagerly inside
    this program keeps it for a parent. Resumed by the event loop, it switches here, but means whoever resumed it.
    """
    parent = _running().parent
    try:
        if failure is None:
            return parent.switch(value), None
        return parent.throw(type(failure), failure, failure.__traceback__), None
    except BaseException as exc:
        return None, exc


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


def close_unused(awaitable: object) -> None:
    """Close a coroutine that will not be awaited; leave tasks and futures to their owners."""
    if isinstance(awaitable, types.CoroutineType):
        awaitable.close()


def chain(exception: BaseException, handled: BaseException | None) -> None:
    """Make `handled` what the exception happened in, as Python does for frames on one stack.

    Greenlets and threads have a stack of their own, where the exception that the caller handles is not seen.
    """
    known: set[int] = set()  # no cycles: both chains may share links
    link = handled
    while link is not None and id(link) not in known:
        known.add(id(link))
        link = link.__context__
    while handled is not None and id(exception) not in known:
        known.add(id(exception))
        if exception.__context__ is None:
            exception.__context__ = handled
            return
        exception = exception.__context__


def handling(handled: BaseException | None, fn: Callable[..., T]) -> Callable[..., T]:
    """The function, called while this is handled: `sys.exc_info()` and a bare `raise` find it, as on one stack."""
    if handled is None:
        return fn

    def call(*args: Any, **kwargs: Any) -> T:
        nonlocal handled
        assert handled is not None
        before: Any = handled.__traceback__, handled.__context__
        try:
            raise handled
        except BaseException:
            handled.__traceback__, handled.__context__ = before
            handled = before = None  # no cycle between a traceback and this frame
            return fn(*args, **kwargs)

    return call


def _is_running(program: Program) -> bool:
    # While it is being closed there may be no task, or no running loop. Nothing can wait then, see wait_for().
    if program.closing:
        return True
    try:
        return program.task is asyncio.current_task()
    except RuntimeError:  # no running loop, for instance in a forked child
        return False


def current_greenlet_program() -> Program | None:
    """The program whose code is running now in this thread and task, if any."""
    current = getcurrent()
    return current if type(current) is Program and _is_running(current) else None


def is_suspendable() -> bool:
    """Whether the running greenlet is another library's inside one of ours, able to wait through its own driver.

    That is the case in SQLAlchemy's `AsyncSession.run_sync` called from a program.
    """
    current: Any = getcurrent()
    if not getattr(current, "__sqlalchemy_greenlet_provider__", False):
        return False
    while current is not None:
        if type(current) is Program:
            return _is_running(current)
        current = current.parent
    return False


@types.coroutine
def drive(
    program: Program, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Any, Any, T]:
    """Run `fn(*args, **kwargs)` as this program and wait for its result.

    Must be awaited in the task that created the program.

    Raises:
        BaseException: Whatever `fn` raises. Cancellation is raised in `fn` at the point where it waits.
    """
    step: Callable[..., Any] = program.switch
    payload: tuple[Any, ...] = (fn, args, kwargs)
    meter = program.meter
    while True:
        program.parent = getcurrent()
        program.driven = True
        if meter is not None:
            meter.begin()
        try:
            message = step(*payload)
        finally:
            payload = ()  # no cycle between a traceback and this frame
        if meter is not None:
            meter.end()
        if program.dead:
            if program.exited is not None:
                raise program.exited
            return message  # type: ignore[no-any-return]
        try:
            # A tuple holds what a stepped coroutine yielded; anything else came from a library that
            # switched to its parent with an awaitable of its own.
            value = (yield message[0]) if type(message) is tuple else (yield from _await(message).__await__())
        except GeneratorExit as exc:
            program.closing = True
            step, payload = program.throw, (exc,)
        except BaseException as exc:
            # With its traceback, which greenlet would take away: that of another task leads to the line that failed.
            step, payload = program.throw, (type(exc), exc, exc.__traceback__)
        else:
            step, payload = program.switch, (value,)
