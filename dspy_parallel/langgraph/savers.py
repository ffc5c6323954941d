"""Checkpoint savers without async methods, and savers that belong to another event loop.

Under `ainvoke` LangGraph calls a saver's async methods. `SqliteSaver` and `PostgresSaver` have none that work, and
a subclass that overrides `put` alone means its own `put` to be called. The sync methods of such a saver run in one
worker thread that belongs to the saver, so that its accesses come one after the other; the storage is untouched.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar, cast

from langgraph.checkpoint.base import BaseCheckpointSaver

from ..bridge import is_waiting, run_sync
from ..errors import BridgeError
from ..seams.async_counterparts import is_counterpart, refuses

__all__ = ["adapted", "at_home", "needs_thread"]

T = TypeVar("T")

_CALLS = (
    *("get_tuple", "put", "put_writes", "delete_thread", "delete_for_runs", "copy_thread", "prune"),
    "get_delta_channel_history",
)


class _Threads:
    """One thread for each saver that needs one; it ends with the saver.

    By identity: a saver that is a dataclass can't be hashed, and equals others.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._executors: dict[int, concurrent.futures.ThreadPoolExecutor] = {}
        self._lock = threading.Lock()

    def of(self, saver: Any) -> concurrent.futures.ThreadPoolExecutor:
        with self._lock:
            executor = self._executors.get(id(saver))
            if executor is None:
                executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="dspy-parallel-saver")
                self._executors[id(saver)] = executor
                weakref.finalize(saver, self._executors.pop, id(saver), None).atexit = False
            return executor

    def after_fork(self) -> None:
        """Forget threads that exist only in the parent process."""
        self._reset()


_threads = _Threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.after_fork)

_adapters: weakref.WeakValueDictionary[int, _Adapter] = weakref.WeakValueDictionary()
"""By the identity of the saver, which its adapter keeps alive."""


def needs_thread(cls: type, name: str) -> bool:
    """Whether only the sync method of this pair does something."""
    return hasattr(cls, name) and not refuses(cls, name) and not is_counterpart(cls, name, f"a{name}")


def adapted(saver: Any) -> Any:
    """The saver itself if its async methods do what its sync ones do; else one whose async methods do.

    Args:
        saver: A checkpoint saver, or what LangGraph accepts in its place (None, True, False).
    """
    if not isinstance(saver, BaseCheckpointSaver) or isinstance(saver, _Adapter):
        return saver
    if not _is_adaptable(saver):
        return saver
    adapter = _adapters.get(id(saver))
    if adapter is None:
        adapter = _adapters[id(saver)] = _Adapter(saver)
    return adapter


def _is_adaptable(saver: Any) -> bool:
    return _home(saver) is not None or any(needs_thread(type(saver), name) for name in (*_CALLS, "list"))


def can_run_at(home: asyncio.AbstractEventLoop | None) -> bool:
    """Whether something can be sent to another loop: that one is running and is not waiting for us."""
    return home is not None and home.is_running() and not is_waiting(home)


