"""Stores and savers that are called synchronously by the code of a node.

`AsyncSqliteStore`, `AsyncSqliteSaver` and their Postgres counterparts refuse sync calls on the thread of their own
event loop, where they would wait for themselves. In the bridge such a call suspends. Stores without an async side
get a worker thread, as a database may take its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..bridge import await_, is_waiting
from ..errors import BridgeError
from ..seams.table import Seam, in_thread, register
from .savers import at_home

__all__: list[str] = []


def _of_saver(name: str) -> Callable[..., Any]:
    def handler(_: Callable[..., Any], saver: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return await_(at_home(getattr(saver, "loop", None), lambda: getattr(saver, f"a{name}")(*args, **kwargs)))

    return handler


def _of_store(name: str) -> Callable[..., Any]:
    def handler(_: Callable[..., Any], store: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        home: asyncio.AbstractEventLoop = store._loop
        if is_waiting(home):  # Other than a saver, it does its work in a task of that loop.
            raise BridgeError(
                f"{type(store).__qualname__}.{name}() was called by code that the store's own event loop waits for. "
                "Await run(), or the graph's async method, there instead, or call the sync one in another thread."
            )
        return await_(at_home(home, lambda: getattr(store, f"a{name}")(*args, **kwargs)))

    return handler


def _list(_: Callable[..., Any], saver: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    async def collect() -> list[Any]:
        return [item async for item in saver.alist(*args, **kwargs)]

    return iter(await_(at_home(getattr(saver, "loop", None), collect)))


_SAVERS = ("langgraph.checkpoint.sqlite.aio:AsyncSqliteSaver", "langgraph.checkpoint.postgres.aio:AsyncPostgresSaver")
_OPERATIONS = ("get", "search", "put", "delete", "list_namespaces", "batch")
_access = in_thread("the store accesses a database")

register(
    *(
        Seam(f"langgraph.store.base.batch:AsyncBatchedBaseStore.{name}", _of_store(name), overrides=True)
        for name in _OPERATIONS
    ),
    Seam("langgraph.store.sqlite.base:SqliteStore.batch", _access),
    Seam("langgraph.store.postgres.base:PostgresStore.batch", _access),
    *(
        Seam(f"{saver}.{name}", _of_saver(name))
        for saver in _SAVERS
        for name in ("get_tuple", "put", "put_writes", "delete_thread")
    ),
    *(Seam(f"{saver}.list", _list) for saver in _SAVERS),
)
