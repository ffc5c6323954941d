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
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import dspy

from .. import events
from .async_counterparts import running_counterparts
from .cache_keys import uses_cache

__all__ = ["call_once"]

Outcome = Literal["filled", "failed", "cancelled"]

_flights: dict[tuple[Any, ...], asyncio.Future[Outcome]] = {}

PATIENCE = 2
"""How many failures of others a call waits for. If a provider is down, calls must not fail one after the other."""

_NOT_IN_CACHE_KEYS = ("api_key", "api_base", "base_url")


def _key(lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """What makes two calls equal; None if the call does not use the cache."""
    if not isinstance(lm, dspy.LM) or not uses_cache(lm, kwargs):
        return None
    if any(isinstance(owner, dspy.BaseLM) for owner in running_counterparts()[:-1]):
        return None  # a call that another LM makes: it might wait for the very call that it is a part of
    settings = {name: value for name, value in {**lm.kwargs, **kwargs}.items() if name not in _NOT_IN_CACHE_KEYS}
    return asyncio.get_running_loop(), type(lm), lm.model, lm.model_type, repr((args, settings))


async def call_once(lm: Any, acall: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
    """`await acall(*args, **kwargs)`, after an equal call that is in flight."""
    key = _key(lm, args, kwargs)
    if key is None:
        return await acall(*args, **kwargs)
    patience = PATIENCE
    while (first := _flights.get(key)) is not None:
        started = time.perf_counter()
        # Shielded: whoever waits here may be cancelled alone.
        ended = await asyncio.shield(first)
        events.waited("equal call", started)
        patience -= ended == "failed"
        if ended == "filled" or not patience:
            return await acall(*args, **kwargs)
    flight = _flights[key] = asyncio.get_running_loop().create_future()
    outcome: Outcome = "cancelled"
    try:
        result = await acall(*args, **kwargs)
        outcome = "filled"
        return result
    except Exception:
        outcome = "failed"
        raise
    finally:
        del _flights[key]
        flight.set_result(outcome)
