"""Running the server: sockets, signals, and ending together with the parent."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from dspy_parallel.testing.app import App

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
    main = _serve(app, port, stop_with_stdin)
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        loop = uvloop.new_event_loop()
        try:
            loop.run_until_complete(main)
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
    print(json.dumps({"api_base": f"http://127.0.0.1:{actual}/v1", "port": actual, "pid": os.getpid()}), flush=True)
    await stop.wait()
    server.close()
    # Requests in flight are not waited for: their tests are over.
    for connection in handler.connections:
        if connection.transport is not None:
            connection.transport.abort()


def _watch_parent(gone: Callable[[], object]) -> None:
    """Call `gone` when stdin ends, or when the parent died but a fork of it still holds the pipe."""
    parent = os.getppid()

    def read() -> None:
        with contextlib.suppress(OSError):
            while os.read(sys.stdin.fileno(), 4096):
                pass
        gone()

    def look() -> None:
        never = threading.Event()
        while os.getppid() == parent:
            never.wait(2.0)
        gone()

    for target in (read, look):
        threading.Thread(target=target, daemon=True, name=f"dspy-parallel-testing-{target.__name__}").start()


def _raise_file_limit() -> None:
    """Allow as many connections as the system does."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
