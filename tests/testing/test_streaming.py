"""Server-sent events: the same text in pieces, spread over the latency."""

from __future__ import annotations

import json
import time

import pytest

from dspy_parallel.testing import LMServer
from dspy_parallel.testing.settings import Settings
from dspy_parallel.testing.sse import schedule
from tests.testing.requests import chat, chat_body, post


def _text(events: list[object], index: int = 0) -> str:
    choices = [c for e in events if isinstance(e, dict) for c in e["choices"] if c["index"] == index]
    return "".join(c["delta"].get("content") or "" for c in choices)


def test_the_pieces_are_the_whole(server: LMServer) -> None:
    """A streamed reply has the text of the plain one, ends with a reason and [DONE]."""
    server.configure(words=8)
    events = chat(server, "A", stream=True).events
    assert _text(events) == chat(server, "A").content
    assert events[-1] == "[DONE]"
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert sum(1 for e in events[:-1] if e["choices"][0]["delta"].get("content")) == 8


def test_usage_comes_when_asked_for(server: LMServer) -> None:
    """`stream_options.include_usage` adds a chunk without choices."""
    events = chat(server, "A", stream=True, stream_options={"include_usage": True}).events
    assert events[-2]["choices"] == []
    assert events[-2]["usage"] == chat(server, "A").json["usage"]
    assert not any("usage" in e for e in chat(server, "A", stream=True).events[:-1])


def test_streams_of_several_choices(server: LMServer) -> None:
    """Each choice has its own text."""
    events = chat(server, "A", stream=True, n=2).events
    plain = [c["message"]["content"] for c in chat(server, "A", n=2).json["choices"]]
    assert [_text(events, i) for i in range(2)] == plain


def test_streamed_tool_calls(server: LMServer) -> None:
    """A tool call arrives as a delta with its index."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    events = chat(server, "A", stream=True, tools=tools).events
    deltas = [c["delta"] for e in events[:-1] for c in e["choices"] if "tool_calls" in c["delta"]]
    assert deltas[0]["tool_calls"][0]["function"]["name"] == "f"
    assert events[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_tokens_are_spread_over_the_latency(server: LMServer, plug) -> None:
    """The first token comes before the last, and the last not before the latency."""
    server.configure(words=5, latency=0.4)
    start = time.monotonic()
    sock = plug.send(json.dumps(chat_body(stream=True)).encode())
    received, first = b"", None
    while b"[DONE]" not in received:
        received += sock.recv(65536)
        if first is None and b'"content":"' in received.replace(b'"content":""', b""):
            first = time.monotonic() - start
    assert first is not None
    assert 0.08 <= first < 0.4 <= time.monotonic() - start


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.25, 0.5, 0.75, 1.0]),
        ({"first_token_delay": 0.1}, [0.1, 0.4, 0.7, 1.0]),
        ({"inter_token_delay": 0.1}, [0.7, 0.8, 0.9, 1.0]),
        ({"inter_token_delay": 2.0}, [0.0, 2.0, 4.0, 6.0]),
        ({"first_token_delay": 0.5, "inter_token_delay": 0.05}, [0.5, 0.55, 0.6, 0.65]),
    ],
)
def test_when_tokens_are_due(options: dict[str, float], expected: list[float]) -> None:
    """The latency is the last token's time, unless both delays are given."""
    assert schedule(4, 1.0, Settings(**options)) == pytest.approx(expected)


def test_streamed_text_completion_and_response(server: LMServer) -> None:
    """The two other endpoints stream, too."""
    events = post(server, "/v1/completions", {"model": "any", "prompt": "A", "stream": True}).events
    plain = post(server, "/v1/completions", {"model": "any", "prompt": "A"}).json
    assert "".join(e["choices"][0]["text"] for e in events[:-1]) == plain["choices"][0]["text"]
    events = post(server, "/v1/responses", {"model": "any", "input": "A", "stream": True}).events
    whole = post(server, "/v1/responses", {"model": "any", "input": "A"}).json
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"] == whole
    deltas = [e["delta"] for e in events if e["type"] == "response.output_text.delta"]
    assert "".join(deltas) == whole["output"][0]["content"][0]["text"]


def test_a_client_that_leaves_a_stream_is_noticed(server: LMServer, plug) -> None:
    """Closing the connection between two tokens counts as a disconnect at once."""
    server.configure(words=100, latency=60)
    sock = plug.send(json.dumps(chat_body(stream=True)).encode())
    while b"chat.completion.chunk" not in sock.recv(65536):
        pass
    sock.close()
    stats = server.wait_for(disconnects=1, in_flight=0, timeout=10)
    assert stats.completed == 0
