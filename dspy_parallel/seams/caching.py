"""Sync and async calls share cache entries.

DSPy hashes the name of the function that makes a request into its cache key, and the sync and async functions
have different names. A program that goes async would pay again for every call that it has cached. Calls that
programs make through a seam therefore use the sync name; async calls of the user's own keep theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .table import Seam, register
from .twins import running_twins

__all__: list[str] = []

_SYNC_NAMES = (
    (".complete.async", ".complete"),  # DSPy 3.4
    (".alitellm_", ".litellm_"),
    ("._cached_acompute_embeddings", "._cached_compute_embeddings"),
)


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
register(Seam("dspy.clients.cache:Cache.cache_key", _key, when=lambda: bool(running_twins())))
