"""Identical cached LM calls in flight at the same time make one request.

A sequential program that makes a call twice pays once: the second is a cache hit. Made concurrently, both would
miss. So while a call that will fill the cache is under way, equal ones wait; then they make *their own* call,
which finds the cache filled. Each keeps its history entry, callbacks and usage, exactly those of the sequential
program. If the first fails or is cancelled, the next one takes its place.

Because every call is really made, the key below need not be exact: two calls mistaken for equal cost a wait,
two equal calls that are not recognised cost a request.
"""

from __future__ import annotations

import asyncio
from typing import Any

import dspy

__all__ = ["call_once"]

_flights: dict[tuple[Any, ...], asyncio.Future[bool]] = {}


def _key(lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """What makes two calls equal; None if the call does not use the cache."""
    if not isinstance(lm, dspy.LM) or not kwargs.get("cache", lm.cache):
        return None
    if not (dspy.cache.enable_memory_cache or dspy.cache.enable_disk_cache):
        return None
    return asyncio.get_running_loop(), type(lm), lm.model, lm.model_type, repr((args, kwargs, lm.kwargs))


async def call_once(lm: Any, *args: Any, **kwargs: Any) -> Any:
    """`await lm.acall(*args, **kwargs)`, after an equal call that is in flight."""
    key = _key(lm, args, kwargs)
    if key is None:
        return await lm.acall(*args, **kwargs)
    while (first := _flights.get(key)) is not None:
        # Shielded: whoever waits here may be cancelled alone.
        if await asyncio.shield(first):
            return await lm.acall(*args, **kwargs)
    flight = _flights[key] = asyncio.get_running_loop().create_future()
    filled = False
    try:
        result = await lm.acall(*args, **kwargs)
        filled = True
        return result
    finally:
        del _flights[key]
        flight.set_result(filled)