async def at_home(home: asyncio.AbstractEventLoop | None, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await something on the loop that it belongs to, if that is another one and can be reached."""
    if home is None or home is asyncio.get_running_loop() or not can_run_at(home):
        return await call()
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), home))


def _home(saver: Any) -> asyncio.AbstractEventLoop | None:
    """The event loop that a saver like `AsyncSqliteSaver` was made on."""
    loop = vars(saver).get("loop")
    return loop if isinstance(loop, asyncio.AbstractEventLoop) else None


def _cannot_be_waited_for(home: asyncio.AbstractEventLoop | None) -> bool:
    """Whether the saver's loop has ended, or is blocked by the running code."""
    return home is not None and (asyncio._get_running_loop() is home or not can_run_at(home))


class _Adapter(BaseCheckpointSaver[Any]):
    """Stands in for a saver while a converted graph runs."""

    def __init__(self, saver: BaseCheckpointSaver[Any]) -> None:
        # Not super().__init__(): serializer and everything else are the saver's own.
        self._saver = saver
        self._turns: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        for name in _CALLS:
            # What the class doesn't define, it inherits as we do, and its parts are ours then.
            if getattr(type(saver), name, None) is not getattr(BaseCheckpointSaver, name, None):
                sync = getattr(saver, name)
                setattr(self, name, self._sync(name, sync))
                setattr(self, f"a{name}", self._async(name, sync))
        self.get_next_version = saver.get_next_version  # type: ignore[method-assign]

    def __getattr__(self, name: str) -> Any:
        if name == "_saver":  # while being copied
            raise AttributeError(name)
        return getattr(self._saver, name)

    @property
    def config_specs(self) -> Any:
        return self._saver.config_specs

    def with_allowlist(self, extra_allowlist: Any) -> Any:
        clone = self._saver.with_allowlist(extra_allowlist)
        return self if clone is self._saver else adapted(clone)

    def _sync(self, name: str, sync: Callable[..., Any]) -> Callable[..., Any]:
        """The saver's own; where that would wait for its loop in vain, the async one on the loop of sync callers."""

        @functools.wraps(sync)
        def method(*args: Any, **kwargs: Any) -> Any:
            if _cannot_be_waited_for(_home(self._saver)):
                return run_sync(functools.partial(getattr(self, f"a{name}"), *args, **kwargs))
            return sync(*args, **kwargs)

        return method

    def list(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        if not _cannot_be_waited_for(_home(self._saver)):
            return self._saver.list(*args, **kwargs)

        async def collect() -> list[Any]:
            return [item async for item in self.alist(*args, **kwargs)]

        return iter(cast("Any", run_sync(collect)))

    def _async(self, name: str, sync: Callable[..., Any]) -> Callable[..., Any]:
        twin = getattr(self._saver, f"a{name}", None)
        in_thread = twin is None or needs_thread(type(self._saver), name)

        # LangGraph reads this signature, to see whether `put_writes` takes a task path.
        @functools.wraps(sync if in_thread else cast("Any", twin))
        async def method(*args: Any, **kwargs: Any) -> Any:
            if in_thread:
                return await self._in_thread(name, functools.partial(sync, *args, **kwargs))
            return await self._at_home(functools.partial(cast("Any", twin), *args, **kwargs))

        return method

    async def alist(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        if needs_thread(type(self._saver), "list"):
            # All at once: a cursor must not be left open while other calls use the connection.
            for item in await self._in_thread("list", lambda: [*self._saver.list(*args, **kwargs)]):
                yield item
            return

        async def collect() -> list[Any]:
            return [item async for item in self._saver.alist(*args, **kwargs)]

        for item in await self._at_home(collect):
            yield item

    async def _in_thread(self, name: str, call: Callable[[], Any]) -> Any:
        home, owner = _home(self._saver), type(self._saver).__qualname__
        if home is not None and is_waiting(home):
            raise BridgeError(
                f"{owner}.{name}() has no async counterpart, and was called for a graph that blocks the event loop "
                f"which the {owner} belongs to: it may wait for that loop, and then for good. Await the graph's async "
                f"method there, call the sync one in another thread, or override a{name}() as well."
            )
        context = contextvars.copy_context()
        executor = _threads.of(self._saver)
        return await asyncio.get_running_loop().run_in_executor(executor, context.run, call)

    async def _at_home(self, call: Callable[[], Any]) -> Any:
        home, here = _home(self._saver), asyncio.get_running_loop()
        if home is None or home is here or can_run_at(home):
            return await at_home(home, call)
        # Its loop has ended, or waits for us. The saver's asyncio lock would belong to this loop for good as soon
        # as somebody had to wait for it here.
        if self._turns is None or self._turns[0] is not here:
            self._turns = here, asyncio.Lock()
        async with self._turns[1]:
            return await call()
