"""Caches of node results without async methods: under `ainvoke` LangGraph calls those.

Redis and SQLite caches of one's own may have only `get()`, `set()` and `clear()` that do something, as LangGraph wants
the others to exist. The sync methods of such a cache run in worker threads, as they do under stock `invoke`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langgraph.cache.base import BaseCache

from ..bridge import run_in_thread
from ..seams.async_counterparts import is_counterpart

__all__ = ["adapted_cache"]


def adapted_cache(cache: Any) -> Any:
    """The cache itself if its async methods do what its sync ones do; else one whose async methods do."""
    cls = type(cache)
    if cache is None or all(is_counterpart(cls, name, f"a{name}") for name in ("get", "set", "clear")):
        return cache
    return _Adapter(cache)


class _Adapter(BaseCache[Any]):
    """Stands in for a cache while a converted graph runs."""

    def __init__(self, cache: BaseCache[Any]) -> None:
        super().__init__(serde=cache.serde)
        self._cache = cache

    def get(self, keys: Sequence[Any]) -> Any:
        return self._cache.get(keys)

    def set(self, pairs: Mapping[Any, Any]) -> None:
        self._cache.set(pairs)

    def clear(self, namespaces: Sequence[Any] | None = None) -> None:
        self._cache.clear(namespaces)

    async def aget(self, keys: Sequence[Any]) -> Any:
        return await run_in_thread(self.get, (keys,), {})

    async def aset(self, pairs: Mapping[Any, Any]) -> None:
        await run_in_thread(self.set, (pairs,), {})

    async def aclear(self, namespaces: Sequence[Any] | None = None) -> None:
        await run_in_thread(self.clear, (namespaces,), {})
