"""Raw connections to the server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from dspy_parallel.testing import LMServer


@pytest.fixture(autouse=True)
def no_stray_loop() -> None:
    """Sync calls of LiteLLM ask for the thread's event loop, which would create one that nobody closes."""
    asyncio.set_event_loop(None)


@pytest.fixture
def plug(server: LMServer) -> Iterator[Plug]:
    """Opens raw connections to the server, and closes them after the test."""
    plug = Plug(server)
    yield plug
    plug.close()


class Plug:
    """Raw sockets: what clients do that no HTTP library lets one do."""

    def __init__(self, server: LMServer) -> None:
        self._server = server
        self._sockets: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """An open connection with a timeout, so that a hanging server fails the test."""
        sock = socket.create_connection(("127.0.0.1", self._server.port), timeout=60)
        self._sockets.append(sock)
        return sock

    def send(self, body: bytes, path: str = "/v1/chat/completions", headers: str = "") -> socket.socket:
        """Send a request, and leave the reply unread."""
        sock = self.connect()
        head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        sock.sendall(head.encode() + body)
        return sock

    def close(self) -> None:
        """Close every connection."""
        for sock in self._sockets:
            sock.close()
