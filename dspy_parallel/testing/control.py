"""Talking to the server's control endpoint with nothing but the standard library."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any

from dspy_parallel.testing.errors import LMServerError, SettingsError

__all__ = ["ask", "ask_async"]


def ask(port: int, what: str, data: Any = None, timeout: float = 30.0) -> Any:
    """Send one control request, blocking the thread; each has its own connection, so threads don't meet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST", f"/_control/{what}", body=json.dumps(data).encode() if data is not None else b"")
        answer = connection.getresponse()
        return _read(what, answer.status, answer.read())
    except (OSError, http.client.HTTPException) as error:
        raise LMServerError(f"The LM test server on port {port} did not answer {what!r}: {error!r}.") from error
    finally:
        connection.close()


async def ask_async(port: int, what: str, data: Any = None, timeout: float = 30.0) -> Any:
    """The same on the running loop, without a thread: the default executor may be what is being tested."""
    payload = json.dumps(data).encode() if data is not None else b""
    head = f"POST /_control/{what} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {len(payload)}"

    async def exchange() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(head.encode() + b"\r\n\r\n" + payload)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()

    try:
        answer = await asyncio.wait_for(exchange(), timeout)
        headers, _, body = answer.partition(b"\r\n\r\n")
        return _read(what, int(headers.split(None, 2)[1]), body)
    except (OSError, IndexError, asyncio.TimeoutError) as error:
        raise LMServerError(f"The LM test server on port {port} did not answer {what!r}: {error!r}.") from error


def _read(what: str, status: int, body: bytes) -> Any:
    data = json.loads(body)
    if status == 200:
        return data
    message = data.get("error", data)
    if isinstance(message, dict):
        message = message.get("message", message)
    raise (SettingsError if status == 400 else LMServerError)(f"{what}: {message}")
