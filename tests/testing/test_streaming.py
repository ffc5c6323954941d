"""Server-sent events: the same text in pieces, spread over the latency."""

from __future__ import annotations

import json

from dspy_parallel.testing import LMServer
from tests.testing.requests import chat, chat_body


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


def test_a_client_that_leaves_a_stream_is_noticed(server: LMServer, plug) -> None:
    """Tokens come before the reply is over; closing the connection between two counts as a disconnect at once."""
    server.configure(words=100, latency=600)
    sock = plug.send(json.dumps(chat_body(stream=True)).encode())
    while b"chat.completion.chunk" not in sock.recv(65536):
        pass
    sock.close()
    stats = server.wait_for(disconnects=1, in_flight=0, timeout=60)
    assert stats.completed == 0
