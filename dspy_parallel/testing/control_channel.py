"""Controlling the server: how it is asked, and who may ask.

Whoever has the token of its process may, and is no web page. A page that somebody has open can send requests to
127.0.0.1, and by DNS rebinding read the replies as well (https://github.com/taviso/rbndr). What gives it away is the
name that its requests are for, or the page that they come from. The token is for all else that runs on this machine.
"""

from __future__ import annotations

import asyncio
import hmac
import http.client
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from dspy_parallel.testing.lm_server_errors import LMServerError, SettingsError

__all__ = ["TOKEN_HEADER", "Address", "ask", "ask_async", "refusal"]

TOKEN_HEADER = "X-Control-Token"

_HOST = r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?"
_LOOPBACK_HOST = re.compile(_HOST, re.ASCII | re.IGNORECASE)
_LOOPBACK_ORIGIN = re.compile(f"https?://{_HOST}", re.ASCII | re.IGNORECASE)


def refusal(token: str, hosts: Sequence[str], origins: Sequence[str], tokens: Sequence[str]) -> str | None:
    """Why a control request is refused, if it is.

    Args:
        token: The one that is right.
        hosts: Every Host header of the request; there has to be one, and each has to name loopback.
        origins: Every Origin header; without any, no browser has sent it. `null` is a page without a name.
        tokens: Every token header.
    """
    if not hosts or not all(map(_LOOPBACK_HOST.fullmatch, hosts)):
        return "The Host header of a control request has to name loopback."
    if not all(map(_LOOPBACK_ORIGIN.fullmatch, origins)):
        return "Control requests are not for pages of other origins."
    if len(tokens) != 1 or not hmac.compare_digest(tokens[0].encode("utf-8", "surrogatepass"), token.encode()):
        return f"A control request needs the token that the server's process printed, in the header {TOKEN_HEADER}."
    return None


class Address(NamedTuple):
    """Where a server listens, and what it tells nobody but who started it."""

    port: int
    token: str


def ask(address: Address, what: str, data: Any = None, timeout: float = 30.0) -> Any:
    """Send one control request, blocking the thread; each has its own connection, so threads don't meet."""
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=timeout)
    try:
        connection.request("POST", f"/_control/{what}", json.dumps(data), {TOKEN_HEADER: address.token})
        answer = connection.getresponse()
        return _read(what, answer.status, answer.read())
    except (OSError, http.client.HTTPException) as error:
        raise LMServerError(f"The LM test server on port {address.port} did not answer {what!r}: {error!r}.") from error
    finally:
        connection.close()


async def ask_async(address: Address, what: str, data: Any = None, timeout: float = 30.0) -> Any:
    """The same on the running loop, without a thread: the default executor may be what is being tested."""
    payload = json.dumps(data).encode()
    head = f"POST /_control/{what} HTTP/1.1\r\nHost: 127.0.0.1\r\n{TOKEN_HEADER}: {address.token}\r\n"
    head += f"Connection: close\r\nContent-Length: {len(payload)}\r\n\r\n"

    async def exchange() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
        try:
            writer.write(head.encode() + payload)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()

    try:
        headers, _, body = (await asyncio.wait_for(exchange(), timeout)).partition(b"\r\n\r\n")
        return _read(what, int(headers.split(None, 2)[1]), body)
    except (OSError, IndexError, asyncio.TimeoutError) as error:
        raise LMServerError(f"The LM test server on port {address.port} did not answer {what!r}: {error!r}.") from error


def _read(what: str, status: int, body: bytes) -> Any:
    data = json.loads(body)
    if status == 200:
        return data
    raise (SettingsError if status == 400 else LMServerError)(f"{what}: {data['error']}")
