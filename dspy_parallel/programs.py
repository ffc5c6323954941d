"""`run()` and `run_sync()` for programs that call DSPy: the bridge, with the seams in place."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from . import bridge, seams
from .bridge import Engine

__all__ = ["run", "run_sync"]

T = TypeVar("T")


@functools.wraps(bridge.run)
async def run(fn: Callable[..., T], /, *args: Any, engine: Engine = "auto", **kwargs: Any) -> T:
    seams.install()
    return await bridge.run(fn, *args, engine=engine, **kwargs)


@functools.wraps(bridge.run_sync)
def run_sync(fn: Callable[..., T], /, *args: Any, engine: Engine = "auto", **kwargs: Any) -> T:
    seams.install()
    return bridge.run_sync(fn, *args, engine=engine, **kwargs)
