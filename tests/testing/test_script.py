"""Programmed replies and latencies."""

from __future__ import annotations

import json

from dspy_parallel.testing import LMServer
from tests.testing.requests import chat

CHAT_PROMPT = (
    "[[ ## question ## ]]\nWhy?\n\nRespond with the corresponding output fields, starting with the field "
    "`[[ ## answer ## ]]`, then `[[ ## score ## ]]` (must be formatted as a valid Python int), "
    "and then ending with the marker for `[[ ## completed ## ]]`."
)


def test_rules_match_in_order(server: LMServer) -> None:
    """The first rule that fits wins; what fits none gets a generated reply."""
    server.configure(
        replies=[
            {"model": "small*", "match": "sum", "content": "small sum"},
            {"match": "sum", "content": "sum"},
            {"request": "never said", "content": "no"},
        ]
    )
    assert chat(server, "A sum", model="small-1").content == "small sum"
    assert chat(server, "A sum", model="big").content == "sum"
    assert chat(server, "A product").content.startswith("reply ")


def test_a_mapping_is_short_for_rules(server: LMServer) -> None:
    """Patterns of the last user message to texts or rules."""
    server.configure(replies={"^one": "1", "^two": {"content": "2", "times": 1}})
    assert [chat(server, t).content for t in ("one", "two")] == ["1", "2"]
    assert chat(server, "two").content != "2"


def test_several_contents_take_turns(server: LMServer) -> None:
    """A list is replayed in order, from the start again, also by n > 1."""
    server.configure(replies=[{"content": ["a", "b", "c"]}])
    assert [chat(server).content for _ in range(4)] == ["a", "b", "c", "a"]
    server.reset_stats()
    assert [c["message"]["content"] for c in chat(server, n=3).json["choices"]] == ["a", "b", "c"]


def test_fields_are_rendered_as_the_prompt_asks(server: LMServer) -> None:
    """Given fields take the prompt's format, the others are generated."""
    server.configure(replies=[{"fields": {"answer": "Because."}}])
    content = chat(server, CHAT_PROMPT).content
    assert "[[ ## answer ## ]]\nBecause." in content
    assert "[[ ## score ## ]]" in content
    prompt = "Respond with a JSON object in the following order of fields: `answer`, then `score`."
    answer = json.loads(chat(server, prompt).content)
    assert answer["answer"] == "Because."
    assert list(answer) == ["answer", "score"]
    prompt = "Respond with the corresponding output fields wrapped in XML tags `<answer>`."
    assert chat(server, prompt).content == "<answer>\nBecause.\n</answer>"


def test_programmed_tool_calls(server: LMServer) -> None:
    """A rule can call tools."""
    server.configure(replies=[{"tool_calls": [{"name": "f", "arguments": {"x": 1}}, {"name": "g"}]}])
    choice = chat(server).json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    called = [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in choice["message"]["tool_calls"]]
    assert called == [("f", {"x": 1}), ("g", {})]


def test_rules_with_fault_and_times(server: LMServer) -> None:
    """A rule may fail, for some requests only."""
    server.configure(replies=[{"fault": {"kind": "429", "retry_after": 1}, "times": 1}, {"content": "second"}])
    answers = [chat(server) for _ in range(2)]
    assert [a.status for a in answers] == [429, 200]
    assert answers[1].content == "second"


def _latencies(server: LMServer) -> list[float]:
    log = server.log()
    assert all(entry.end is not None and entry.end - entry.start >= entry.latency for entry in log)
    return [entry.latency for entry in log]


def test_latency_sources(server: LMServer) -> None:
    """Suffix of the model's name, then rule, then option by model."""
    server.configure(
        latency={"slow": 0.03, "*": 0.01},
        replies=[{"match": "rule", "content": "x", "latency": 0.02}],
    )
    chat(server)
    chat(server, model="slow")
    chat(server, "rule", model="slow")
    chat(server, "rule", model="slow@0.04")
    assert _latencies(server) == [0.01, 0.03, 0.02, 0.04]


def test_recorded_latencies_are_replayed(server: LMServer) -> None:
    """In order and cyclic, for each model by itself."""
    server.configure(latency=[0.01, 0.02])
    for model in "aabab":
        chat(server, model=model)
    assert _latencies(server) == [0.01, 0.02, 0.01, 0.01, 0.02]
    server.configure(latency={"a": [0.03, 0.01]})
    server.reset_stats()
    for model in "aab":
        chat(server, model=model)
    assert _latencies(server) == [0.03, 0.01, 0.0]
