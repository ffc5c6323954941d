"""Places where a program waits or computes until a test has seen it there."""

from __future__ import annotations

import asyncio
import threading

import pytest


class Gate:
    """A coroutine waits here for good; the test knows when it has arrived."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()

    async def wait(self) -> None:
        self.arrived.set()
        await asyncio.get_running_loop().create_future()


class Computing:
    """A program computes (or blocks) here until the test lets it go on; for the thread engine."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.released = threading.Event()
        self._loop = asyncio.get_running_loop()

    def work(self) -> None:
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self.released.wait(30)


async def ticks(n: int) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def cancelled(task: asyncio.Task) -> None:
    with pytest.raises(asyncio.CancelledError):
        await task
