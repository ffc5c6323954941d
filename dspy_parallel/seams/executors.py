"""Waiting for threads that somebody else has started: DSPy's own executor, `concurrent.futures`, `threading`.

The items of `dspy.Parallel` run in DSPy's threads, as many as the user asked for, and make their LM calls
there; only the waiting for them must not happen on the event loop. Futures say when they are done, so that
waiting for them takes no thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from ..bridge import await_, in_bridge
from .table import Seam, in_thread, register

__all__: list[str] = []


Tell = Callable[..., None]


def _wait(subscribe: Callable[[Tell], None], unsubscribe: Callable[[Tell], None], timeout: float | None) -> None:
    """Suspend the program until the subscribed function is called, in any thread, or the time is up."""

    async def wait() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def tell(*_: Any) -> None:
            try:
                loop.call_soon_threadsafe(done.set)
            except RuntimeError:  # the loop is closed: nobody waits any more
                pass

        subscribe(tell)
        # Not wait_for: a timeout is the original's business.
        waiter = asyncio.ensure_future(done.wait())
        try:
            await asyncio.wait([waiter], timeout=timeout)
        finally:
            waiter.cancel()
            unsubscribe(tell)

    await_(wait())


def _forget(future: Any, tell: Tell) -> None:
    """Undo `add_done_callback`: whoever asks again and again, with timeouts, must not leave one each time."""
    with future._condition:
        if not future.done():  # otherwise they are being called, one after the other
            future._done_callbacks.remove(tell)


def _result(original: Callable[..., Any], future: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    timeout = args[0] if args else kwargs.get("timeout")
    if future.done() or not (timeout is None or (isinstance(timeout, (int, float)) and timeout > 0)):
        return original(*args, **kwargs)
    _wait(future.add_done_callback, partial(_forget, future), timeout)
    # Either it is done by now or the time is up, which the original says in its own way.
    return original(*args, **kwargs) if future.done() else original(timeout=0)


class _Event(threading.Event):
    """What `as_completed()` and `wait()` wait for inside the bridge."""

    def __init__(self) -> None:
        super().__init__()
        self._told: list[Tell] = []

    def set(self) -> None:
        super().set()
        for tell in list(self._told):
            tell()

    def _subscribe(self, tell: Tell) -> None:
        self._told.append(tell)
        if self.is_set():
            tell()

    def wait(self, timeout: float | None = None) -> bool:
        if self.is_set() or not in_bridge() or (timeout is not None and timeout <= 0):
            return super().wait(timeout)
        _wait(self._subscribe, self._told.remove, timeout)
        return self.is_set()


def _make_waiter(original: Callable[..., Any], waiter: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """`as_completed` and `wait` are mostly imported by name; what they make inside is not."""
    original(*args, **kwargs)
    waiter.event = _Event()


def _join(original: Callable[..., Any], thread: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    timeout = args[0] if args else kwargs.get("timeout")
    if thread is threading.current_thread() or not (
        timeout is None or (isinstance(timeout, (int, float)) and timeout > 0)
    ):
        return original(*args, **kwargs)

    async def wait() -> None:
        # Threads tell nobody that they end. Those of an executor do so at once when it is left.
        pause, left = 0.0005, float("inf") if timeout is None else timeout
        while left > 0 and thread.is_alive():
            await asyncio.sleep(min(pause, left))
            left, pause = left - pause, min(pause * 2, 0.02)

    if thread.is_alive():
        await_(wait())
    return original(timeout=0) if thread.is_alive() else original()


register(
    Seam("dspy.utils.parallelizer:ParallelExecutor.execute", in_thread("dspy.Parallel waits for its threads")),
    Seam("concurrent.futures._base:Future.result", _result),
    Seam("concurrent.futures._base:Future.exception", _result),
    Seam("concurrent.futures._base:_Waiter.__init__", _make_waiter, optional=True),
    Seam("threading:Thread.join", _join),
)
