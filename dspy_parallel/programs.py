"""`run()` and `run_sync()` for programs that call DSPy: the bridge, with the seams in place."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from . import bridge, seams
from .bridge import Engine
from .overlap import entrance

__all__ = ["run", "run_sync"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def _documented_as(original: Callable[..., Any]) -> Callable[[F], F]:
    # Not functools.wraps itself: type checkers would take the generic parameters for bound.
    def dress(fn: F) -> F:
        functools.update_wrapper(fn, original)
        return fn

    return dress


@_documented_as(bridge.run)
async def run(  # noqa: D103
    fn: Callable[..., T], /, *args: Any, engine: Engine = "auto", overlap: bool = False, **kwargs: Any
) -> T:
    seams.install()
    if overlap:
        bridge.check_engine(engine)
        result: T = await entrance.start(fn, args, kwargs, engine)
        return result
    return await bridge.run(fn, *args, engine=engine, **kwargs)


run.__doc__ = (bridge.run.__doc__ or "").replace(
    "        **kwargs: Passed on.\n",
    "        overlap: Whether independent predictor calls in `fn` run at once, see docs/overlap.md.\n"
    "        **kwargs: Passed on.\n",
)


@_documented_as(bridge.run_sync)
def run_sync(fn: Callable[..., T], /, *args: Any, engine: Engine = "auto", **kwargs: Any) -> T:  # noqa: D103
    seams.install()
    return bridge.run_sync(fn, *args, engine=engine, **kwargs)
