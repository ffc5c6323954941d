"""Functions that are declared pure: their results are shared between main line and scout."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from ..bridge import await_, in_bridge
from .outside import private_copy
from .session import Call, current

__all__ = ["shared"]


def shared(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function that takes the scout's result, if the scout was first."""

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return _call(call, fn, args, kwargs)

    return call


def _call(key: Any, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a pure function, or take the other side's result."""
    now = current.get()
    if now is None or now.session.is_closed or now.side == "scout" or not in_bridge():
        return fn(*args, **kwargs)
    call = now.session.begin(Call("main", key, private_copy((args, kwargs))))
    twin = call.twin if call.came_second else None
    try:
        if twin is None or not twin.is_issued:
            result = fn(*args, **kwargs)
        else:
            await_(_ended(twin))
            # If it failed, it fails here in its own place.
            result = private_copy(twin.result) if twin.has_ended and twin.failure is None else fn(*args, **kwargs)
    except BaseException as exc:
        now.session.end(call, failure=exc)
        raise
    now.session.end(call, result)
    return result


async def _ended(call: Call) -> None:
    while call.task is None and not call.was_cancelled:  # noqa: ASYNC110 - it begins in the next turn of the loop
        await asyncio.sleep(0)
    if call.task is not None:
        await asyncio.wait([call.task])
