"""How sync code waits for a graph's async methods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..bridge import is_waiting, run_sync

__all__ = ["at_home", "can_run_at", "wait_for"]

T = TypeVar("T")


def wait_for(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Wait for the coroutine that `call` makes: on the persistent loop, or suspending inside the bridge."""

    async def program() -> T:
        return await call()

    return run_sync(program)  # type: ignore[return-value]


def can_run_at(home: asyncio.AbstractEventLoop | None) -> bool:
    """Whether something can be sent to another loop: that one is running and is not waiting for us."""
    return home is not None and home.is_running() and not is_waiting(home)


async def at_home(home: asyncio.AbstractEventLoop | None, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await something on the loop that it belongs to, if that is another one and can be reached."""
    if home is None or home is asyncio.get_running_loop() or not can_run_at(home):
        return await call()
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), home))
