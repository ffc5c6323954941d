"""Waiting for threads that somebody else has started: DSPy's own executor, `concurrent.futures`, `threading`.

The items of `dspy.Parallel` run in DSPy's threads, as many as the user asked for, and make their LM calls
there; only the waiting for them must not happen on the event loop. Futures say when they are done, so that
waiting for them takes no thread.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from ..bridge import await_, in_bridge
from .table import Seam, in_thread, register

__all__ = ["BridgedEvent"]


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


class BridgedEvent(threading.Event):
    """What `as_completed()` and `wait()` wait for inside the bridge."""

    def __init__(self) -> None:
        super().__init__()
        self._told: list[Tell] = []

    def set(self) -> None:
        """See `threading.Event`."""
        super().set()
        for tell in list(self._told):
            tell()

    def _subscribe(self, tell: Tell) -> None:
        self._told.append(tell)
        if self.is_set():
            tell()

    def wait(self, timeout: float | None = None) -> bool:
        """See `threading.Event`; a bridged program is suspended."""
        if self.is_set() or not in_bridge() or (timeout is not None and timeout <= 0):
            return super().wait(timeout)
        _wait(self._subscribe, self._told.remove, timeout)
        return self.is_set()


def _make_waiter(original: Callable[..., Any], waiter: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """`as_completed` and `wait` are mostly imported by name; what they make inside is not."""
    original(*args, **kwargs)
    waiter.event = BridgedEvent()


_joined: dict[threading.Thread, list[Tell]] = {}
"""Threads whose end somebody waits for, and whom to tell."""
_lock = threading.Lock()


def _tell_of_end(thread: threading.Thread) -> None:
    thread.join()  # outside of the bridge: the original
    with _lock:
        told = _joined.pop(thread)
    for tell in told:
        tell()


def _subscribe(thread: threading.Thread, tell: Tell) -> None:
    """Threads tell nobody that they end, so that one more waits for each that is joined, however often that is.

    A worker of the bridge would not do: a cancelled program would have to wait until it comes back.
    """
    with _lock:
        is_first = thread not in _joined
        _joined.setdefault(thread, []).append(tell)
    if is_first:
        threading.Thread(target=_tell_of_end, args=(thread,), daemon=True, name="dspy-parallel-join").start()


def _unsubscribe(thread: threading.Thread, tell: Tell) -> None:
    with _lock:
        told = _joined.get(thread, [])
        if tell in told:
            told.remove(tell)


def _join(original: Callable[..., Any], thread: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    timeout = args[0] if args else kwargs.get("timeout")
    if thread is threading.current_thread() or not (
        timeout is None or (isinstance(timeout, (int, float)) and timeout > 0)
    ):
        return original(*args, **kwargs)
    if thread.is_alive():
        _wait(partial(_subscribe, thread), partial(_unsubscribe, thread), timeout)
    return original(timeout=0) if thread.is_alive() else original()


register(
    Seam("dspy.utils.parallelizer:ParallelExecutor.execute", in_thread("dspy.Parallel waits for its threads")),
    Seam("concurrent.futures._base:Future.result", _result),
    Seam("concurrent.futures._base:Future.exception", _result),
    Seam("concurrent.futures._base:_Waiter.__init__", _make_waiter),
    Seam("threading:Thread.join", _join),
)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _joined.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
