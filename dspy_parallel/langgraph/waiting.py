"""How sync code waits for a graph's async methods."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..bridge import in_bridge, run_sync

__all__ = ["blocked_loop", "wait_for"]

T = TypeVar("T")

blocked_loop: contextvars.ContextVar[asyncio.AbstractEventLoop | None] = contextvars.ContextVar(
    "dspy_parallel_blocked_loop", default=None
)
"""The event loop whose thread waits for the present run, so that nothing can be sent there."""


def wait_for(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end: on the persistent loop, or suspending inside the bridge."""
    loop = asyncio._get_running_loop()
    if loop is None or in_bridge():
        return run_sync(call)
    token = blocked_loop.set(loop)
    try:
        return run_sync(call)
    finally:
        blocked_loop.reset(token)
