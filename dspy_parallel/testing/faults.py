"""Failures on purpose: whether a request fails, and what the client sees when it does."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections.abc import Iterable

from aiohttp import web

from dspy_parallel.testing.conversation import Conversation
from dspy_parallel.testing.settings import Fault

__all__ = ["choose_fault", "error_response", "is_status", "reset", "spoil"]

_STATUS = {
    "400": (400, "invalid_request_error", None, "Bad request (injected)."),
    "401": (401, "authentication_error", "invalid_api_key", "Incorrect API key provided (injected)."),
    "429": (429, "rate_limit_error", "rate_limit_exceeded", "Rate limit reached (injected)."),
    "500": (500, "server_error", None, "The server had an error (injected)."),
    "503": (503, "server_error", None, "The service is overloaded (injected)."),
    "context_length": (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens. "
        "Please reduce the length of the messages.",
    ),
}


def choose_fault(faults: Iterable[Fault], ordinal: int, model: str, conversation: Conversation) -> Fault | None:
    """The first fault that is due for a request; what is due depends on ordinals and seeds, never on time."""
    for fault in faults:
        if not fault.wanted.fits(ordinal, model, conversation.last_user, conversation.text):
            continue
        fault.seen += 1
        if fault.times is not None and fault.injected >= fault.times:
            continue
        if fault.seen % fault.every:
            continue
        chance = random.Random(f"{fault.seed}:{fault.kind}:{ordinal}").random() if fault.probability < 1 else 0.0
        if chance >= fault.probability:
            continue
        if fault.first is not None:
            before = fault.failed.get(conversation.digest, 0)
            if before >= fault.first:
                continue
            fault.failed[conversation.digest] = before + 1
        fault.injected += 1
        return fault
    return None


def error_response(kind: str, message: str | None = None, retry_after: float | None = None) -> web.Response:
    """The error reply that OpenAI sends in such a case."""
    status, type_, code, text = _STATUS[kind]
    body = {"error": {"message": message or text, "type": type_, "param": None, "code": code}}
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return web.Response(status=status, body=json.dumps(body).encode(), content_type="application/json", headers=headers)


def is_status(kind: str) -> bool:
    """Whether a fault is an HTTP error reply."""
    return kind in _STATUS


def spoil(body: bytes) -> bytes:
    """The first part of a body, which no parser takes for a whole."""
    return body[: len(body) // 2]


def reset(transport: asyncio.Transport) -> None:
    """Close a connection so that the client's kernel reports a reset."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
