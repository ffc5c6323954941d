"""Connection pools that hold as many connections as the process may open, instead of a number that nobody chose.

DSPy's engine opens 100 connections and LiteLLM 500 per host: calls beyond that wait without a word. What bounds a
fan-out should be `limit()`, or the number of files that the system lets this process have open. A size that the user
has set stays. The size is each pool's: if the limits of several LMs are more together, `limit()` warns.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import sys
from collections.abc import Callable
from typing import Any

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
        if issubclass(type(found), dspy.LM) and vars(found).get("_engine_store"):
            found.close()
    clients = getattr(sys.modules.get("litellm"), "in_memory_llm_clients_cache", None)
    if clients is not None:
        clients.flush_cache()


def _widen(original: Callable[..., Any], transport: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    kwargs.setdefault("max_connections", max_connections())
    return original(*args, **kwargs)


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


def _litellm_pool(variable: str) -> Callable[[Any], Any]:
    return lambda stock: stock if variable in os.environ else max_connections()


_TRANSPORTS = "dspy._vendor.lm15.transports"

register(
    Seam(f"{_TRANSPORTS}._async:StdlibAsyncTransport.__init__", _widen, since="3.4", when=everywhere),
    Seam(f"{_TRANSPORTS}._sync:StdlibTransport.__init__", _widen, since="3.4", when=everywhere),
    Seam(f"{_TRANSPORTS}._async:_AsyncConnection.is_stale", _is_stale, since="3.4", when=everywhere),
    Seam(f"{_TRANSPORTS}._sync:_SyncConnection.is_stale", _is_stale, since="3.4", when=everywhere),
    *(
        Seam(f"litellm.llms.custom_httpx.http_handler:{name}", replacement=_litellm_pool(name), since=since)
        for name, since in (("AIOHTTP_CONNECTOR_LIMIT", "1.79"), ("AIOHTTP_CONNECTOR_LIMIT_PER_HOST", "1.82"))
    ),
)
