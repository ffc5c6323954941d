"""Connection pools that hold as many connections as the process may open, instead of a number that nobody chose.

DSPy's engine opens 100 connections and LiteLLM 500 per host: calls beyond that wait without a word. What bounds a
fan-out should be `limit()`, or the number of files that the system lets this process have open. A size that the
user has set stays.

There is a pool for each LM and event loop, and the files are those of all. So each pool grows when it needs to, while
all of them together stay within the files; `STOCK` connections it has in any case. Where it may not grow, calls wait
until a connection of their own pool is free, as they would in a pool of a fixed size: no pool waits for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, Literal

import dspy

from .table import Seam, everywhere, register

__all__ = ["close_pools", "max_connections"]

RESERVED = 256
"""File descriptors left to the rest of the process."""

STOCK = 100
"""DSPy's own number, and the least that a pool holds."""

WANTED = (65_536, 10_240)
"""Open files that we ask for; macOS allows no more than the second, whatever its hard limit says."""


def max_connections() -> int:
    """How many connections this process can have open.

    Raises the soft limit of open files towards the hard one, as servers do when they start. (It is low for the sake of
    `select()`, which knows no descriptor above 1,023. The one place in DSPy that uses it is replaced below.)
    """
    try:
        import resource
    except ImportError:  # not on Windows, which has no such limit
        return WANTED[0]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in WANTED:
        aim = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if soft == resource.RLIM_INFINITY or soft >= aim:
            break
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (aim, hard))
            soft = aim
    return WANTED[0] if soft == resource.RLIM_INFINITY else max(STOCK, soft - RESERVED)


def close_pools() -> None:
    """Have all LMs make new pools, which have the sizes that they are to have by now. Nothing may be in flight.

    Those of event loops are left to them: another loop has its own.
    """
    for found in gc.get_objects():
        if isinstance(found, dspy.LM) and vars(found).get("_engine_store"):
            found.close()
    clients = getattr(sys.modules.get("litellm"), "in_memory_llm_clients_cache", None)
    if clients is not None:
        clients.flush_cache()


class _Most(int):
    """A size that nobody chose."""


# DSPy's engine: it takes a permit of the pool's semaphore for each request


class _Permits(threading.Semaphore):
    """A sync pool's, of which there are more when they are needed."""

    def __init__(self, pool: Any) -> None:
        super().__init__(STOCK)
        self.size = STOCK
        self._pool = weakref.ref(pool)

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """See `threading.Semaphore`."""
        if super().acquire(blocking=False):
            return True
        if blocking and _grows(self):
            self.release()
        return super().acquire(blocking, timeout)

    def shrink(self) -> None:
        """Give up what is not used."""
        pool = self._pool()
        if pool is not None:
            with pool._lock:
                while self.size > STOCK and super().acquire(blocking=False):
                    self.size -= 1
                _close_idle(pool, self.size)


class _AsyncPermits(asyncio.Semaphore):
    """The same for an async pool, which is used by one event loop."""

    def __init__(self, pool: Any) -> None:
        super().__init__(STOCK)
        self.size = STOCK
        self._pool = weakref.ref(pool)
        self._user: asyncio.AbstractEventLoop | None = None

    async def acquire(self) -> Literal[True]:
        """See `asyncio.Semaphore`."""
        if self.locked() and _grows(self):
            self._user = asyncio.get_running_loop()
            self.release()
        return await super().acquire()

    def shrink(self) -> None:
        """Give up what is not used; now, or when the loop gets to it."""
        loop = self._user
        if loop is None:  # it has never grown
            return
        if loop.is_closed() or loop is asyncio._get_running_loop():
            self._shrink()
        else:
            with contextlib.suppress(RuntimeError):  # closed in this moment
                loop.call_soon_threadsafe(self._shrink)

    def _shrink(self) -> None:
        pool = self._pool()
        if pool is not None:
            unused = min(self._value, self.size - STOCK)
            self._value -= unused
            self.size -= unused
            _close_idle(pool, self.size)


