"""Timers that are due as soon as what they limit has come to the point: no time has to be long or short enough."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["running_loop", "skipping"]


@contextmanager
def skipping(loop: asyncio.AbstractEventLoop, seconds: float) -> Generator[None]:
    """Have a loop's clock be so much later in the block, from whatever thread.

    Of asyncio's loops only, whose method can be replaced.
    """

    def skip(offset: float) -> None:
        time = type(loop).time
        vars(loop)["time"] = lambda: time(loop) + offset

    loop.call_soon_threadsafe(skip, seconds)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(vars(loop).pop, "time", None)


async def running_loop() -> asyncio.AbstractEventLoop:
    """For `await_()`."""
    return asyncio.get_running_loop()
