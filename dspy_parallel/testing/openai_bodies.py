"""The JSON bodies and events of the OpenAI API, filled with replies."""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from dspy_parallel.testing.completions import Reply
from dspy_parallel.testing.conversation import Conversation

__all__ = ["chat_completion", "chat_events", "embeddings", "encode", "model_list"]

#: One fixed creation time, because replies depend on nothing but the request.
_CREATED = 1_700_000_000
_TOKEN = re.compile(r"\s*\S+|\s+")


def encode(body: Mapping[str, Any]) -> bytes:
    """A body as bytes."""
    return json.dumps(body, separators=(",", ":")).encode()


def _tokens(text: str) -> int:
    """A deterministic count in the place of a tokenizer: four characters each."""
    return len(text) // 4 + 1 if text else 0


def _usage(conversation: Conversation, replies: Sequence[Reply]) -> dict[str, Any]:
    asked = sum(_tokens(text) for _, text in conversation.messages)
    said = sum(_tokens(reply.content or json.dumps(reply.tool_calls)) for reply in replies)
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _tool_calls(reply: Reply, digest: str) -> list[dict[str, Any]]:
    functions = [{"name": name, "arguments": json.dumps(arguments)} for name, arguments in reply.tool_calls]
    return [{"id": f"call_{digest[:16]}{i}", "type": "function", "function": f} for i, f in enumerate(functions)]


def chat_completion(model: str, conversation: Conversation, replies: Sequence[Reply]) -> dict[str, Any]:
    """The body of POST /v1/chat/completions."""
    choices = []
    for index, reply in enumerate(replies):
        message: dict[str, Any] = {"role": "assistant", "content": reply.content}
        if calls := _tool_calls(reply, conversation.digest):
            message |= {"content": None, "tool_calls": calls}
        reason = "tool_calls" if calls else "stop"
        choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": reason})
    head = {"id": f"chatcmpl-{conversation.digest[:24]}", "object": "chat.completion", "created": _CREATED}
    return {**head, "model": model, "choices": choices, "usage": _usage(conversation, replies)}


def chat_events(
    model: str, conversation: Conversation, replies: Sequence[Reply], body: Mapping[str, Any]
) -> tuple[bytes, list[bytes], bytes]:
    """The head, one event for each token, and the tail of a streamed chat completion."""
    head = {"id": f"chatcmpl-{conversation.digest[:24]}", "object": "chat.completion.chunk", "created": _CREATED}

    def event(**more: Any) -> bytes:
        return b"data: " + encode({**head, "model": model, **more}) + b"\n\n"

    def chunk(index: int, delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        return event(choices=[{"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}])

    opening = b"".join(chunk(i, {"role": "assistant", "content": ""}) for i in range(len(replies)))
    middle: list[bytes] = []
    for i, reply in enumerate(replies):
        calls = _tool_calls(reply, conversation.digest)
        middle += [chunk(i, {"tool_calls": [{"index": n, **call}]}) for n, call in enumerate(calls)]
        middle += [chunk(i, {"content": token}) for token in _TOKEN.findall(reply.content)]
    closing = b"".join(chunk(i, {}, "tool_calls" if r.tool_calls else "stop") for i, r in enumerate(replies))
    if (body.get("stream_options") or {}).get("include_usage"):
        closing += event(choices=[], usage=_usage(conversation, replies))
    return opening, middle, closing + b"data: [DONE]\n\n"


def embeddings(model: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of POST /v1/embeddings: unit vectors that depend on the text only."""
    given = body.get("input", "")
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        given = [given]
    data = []
    for index, text in enumerate(map(str, given)):
        vector: Any = _vector(text, int(body.get("dimensions") or 8))
        if body.get("encoding_format") == "base64":  # as OpenAI's own client asks
            vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    count = sum(_tokens(str(text)) for text in given)
    return {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": count, "total_tokens": count}}


def _vector(text: str, size: int) -> list[float]:
    blocks = (sha256(f"{n}/{text}".encode("utf-8", "surrogatepass")).digest() for n in range(size // 16 + 1))
    raw = [(n - 32767.5) / 32768 for block in blocks for n in struct.unpack("<16H", block)][:size]
    length = sum(x * x for x in raw) ** 0.5
    return [x / length for x in raw]


def model_list(models: Sequence[str]) -> dict[str, Any]:
    """The body of GET /v1/models."""
    listed = [{"id": m, "object": "model", "created": _CREATED, "owned_by": "dspy-parallel"} for m in models]
    return {"object": "list", "data": listed}
