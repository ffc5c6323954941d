"""An event loop that notes where it stands still."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..bridge.meters import BLOCKED_SECONDS
from ..bridge.stretches import current_slot
from .findings import Place

__all__ = ["run_watched"]

T = TypeVar("T")


class _WatchedSelector(selectors.DefaultSelector):
    """Between two calls of `select()` the loop runs callbacks: that is a stretch, as the bridge's watch knows them."""

    def __init__(self) -> None:
        super().__init__()
        self.blocked: dict[Place, float] = {}

    def select(self, timeout: float | None = None) -> Any:
        slot = current_slot()
        seen, began = slot.seen, slot.started
        slot.seen, slot.started = None, 0.0
        if seen is not None and seen.started == began and seen.blocked >= BLOCKED_SECONDS:
            place = Place(seen.filename, seen.line, seen.function)
            self.blocked[place] = self.blocked.get(place, 0.0) + time.perf_counter() - began
        try:
            return super().select(timeout)
        finally:
            slot.on_loop = False  # what it finds is reported here, not in the log
            slot.started = time.perf_counter()


def run_watched(main: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, dict[Place, float]]:
    """Run a coroutine to its end on a loop of its own, as `asyncio.run` does.

    Returns:
        Its result, and the lines at which the loop stood still, with seconds.
    """
    selector = _WatchedSelector()
    loop = asyncio.SelectorEventLoop(selector)
    try:
        asyncio.set_event_loop(loop)
        result = loop.run_until_complete(main())
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        return result, dict(selector.blocked)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
        current_slot().started = 0.0
