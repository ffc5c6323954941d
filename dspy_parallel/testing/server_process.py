"""Running the server: sockets, signals, and ending together with the parent."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from dspy_parallel.testing.request_handler import App

__all__ = ["run"]

#: The kernel cuts this down to net.core.somaxconn; thousands of clients may connect in one instant.
_BACKLOG = 65_535
_LARGEST_BODY = 256 * 2**20


class _Server(web.Server):
    """aiohttp's server, telling the app when a connection ends."""

    def __init__(self, app: App) -> None:
        # handler_cancellation: a client that leaves must be noticed while its handler sleeps.
        super().__init__(app.handle, handler_cancellation=True, access_log=None, keepalive_timeout=3600.0)
        self._app = app

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._app.connection_closed(handler)

    def _make_request(self, message, payload, protocol, writer, task):  # type: ignore[no-untyped-def]
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=_LARGEST_BODY)


def run(app: App, *, port: int, stop_with_stdin: bool) -> None:
    """Serve on 127.0.0.1 until a signal comes or, if wanted, until the parent is gone."""
    _raise_file_limit()
    loop: asyncio.AbstractEventLoop
    try:
        import uvloop

        loop = uvloop.new_event_loop()
    except ImportError:
        loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(_serve(app, port, stop_with_stdin))
    finally:
        loop.close()


async def _serve(app: App, port: int, stop_with_stdin: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if stop_with_stdin:
        _watch_parent(lambda: loop.call_soon_threadsafe(stop.set))
    handler = _Server(app)
    server = await loop.create_server(handler, "127.0.0.1", port, backlog=_BACKLOG)
    bound: socket.socket = server.sockets[0]
    actual = bound.getsockname()[1]
    # What exists by now stays for ever: keep the collector away from it.
    gc.collect()
    gc.freeze()
    ready = {"api_base": f"http://127.0.0.1:{actual}/v1", "port": actual, "pid": os.getpid(), "token": app.token}
    print(json.dumps(ready), flush=True)
    await stop.wait()
    server.close()
    # Requests in flight are not waited for: their tests are over.
    for connection in handler.connections:
        if connection.transport is not None:
            connection.transport.abort()


def _watch_parent(gone: Callable[[], object]) -> None:
    """Call `gone` when stdin ends, or when the parent died but a fork of it still holds the pipe."""
    stdin, parent = sys.stdin.fileno(), []
    if hasattr(os, "pidfd_open"):  # Linux: readable when the process has ended
        with contextlib.suppress(OSError):
            parent.append(os.pidfd_open(os.getppid()))

    def watch() -> None:
        with contextlib.suppress(OSError):
            while not set(parent) & set(select.select([stdin, *parent], [], [])[0]):
                if not os.read(stdin, 4096):
                    break
        gone()

    threading.Thread(target=watch, daemon=True, name="dspy-parallel-testing-parent").start()


def _raise_file_limit() -> None:
    """Allow as many connections as the system does."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # there is no such module on Windows
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
