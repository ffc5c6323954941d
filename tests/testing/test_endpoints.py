"""The OpenAI endpoints over real HTTP: bodies, usage, determinism, errors."""

from __future__ import annotations

import base64
import http.client
import json
import math
import re
import struct
from typing import Any

import pytest

from dspy_parallel.testing import LMServer
from tests.testing.requests import chat, chat_body, post


def test_a_chat_completion_has_all_parts(server: LMServer) -> None:
    """Clients read id, model, choices and usage."""
    answer = chat(server, "How are you?", model="some/model")
    body = answer.json
    assert answer.status == 200
    assert body["object"] == "chat.completion"
    assert body["model"] == "some/model"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["choices"][0]["message"]["role"] == "assistant"
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"] > 0


def test_equal_requests_get_equal_bytes(server: LMServer) -> None:
    """A reply is a function of the request, without a seed, a clock or a counter."""
    assert chat(server, "A").raw == chat(server, "A").raw
    assert chat(server, "A").content != chat(server, "B").content
    assert chat(server, "A", model="x").content != chat(server, "A", model="y").content


def test_replies_do_not_depend_on_the_process(server: LMServer) -> None:
    """Two servers agree, so that runs can be compared across processes."""
    with LMServer() as other:
        assert chat(server, "A").raw == chat(other, "A").raw


def test_text_parts_and_plain_text_are_the_same_question(server: LMServer) -> None:
    """Client libraries differ in how they write a text; the answer does not."""
    parts = {"model": "any", "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]}
    assert post(server, "/v1/chat/completions", parts).raw == chat(server, "Hello").raw


def test_n_alternatives_differ(server: LMServer) -> None:
    """`n` choices are different samples, and the first is the one that n=1 gives."""
    choices = chat(server, "A", n=3).json["choices"]
    texts = [c["message"]["content"] for c in choices]
    assert [c["index"] for c in choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert texts[0] == chat(server, "A").content


def test_embeddings_are_unit_vectors_of_the_text(server: LMServer) -> None:
    """Equal texts have equal vectors of length one, in the size asked for."""
    body = post(server, "/v1/embeddings", {"model": "e", "input": ["a", "b", "a"], "dimensions": 33}).json
    first, second, third = (d["embedding"] for d in body["data"])
    assert first == third != second
    assert len(first) == 33
    assert math.isclose(sum(x * x for x in first), 1, rel_tol=1e-6)


def test_embeddings_in_base64(server: LMServer) -> None:
    """OpenAI's own client asks for base64."""
    numbers = post(server, "/v1/embeddings", {"model": "e", "input": "a"}).json["data"][0]["embedding"]
    asked = {"model": "e", "input": "a", "encoding_format": "base64"}
    raw = base64.b64decode(post(server, "/v1/embeddings", asked).json["data"][0]["embedding"])
    assert struct.unpack("<8f", raw) == pytest.approx(numbers, rel=1e-6)


def test_models(server: LMServer) -> None:
    """The list of models is what it was configured to be."""
    server.configure(models=["m1", "m2"])
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/v1/models")
    body = json.loads(connection.getresponse().read())
    connection.close()
    assert [m["id"] for m in body["data"]] == ["m1", "m2"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": []}', b'{"model": "x", "messages": [3]}'])
def test_a_bad_body_is_a_400(server: LMServer, body: bytes) -> None:
    """What is not a request is refused, and not counted as one."""
    answer = post(server, "/v1/chat/completions", body)
    assert answer.status == 400
    assert "not valid" in answer.json["error"]["message"]
    assert server.stats().requests == 0


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("/v1/chat/completions", {"n": "two"}, "n is 'two'; give a whole number"),
        ("/v1/chat/completions", {"n": -1}, "n is -1"),
        ("/v1/chat/completions", {"n": 1.5}, "n is 1.5"),
        ("/v1/embeddings", {"dimensions": [3], "input": "a"}, r"dimensions is \[3\]"),
        ("/v1/chat/completions", {"stream": True, "stream_options": "usage"}, "stream_options is 'usage'"),
    ],
)
def test_a_bad_option_is_a_400(server: LMServer, path: str, options: dict[str, Any], message: str) -> None:
    """The reply names the option and what it may be."""
    answer = post(server, path, {**chat_body(), **options})
    assert answer.status == 400
    assert re.search(message, answer.json["error"]["message"])
    assert server.stats().requests == 0


def test_an_unknown_path_is_refused(server: LMServer) -> None:
    """A client that asks elsewhere is told so."""
    assert post(server, "/v1/images", {}).status == 400


def test_words_makes_replies_longer(server: LMServer) -> None:
    """The length of generated strings is an option."""
    server.configure(words=50)
    assert len(chat(server).content.split()) == 50
