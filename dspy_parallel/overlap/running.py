"""A program's run with a scout ahead."""

# pyright: reportUnusedImport=false
from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from .. import bridge, seams
from ..bridge import Engine
from . import entrance, predictors, silence, wire  # noqa: F401 - their seams
from .entrance import Overlap
from .scout import Scout
from .session import Current, Session, current
from .worth import is_worth_it

__all__ = ["is_worth_it", "run_ahead"]


async def run_ahead(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    engine: Engine,
    known_as: Any,
    how: Overlap,
    watch: Callable[[Session, Scout], None] | None = None,
) -> Any:
    """`bridge.start()`, with a scout ahead if there is none yet and it can gain anything."""
    seams.install()
    outer = current.get()
    if (outer is not None and not outer.session.is_closed) or (watch is None and not is_worth_it(fn)):
        return await bridge.start(fn, args, kwargs, engine, known_as)
    session = Session(asyncio.get_running_loop())
    scout = Scout(session, fn, args, kwargs, how)
    if watch is not None:
        watch(session, scout)
    tokens = current.set(Current(session, "main", None)), entrance.enter()
    # The main line goes first. Where it waits for the first time, it is the scout's turn: a program that waits for
    # nothing, or for one thing after the other, loses no time to it.
    ahead = session.loop.call_soon(scout.go)
    try:
        return await bridge.start(fn, args, kwargs, engine, known_as)
    finally:
        ahead.cancel()
        session.close()
        scout.close()
        current.reset(tokens[0])
        entrance.leave(tokens[1])
