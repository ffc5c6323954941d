"""A sync iterator over an async one, which is run by one task from beginning to end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, TypeVar

from ..errors import BridgeError
from .waiting import wait_for

__all__ = ["iterate"]

T = TypeVar("T")
_END = object()


class _Pump(Generic[T]):
    """Takes items one by one, each when it is asked for.

    All in one task, because an async generator's cleanup must run in the task (and the cancel scopes and context)
    in which its body ran.
    """

    def __init__(self, make: Callable[[], AsyncIterator[T]]) -> None:
        self._make = make
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    async def next(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            self._wanted = asyncio.Semaphore(0)
            self._items: asyncio.Queue[tuple[Any, BaseException | None]] = asyncio.Queue()
            self._task = loop.create_task(self._run())
        elif self._loop is not loop:  # the iterator was handed over between loops
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._next(), self._loop))
        return await self._next()

    async def _next(self) -> Any:
        self._wanted.release()
        item, exc = await self._items.get()
        if exc is not None:
            raise exc
        return item

    async def _run(self) -> None:
        try:
            async with contextlib.aclosing(self._make()) as items:  # type: ignore[type-var]
                await self._wanted.acquire()
                async for item in items:
                    self._items.put_nowait((item, None))
                    await self._wanted.acquire()
        except asyncio.CancelledError as exc:
            self._items.put_nowait((None, exc))
            raise
        except BaseException as exc:
            self._items.put_nowait((None, exc))
        else:
            self._items.put_nowait((_END, None))

    async def close(self) -> None:
        if self._task is None or self._task.done():
            return
        self.cancel()
        if self._loop is asyncio.get_running_loop():
            await asyncio.wait([self._task])

    def cancel(self) -> None:
        if self._task is not None and self._loop is not None and not self._loop.is_closed():
            if self._loop is asyncio._get_running_loop():
                self._task.cancel()
            else:
                self._loop.call_soon_threadsafe(self._task.cancel)


def iterate(make: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
    """Iterate over an async iterator from sync code: on the persistent loop, or suspending inside the bridge.

    As with any generator, nothing happens before the first item is asked for, and closing the iterator early
    closes the async one, whose cleanup is waited for.
    """
    pump = _Pump(make)
    finished = False
    try:
        while True:
            item = wait_for(pump.next)
            if item is _END:
                finished = True
                return
            yield item
    finally:
        if not finished:
            try:
                wait_for(pump.close)
            except BridgeError:  # closed by the garbage collector, where nothing can wait
                pump.cancel()
