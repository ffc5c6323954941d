"""Requests to the LM server with the standard library, for tests that look at HTTP itself."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from dspy_parallel.testing import LMServer


class Answer(NamedTuple):
    """An HTTP reply."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.raw)

    @property
    def content(self) -> Any:
        """The text of the first choice of a chat completion."""
        return self.json["choices"][0]["message"]["content"]

    @property
    def events(self) -> list[Any]:
        """The data of a stream's events; [DONE] stays a text."""
        lines = [line[6:] for line in self.raw.decode().splitlines() if line.startswith("data: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]


def chat_body(text: str = "Hello", model: str = "any", **more: Any) -> dict[str, Any]:
    """A chat request with one user message."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def post(server: LMServer, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """Send one request on its own connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, raw, dict(headers or {}))
        reply = connection.getresponse()
        return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
    finally:
        connection.close()


def chat(server: LMServer, text: str = "Hello", model: str = "any", **more: Any) -> Answer:
    """Ask for a chat completion."""
    return post(server, "/v1/chat/completions", chat_body(text, model, **more))


def chats(server: LMServer, count: int) -> list[Answer]:
    """Ask `count` questions at the same time."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda i: chat(server, f"Question {i}"), range(count)))
