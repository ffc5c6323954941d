"""Places where a program waits or computes until a test has seen it there."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Sequence

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
        assert self.released.wait(100)


async def ticks(n: int) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


def gone(references: Sequence[weakref.ref], *, collect: bool = True, patience: float = 100.0) -> bool:
    """Whether nothing keeps the objects alive; a worker may be a few instructions away from dropping its last job."""
    deadline = time.monotonic() + patience
    while any(reference() is not None for reference in references):
        if time.monotonic() > deadline:
            return False
        if collect:
            gc.collect()
        threading.Event().wait(0.01)
    return True


async def cancelled(task: asyncio.Task) -> None:
    with pytest.raises(asyncio.CancelledError):
        await task