def _close_idle(pool: Any, most: int) -> None:
    surplus = len(pool._in_use) + sum(map(len, pool._idle.values())) - most
    for idle in pool._idle.values():
        while idle and surplus > 0:
            idle.pop(0).close()
            surplus -= 1


_permits: weakref.WeakSet[_Permits | _AsyncPermits] = weakref.WeakSet()
_connectors: weakref.WeakSet[Any] = weakref.WeakSet()
"""LiteLLM's pools."""
_lock = threading.RLock()


def _held() -> int:
    """Connections that there are, or that a pool may open without asking."""
    native = sum(permits.size for permits in _permits)
    return native + sum(len(each._acquired) + sum(map(len, list(each._conns.values()))) for each in _connectors)


def _has_room(least: int = 1) -> bool:
    """Whether there are files for one more connection; if need be, after others have closed what they do not use."""
    most = max_connections() - least
    if _held() > most:
        for permits in list(_permits):
            permits.shrink()
    return _held() <= most


def _grows(permits: _Permits | _AsyncPermits) -> bool:
    with _lock:
        has_room = _has_room()
        permits.size += has_room
        return has_room


def _widen(original: Callable[..., Any], transport: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not isinstance(kwargs.setdefault("max_connections", _Most(max_connections())), _Most):
        return original(*args, **kwargs)
    original(*args, **kwargs)
    pool = transport._pool
    pool._slot = _AsyncPermits(pool) if isinstance(pool._slot, asyncio.Semaphore) else _Permits(pool)
    with _lock:
        _permits.add(pool._slot)
        _has_room(0)
    return None


def _is_readable(socket: Any) -> bool:
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    return bool(poll.poll(0))


def _is_stale(original: Callable[..., Any], connection: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """As the original, which takes every descriptor above 1,023 for a dead connection, because `select()` does.

    Such calls would all connect anew.
    """
    if not hasattr(select, "poll") or connection.closed:
        return original(*args, **kwargs)
    try:
        writer = getattr(connection, "writer", None)
        socket = connection.sock if writer is None else writer.get_extra_info("socket")
        return socket is None or _is_readable(socket)
    except (OSError, ValueError, AttributeError):
        return True


# LiteLLM: its connectors count for themselves


def _litellm_pool(variable: str) -> Callable[[Any], Any]:
    def size(stock: int) -> int:
        return stock if variable in os.environ else _Most(max_connections())

    return size


def _available(original: Callable[..., int], connector: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """How many connections the connector may open."""
    available = original(*args, **kwargs)
    if available <= 0 or not isinstance(connector._limit, _Most):
        return available
    key = args[0] if args else kwargs["key"]
    with _lock:
        _connectors.add(connector)
        is_idle = bool(connector._conns.get(key))  # one will be used again
        return available if is_idle or len(connector._acquired) < STOCK or _has_room() else 0


_TRANSPORTS = "dspy._vendor.lm15.transports"

register(
    Seam(f"{_TRANSPORTS}._async:StdlibAsyncTransport.__init__", _widen, optional=True, when=everywhere),
    Seam(f"{_TRANSPORTS}._sync:StdlibTransport.__init__", _widen, optional=True, when=everywhere),
    Seam(f"{_TRANSPORTS}._async:_AsyncConnection.is_stale", _is_stale, optional=True, when=everywhere),
    Seam(f"{_TRANSPORTS}._sync:_SyncConnection.is_stale", _is_stale, optional=True, when=everywhere),
    *(
        Seam(f"litellm.llms.custom_httpx.http_handler:{name}", replacement=_litellm_pool(name), optional=True)
        for name in ("AIOHTTP_CONNECTOR_LIMIT", "AIOHTTP_CONNECTOR_LIMIT_PER_HOST")
    ),
    Seam("aiohttp.connector:BaseConnector._available_connections", _available, optional=True, when=everywhere),
)


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
