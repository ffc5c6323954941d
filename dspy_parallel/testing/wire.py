"""The JSON bodies of the OpenAI API, filled with replies."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from dspy_parallel.testing.conversation import Conversation
from dspy_parallel.testing.replies import Reply

__all__ = ["chat_completion", "completion", "embeddings", "encode", "model_list", "response", "tokens", "usage"]

#: One fixed creation time, because replies depend on nothing but the request.
CREATED = 1_700_000_000


def encode(body: Mapping[str, Any]) -> bytes:
    """A body as bytes."""
    return json.dumps(body, separators=(",", ":")).encode()


def tokens(text: str) -> int:
    """A deterministic count in the place of a tokenizer: four characters each."""
    return len(text) // 4 + 1 if text else 0


def spoken(reply: Reply) -> str:
    """The text of a reply that counts as completion."""
    return reply.content or json.dumps([[name, dict(arguments)] for name, arguments in reply.tool_calls])


def usage(conversation: Conversation, replies: Sequence[Reply]) -> dict[str, Any]:
    """Usage figures that depend on the texts only."""
    asked = sum(tokens(text) for _, text in conversation.messages)
    said = sum(tokens(spoken(reply)) for reply in replies)
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def tool_calls_of(reply: Reply, digest: str) -> list[dict[str, Any]]:
    """The tool calls of a reply in the form of the chat API."""
    return [
        {
            "id": f"call_{digest[:16]}{i}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for i, (name, arguments) in enumerate(reply.tool_calls)
    ]


def chat_completion(model: str, conversation: Conversation, replies: Sequence[Reply]) -> dict[str, Any]:
    """The body of POST /v1/chat/completions."""
    choices = []
    for index, reply in enumerate(replies):
        message: dict[str, Any] = {"role": "assistant", "content": reply.content}
        reason = "stop"
        if reply.tool_calls:
            message = {"role": "assistant", "content": None, "tool_calls": tool_calls_of(reply, conversation.digest)}
            reason = "tool_calls"
        choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": reason})
    return {
        "id": f"chatcmpl-{conversation.digest[:24]}",
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": choices,
        "usage": usage(conversation, replies),
    }


def completion(model: str, conversation: Conversation, replies: Sequence[Reply]) -> dict[str, Any]:
    """The body of POST /v1/completions."""
    return {
        "id": f"cmpl-{conversation.digest[:24]}",
        "object": "text_completion",
        "created": CREATED,
        "model": model,
        "choices": [
            {"index": i, "text": spoken(r), "logprobs": None, "finish_reason": "stop"} for i, r in enumerate(replies)
        ],
        "usage": usage(conversation, replies),
    }


def response(model: str, conversation: Conversation, replies: Sequence[Reply]) -> dict[str, Any]:
    """The body of POST /v1/responses."""
    reply, mark = replies[0], conversation.digest[:24]
    output: list[dict[str, Any]] = [
        {
            "type": "function_call",
            "id": f"fc_{mark}{i}",
            "call_id": call["id"],
            "name": call["function"]["name"],
            "arguments": call["function"]["arguments"],
            "status": "completed",
        }
        for i, call in enumerate(tool_calls_of(reply, conversation.digest))
    ]
    if not output:
        text = {"type": "output_text", "text": reply.content, "annotations": [], "logprobs": []}
        output = [
            {"type": "message", "id": f"msg_{mark}", "status": "completed", "role": "assistant", "content": [text]}
        ]
    counted = usage(conversation, replies[:1])
    return {
        "id": f"resp_{mark}",
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": counted["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": counted["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": counted["total_tokens"],
        },
    }


def embeddings(model: str, body: Mapping[str, Any], size: int) -> dict[str, Any]:
    """The body of POST /v1/embeddings: unit vectors that depend on the text only."""
    given = body.get("input", "")
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        given = [given]
    size = int(body.get("dimensions") or size)
    data = []
    for index, text in enumerate(given):
        vector = _vector(str(text), size)
        value: Any = vector
        if body.get("encoding_format") == "base64":
            value = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": value})
    count = sum(tokens(str(text)) for text in given)
    return {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": count, "total_tokens": count}}


def _vector(text: str, size: int) -> list[float]:
    raw: list[float] = []
    block = 0
    while len(raw) < size:
        digest = sha256(f"{block}/{text}".encode("utf-8", "surrogatepass")).digest()
        raw.extend((n - 32767.5) / 32768 for n in struct.unpack("<16H", digest))
        block += 1
    raw = raw[:size]
    length = sum(x * x for x in raw) ** 0.5
    return [x / length for x in raw]


def model_list(models: Sequence[str]) -> dict[str, Any]:
    """The body of GET /v1/models."""
    return {
        "object": "list",
        "data": [{"id": m, "object": "model", "created": CREATED, "owned_by": "dspy-parallel"} for m in models],
    }
