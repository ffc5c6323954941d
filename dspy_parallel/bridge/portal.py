"""One event loop in a thread of its own, for callers that have none.

It lives as long as the process, so that HTTP connection pools, which belong to a loop, outlive a single call.
(A fresh `asyncio.run` per call closes them each time, and is where "Event loop is closed" errors come from.)

anyio's blocking portal does nearly this. It is not used because its cancellation repeats until the task has
ended, so that cleanup which awaits would be cancelled too; a program's cleanup must run as in asyncio.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextvars
import logging
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ..errors import BridgeError
from .engines import Engine, await_, check_engine, in_bridge, is_coroutine_function, start
from .threads import Outcome
from .waits import Wait, is_own

__all__ = ["run_sync", "serving_loop"]

T = TypeVar("T")
_MISSING = object()

logger = logging.getLogger("dspy_parallel")

EXIT_SECONDS = 5.0
"""How long the interpreter's exit waits for programs that are still being cancelled."""


class _Portal:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.stopping = False
        self._thread = threading.Thread(target=self._serve, name="dspy-parallel-loop", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            while not self.stopping:
                try:
                    self.loop.run_forever()
                except BaseException as exc:
                    # SystemExit or KeyboardInterrupt in a task that a program left behind. Others need this loop.
                    # Its text may be anybody's.
                    what = type(exc).__name__
                    logger.error("A task on the event loop that serves sync callers tried to end it by %s.", what)
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()

    @property
    def is_mine(self) -> bool:
        """Whether the calling thread is this loop's own."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        self.stopping = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(EXIT_SECONDS)


_portal: _Portal | None = None
_inherited: list[_Portal] = []
_lock = threading.Lock()


def _the_portal() -> _Portal:
    global _portal
    with _lock:
        if _portal is None:
            _portal = _Portal()
            atexit.register(_stop)
        return _portal


def _stop() -> None:
    global _portal
    with _lock:
        portal, _portal = _portal, None
    if portal is not None:
        portal.stop()


def _after_fork() -> None:
    # The child has the loop object but no thread that runs it; it makes one of its own when it needs it. The
    # inherited one must not even be collected: closing it would take the parent's wake-up call off the selector that
    # both share.
    global _portal, _lock
    _lock = threading.Lock()
    if _portal is not None:
        _inherited.append(_portal)
    _portal = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def serving_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that work of the calling code belongs on.

    That is its program's own, or outside of programs the one that serves sync callers; None in callbacks and
    coroutines on that very loop, which can only block it.
    """
    if in_bridge():
        return await_(_running_loop())
    portal = _the_portal()
    return None if portal.is_mine else portal.loop


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def run_sync(fn: Callable[..., T], /, *args: Any, engine: Engine = "auto", **kwargs: Any) -> T:
    """Run a program from sync code and wait for its result.

    The program runs on one event loop that this process keeps in a thread of its own, with a copy of the caller's
    context; context variables that it sets are set here afterwards. It works from any thread, also from one with
    a running loop, as in a notebook (which it blocks, as every sync call does). Inside a bridged program it is a
    plain call that can suspend. Ctrl-C cancels the program and waits until it has unwound.

    Args:
        fn: A sync function, or a coroutine function.
        *args: Passed on.
        engine: `"auto"`, `"loop"` or `"thread"`, see `run()`.
        **kwargs: Passed on.

    Returns:
        What `fn` returns.

    Raises:
        UnknownEngineError: For an unknown engine.
        BridgeError: When called from a callback or coroutine on the very loop that would have to run it.
        BaseException: Whatever `fn` raises.

    Example:
        ```python
        import asyncio
        from dspy_parallel import await_, run_sync

        def program(n):
            await_(asyncio.sleep(0))
            return n + 1

        assert run_sync(program, 1) == 2
        ```
    """
    check_engine(engine)
    if in_bridge():
        return await_(fn(*args, **kwargs)) if is_coroutine_function(fn) else fn(*args, **kwargs)  # type: ignore[arg-type]
    portal = _the_portal()
    if portal.is_mine:
        raise BridgeError(
            "run_sync() was called on the event loop that serves sync callers, in code that is not bridged: it would "
            "wait for itself. Await run() there instead."
        )
    done: concurrent.futures.Future[tuple[Outcome, contextvars.Context]] = concurrent.futures.Future()
    tasks: list[asyncio.Task[None]] = []

    async def program() -> None:
        try:
            outcome = Outcome(await start(fn, args, kwargs, engine))
        except BaseException as exc:  # also SystemExit: it belongs to the caller, not to the shared loop
            # A cancel by _stop() finds only daemon threads still waiting. They are to end without a word.
            ended = portal.stopping and isinstance(exc, asyncio.CancelledError)
            outcome = Outcome(exception=SystemExit() if ended else exc)
        done.set_result((outcome, contextvars.copy_context()))

    def begin() -> None:
        tasks.append(portal.loop.create_task(program()))

    def cancel() -> None:
        if tasks:
            tasks[0].cancel()
        else:  # it was interrupted before it could ask for the program
            done.set_exception(concurrent.futures.CancelledError())

    context, wait = contextvars.copy_context(), Wait(portal.loop)
    wait.cover(context)
    try:
        portal.loop.call_soon_threadsafe(begin, context=context)
        outcome, context = done.result()
    except BaseException:  # raised in this thread: KeyboardInterrupt
        portal.loop.call_soon_threadsafe(cancel)
        concurrent.futures.wait([done])
        raise
    finally:
        wait.is_over = True
    for variable, value in context.items():
        if not is_own(variable) and variable.get(_MISSING) is not value:
            variable.set(value)
    return cast("T", outcome.unwrap())
