"""Sync and async calls share cache entries.

DSPy hashes the name of the function that makes a request into its cache key, and the sync and async functions
have different names. A program that goes async would pay again for every call that it has cached. Calls that
programs make through a seam therefore use the sync name; async calls of the user's own keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy

from .async_counterparts import running_counterparts
from .table import Seam, register

__all__ = ["uses_cache"]

_SYNC_NAMES = (
    (".complete.async", ".complete"),  # DSPy 3.4
    (".alitellm_", ".litellm_"),
    ("._cached_acompute_embeddings", "._cached_compute_embeddings"),
)


def uses_cache(lm: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a call of an LM with these arguments asks DSPy's cache.

    From DSPy 3.4 on, the first read of `dspy.cache` opens the cache's files, for a tenth of a second. DSPy does so in
    a thread; this function is for the loop, and does not.
    """
    if not kwargs.get("cache", getattr(lm, "cache", False)):
        return False
    if "cache" not in vars(dspy):
        return True  # nobody has configured it
    cache = dspy.cache
    return bool(getattr(cache, "enable_memory_cache", False) or getattr(cache, "enable_disk_cache", False))


def _key(original: Callable[..., str], cache: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    request = args[0] if args else kwargs.get("request")
    name = request.get("_fn_identifier") if isinstance(request, dict) else None
    if isinstance(request, dict) and isinstance(name, str):
        for asynchronous, sync in _SYNC_NAMES:
            if asynchronous in name:
                request = {**request, "_fn_identifier": name.replace(asynchronous, sync)}
                args, kwargs = (request, *args[1:]), {k: v for k, v in kwargs.items() if k != "request"}
                break
    return original(*args, **kwargs)


# DSPy 3.4 looks into its cache in a thread of the default executor, where in_bridge() is false.
register(Seam("dspy.clients.cache:Cache.cache_key", _key, when=lambda: bool(running_counterparts())))
