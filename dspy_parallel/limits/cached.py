"""Whether an LM call will be answered from DSPy's cache, and therefore needs no turn.

DSPy knows only after it has begun the call. So DSPy itself is asked: it prepares the call and looks into its cache,
as it will again for the call proper; where it would make the request, it is stopped.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
from collections.abc import Awaitable
from typing import Any

from ..seams.caching import uses_cache

__all__ = ["Probe", "is_cached", "is_cached_async", "is_probing"]


class Probe(BaseException):
    """Raised where a request would be made."""


_probing: contextvars.ContextVar[bool] = contextvars.ContextVar("dspy_parallel_probing", default=False)

is_probing = _probing.get
"""Whether the running code only wants to know if the cache has the answer."""


def is_cached(lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the sync call would be answered from the cache."""
    if not uses_cache(lm, kwargs):
        return False
    token = _probing.set(True)
    try:
        if (execution := _execution()) is not None:
            return bool(execution._cached(lm, _prepared(execution, lm, args, kwargs, asynchronous=False), False))
        lm.forward(*args, **kwargs)
        return True
    except (Exception, Probe):  # what is wrong with the call, the call itself will say
        return False
    finally:
        _probing.reset(token)


async def is_cached_async(lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the async call would be answered from the cache; the two have different keys."""
    if not uses_cache(lm, kwargs):
        return False
    token = _probing.set(True)
    try:
        if (execution := _execution()) is not None:
            call = _prepared(execution, lm, args, kwargs, asynchronous=True)
            return bool(await asyncio.to_thread(execution._cached, lm, call, True))  # as DSPy does: it may be on disk
        request: Awaitable[Any] = lm.aforward(*args, **kwargs)
        await request
        return True
    except (Exception, Probe):
        return False
    finally:
        _probing.reset(token)


def _execution() -> Any:
    try:
        return importlib.import_module("dspy.clients.execution")
    except ImportError:  # before DSPy 3.4
        return None


def _prepared(execution: Any, lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, asynchronous: bool) -> Any:
    prompt = args[0] if args else kwargs.get("prompt")
    rest = {name: value for name, value in kwargs.items() if name not in ("prompt", "messages")}
    return execution.prepare(lm, prompt, kwargs.get("messages"), rest, asynchronous=asynchronous)
