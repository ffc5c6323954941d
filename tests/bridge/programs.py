"""`run()` and `run_sync()` of the bridge alone, without what patches DSPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspy_parallel import bridge, placement

__all__ = ["run", "run_sync"]

PLACEMENTS = {
    "loop": placement.PINNED_TO_LOOP,
    "thread": placement.PINNED_TO_THREAD,
    "unpinned": placement.Placement("a program whose code is known", "loop"),
}


async def run(fn: Callable[..., Any], /, *args: Any, engine: str = "unpinned", **kwargs: Any) -> Any:
    return await bridge.start(fn, args, kwargs, PLACEMENTS[engine])


def run_sync(fn: Callable[..., Any], /, *args: Any, engine: str = "unpinned", **kwargs: Any) -> Any:
    if engine == "loop" and not bridge.in_bridge():
        return bridge.run_sync(bridge.start, fn, args, kwargs, PLACEMENTS[engine])
    return bridge.run_sync(fn, *args, **kwargs)
