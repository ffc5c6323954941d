"""Streaming replies as server-sent events, the tokens spread over the latency."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dspy_parallel.testing import wire
from dspy_parallel.testing.conversation import Conversation
from dspy_parallel.testing.replies import Reply
from dspy_parallel.testing.settings import Settings

__all__ = ["DONE", "chat_events", "completion_events", "event", "response_events", "schedule"]

DONE = b"data: [DONE]\n\n"
_TOKEN = re.compile(r"\s*\S+|\s+")


def event(body: Mapping[str, Any], name: str | None = None) -> bytes:
    """One event."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + wire.encode(body) + b"\n\n"


def schedule(count: int, latency: float, settings: Settings) -> list[float]:
    """Seconds after receipt at which each of `count` token events is sent; the last is due with the latency."""
    if count == 0:
        return []
    between, first = settings.inter_token_delay, settings.first_token_delay
    if first is None:
        # Evenly over the latency, unless the gaps are given and leave no room.
        first = latency / count if between is None else max(0.0, latency - between * (count - 1))
    if between is None:
        between = max(0.0, latency - first) / (count - 1) if count > 1 else 0.0
    return [first + i * between for i in range(count)]


def chat_events(
    model: str, conversation: Conversation, replies: Sequence[Reply], body: Mapping[str, Any]
) -> tuple[bytes, list[bytes], bytes]:
    """The head, the token events and the tail of a streamed chat completion."""
    head = {
        "id": f"chatcmpl-{conversation.digest[:24]}",
        "object": "chat.completion.chunk",
        "created": wire.CREATED,
        "model": model,
    }

    def chunk(index: int, delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        return event({**head, "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}]})

    opening = b"".join(chunk(i, {"role": "assistant", "content": ""}) for i in range(len(replies)))
    middle: list[bytes] = []
    for i, reply in enumerate(replies):
        calls = wire.tool_calls_of(reply, conversation.digest)
        middle += [chunk(i, {"tool_calls": [{"index": n, **call}]}) for n, call in enumerate(calls)]
        middle += [chunk(i, {"content": token}) for token in _tokens(reply)]
    closing = b"".join(chunk(i, {}, "tool_calls" if r.tool_calls else "stop") for i, r in enumerate(replies))
    if (body.get("stream_options") or {}).get("include_usage"):
        closing += event({**head, "choices": [], "usage": wire.usage(conversation, replies)})
    return opening, middle, closing + DONE


def completion_events(
    model: str, conversation: Conversation, replies: Sequence[Reply], body: Mapping[str, Any]
) -> tuple[bytes, list[bytes], bytes]:
    """The head, the token events and the tail of a streamed text completion."""
    head = {
        "id": f"cmpl-{conversation.digest[:24]}",
        "object": "text_completion",
        "created": wire.CREATED,
        "model": model,
    }

    def chunk(index: int, text: str, reason: str | None = None) -> bytes:
        return event({**head, "choices": [{"index": index, "text": text, "logprobs": None, "finish_reason": reason}]})

    middle = [chunk(i, token) for i, reply in enumerate(replies) for token in _tokens(reply)]
    closing = b"".join(chunk(i, "", "stop") for i in range(len(replies)))
    if (body.get("stream_options") or {}).get("include_usage"):
        closing += event({**head, "choices": [], "usage": wire.usage(conversation, replies)})
    return b"", middle, closing + DONE


def response_events(
    model: str, conversation: Conversation, replies: Sequence[Reply], body: Mapping[str, Any]
) -> tuple[bytes, list[bytes], bytes]:
    """The head, the token events and the tail of a streamed response."""
    whole = wire.response(model, conversation, replies)
    number = iter(range(1_000_000))

    def step(kind: str, **more: Any) -> bytes:
        return event({"type": kind, "sequence_number": next(number), **more}, kind)

    opening = step("response.created", response={**whole, "status": "in_progress", "output": [], "usage": None})
    middle: list[bytes] = []
    closing = b""
    for place, item in enumerate(whole["output"]):
        where = {"output_index": place, "item_id": item["id"]}
        if item["type"] == "function_call":
            opening += step("response.output_item.added", output_index=place, item={**item, "arguments": ""})
            middle.append(step("response.function_call_arguments.delta", delta=item["arguments"], **where))
            closing += step("response.function_call_arguments.done", arguments=item["arguments"], **where)
        else:
            part = item["content"][0]
            opening += step("response.output_item.added", output_index=place, item={**item, "content": []})
            opening += step("response.content_part.added", content_index=0, part={**part, "text": ""}, **where)
            for token in _tokens(replies[0]):
                middle.append(step("response.output_text.delta", content_index=0, delta=token, logprobs=[], **where))
            closing += step("response.output_text.done", content_index=0, text=part["text"], logprobs=[], **where)
            closing += step("response.content_part.done", content_index=0, part=part, **where)
        closing += step("response.output_item.done", output_index=place, item=item)
    return opening, middle, closing + step("response.completed", response=whole)


def _tokens(reply: Reply) -> Iterator[str]:
    """Words with the space before them."""
    return iter(_TOKEN.findall(reply.content))
