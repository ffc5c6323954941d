"""One event loop in a thread of its own, for callers that have none.

It lives as long as the process, so that HTTP connection pools, which belong to a loop, outlive a single call.
(A fresh `asyncio.run` per call closes them each time, and is where "Event loop is closed" errors come from.)

anyio's blocking portal does nearly this. It is not used because its cancellation repeats until the task has
ended, so that cleanup which awaits would be cancelled too; a program's cleanup must run as in asyncio.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

from ..callables import is_coroutine_function
from ..errors import BridgeError
from ..thread_pool import LoopExecutor
from .caller_thread import CallingThread
from .engines import await_, current_program, in_bridge, start
from .kernel import StoppedProgram
from .mailbox import Mailbox
from .thread_program import ThreadProgram

__all__ = ["run_plainly", "run_sync", "serving_loop"]

T = TypeVar("T")

logger = logging.getLogger("dspy_parallel")

STEP_SECONDS = 10.0
"""No step of a loop takes longer, but one that never ends, and must not keep the process."""


class _LoopThread:
    """The loop, in a daemon thread that ends with the process.

    It is not stopped at exit: functions registered with `atexit`, and threads that outlive the main thread, are served
    to the last. Daemon threads that still wait for their programs end without a word, as all daemon threads do. Behind
    the last function it stands still between two steps: the interpreter would stop it anywhere, also in an import, and
    then a finalizer that imports waits for the import lock for good.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(LoopExecutor())
        self.mailbox = Mailbox(self.loop)
        self._going_on = threading.Lock()
        self.thread = threading.Thread(target=self._serve, name="dspy-parallel-loop", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        while True:
            try:
                self.loop.run_forever()
            except BaseException as exc:
                # SystemExit or KeyboardInterrupt in a task that a program left behind. Others need this loop.
                # Its text may be anybody's.
                what = type(exc).__name__
                logger.error("A task on the event loop that serves sync callers tried to end it by %s.", what)

    def stand_still(self) -> None:
        """Return when it is between two steps, where it stays until somebody asks for it once more."""
        stands = threading.Event()

        def stand() -> None:
            stands.set()
            with self._going_on:
                pass

        self._going_on.acquire()
        self.loop.call_soon_threadsafe(stand)
        stands.wait(STEP_SECONDS)

    def go_on(self) -> None:
        """Undo that."""
        if self._going_on.locked():
            self._going_on.release()


_loop_thread: _LoopThread | None = None
_inherited: list[_LoopThread] = []
_lock = threading.Lock()


def _the_loop_thread() -> _LoopThread:
    global _loop_thread
    with _lock:
        if _loop_thread is None:
            _loop_thread = _LoopThread()
        _loop_thread.go_on()
        return _loop_thread


@atexit.register
def _stand_still() -> None:
    if _loop_thread is not None:
        _loop_thread.stand_still()


def _after_fork() -> None:
    # The child has the loop object but no thread that runs it; it makes one of its own when it needs it. The
    # inherited one must not even be collected: closing it would take the parent's wake-up call off the selector that
    # both share.
    global _loop_thread, _lock
    _lock = threading.Lock()
    if _loop_thread is not None:
        _inherited.append(_loop_thread)
    _loop_thread = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def serving_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that work of the calling code belongs on.

    That is its program's own, or outside of programs the one that serves sync callers; None in callbacks and
    coroutines on that very loop, which can only block it.
    """
    program = current_program()
    if isinstance(program, ThreadProgram):
        return program.loop
    if in_bridge():
        return asyncio.get_running_loop()
    served = _the_loop_thread()
    return None if served.thread is threading.current_thread() else served.loop


def run_sync(fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Run a program for a sync caller, and wait.

    A sync function runs here, in the caller's thread and context; what it waits for is awaited on the loop that serves
    sync callers. So is what a coroutine function gives; the thread is then free for programs started below it. Inside
    a bridged program it is a plain call that can suspend.

    Raises:
        BridgeError: When called from a callback or coroutine on the very loop that would have to run it.
        BaseException: Whatever `fn` raises.
    """
    return cast("T", _run(partial(fn, *args, **kwargs), is_plain=False))


def run_plainly(fn: Callable[[], T], /) -> T:
    """`run_sync()` for a caller that has made a plain sync call, and is to be refused what that is refused.

    Raises:
        BridgeError: As `run_sync()`.
        BaseException: Whatever `fn` raises.
    """
    return cast("T", _run(fn, is_plain=True))


def _run(fn: Callable[[], Any], *, is_plain: bool) -> Any:
    call = partial(_wait_for, fn) if is_coroutine_function(fn) else fn
    try:
        if in_bridge():
            return call()
        try:
            served = _the_loop_thread()
        except RuntimeError:  # Python 3.12 starts no thread once the main thread has ended
            return _run_on_loop_of_its_own(call)
        if served.thread is threading.current_thread():
            raise BridgeError(
                "run_sync() was called on the event loop that serves sync callers, in code that is not bridged: it "
                "would wait for itself. Await run() there instead."
            )
        thread = CallingThread(asyncio._get_running_loop(), is_callers=True, is_plain=is_plain)
        return ThreadProgram(served.mailbox, thread, has_task=False).run(call, (), {})
    except StoppedProgram as stopped:
        stop = stopped.__cause__
        assert stop is not None
    raise stop


def _wait_for(fn: Callable[[], Any]) -> Any:
    program = current_program()
    # None inside another library's greenlet.
    return await_(fn()) if program is None else program.wait_for(fn(), is_free=True)


def _run_on_loop_of_its_own(call: Callable[[], Any]) -> Any:
    loop = asyncio.new_event_loop()
    loop.set_default_executor(LoopExecutor())
    try:
        return loop.run_until_complete(start(call, (), {}))
    finally:
        loop.close()
