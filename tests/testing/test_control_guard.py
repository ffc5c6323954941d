"""Who may control the server, and what a request may ask for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dspy_parallel.testing import LMServer
from dspy_parallel.testing.control_channel import TOKEN_HEADER, refusal
from tests.testing.requests import chat, chat_body, post

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1", "127.0.0.1:80", "127.8.9.1:1", "localhost", "LocalHost:8080", "[::1]", "[::1]:443"
FOREIGN = (
    "evil.example",
    "evil.example:80",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example/127.0.0.1",
    "127.0.0.1@evil.example",
    "127.0.0.1:80@evil.example",
    "localhost ",
    "localhost:",
    "0.0.0.0",
    "[::]",
    "[::1].evil.example",
    "::1",
    "١٢٧.0.0.1",
    "",
)


def test_hosts_and_origins() -> None:
    """Names, IPv4, IPv6, ports and letter case of loopback are all right, and nothing that only looks like it."""
    for host in LOOPBACK:
        assert refusal("t", [host], [], ["t"]) is None
        assert refusal("t", ["localhost"], [f"http://{host}"], ["t"]) is None
    for host in FOREIGN:
        assert "Host" in str(refusal("t", [host], [], ["t"])), host
        assert "origins" in str(refusal("t", ["localhost"], [f"http://{host}"], ["t"])), host
    for origin in ("null", "", "file://", "chrome-extension://abc", "http://localhost/path"):
        assert "origins" in str(refusal("t", ["localhost"], [origin], ["t"])), origin
    assert "Host" in str(refusal("t", [], [], ["t"]))
    assert "Host" in str(refusal("t", ["localhost", "evil.example"], [], ["t"]))
    assert "origins" in str(refusal("t", ["localhost"], ["http://localhost", "null"], ["t"]))
    for tokens in ([], [""], ["T"], ["t", "t"], ["tt"], ["\udcff"]):
        assert TOKEN_HEADER in str(refusal("t", ["localhost"], [], tokens))


@pytest.mark.parametrize("what", ["configure", "stats", "log", "reset", "restore", "release", "wait", "nonsense"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"hOST": "EVIL.example:80"},
        {"Origin": "https://evil.example"},
        {"origin": "null"},
        {TOKEN_HEADER: "guessed"},
        {},
    ],
    ids=str,
)
def test_a_foreign_request_controls_nothing(server: LMServer, what: str, headers: dict[str, str]) -> None:
    """Neither by DNS rebinding, nor from another page, nor without the token; nothing is told, nothing is changed."""
    token = server._running().token
    given = headers if TOKEN_HEADER in headers or not headers else {**headers, TOKEN_HEADER: token}
    before = chat(server).content
    answer = post(server, f"/_control/{what}", {"replies": [{"content": "attacker"}]}, given)
    assert answer.status == 403
    assert set(answer.json) == {"error"}
    assert token not in answer.raw.decode()
    assert "access-control-allow-origin" not in answer.headers
    assert chat(server).content == before
    assert server.stats().requests == 2


def test_a_token_for_each_process(server: LMServer) -> None:
    """It is told to whoever starts the process, and does not fit another one."""
    command = [sys.executable, "-m", "dspy_parallel.testing", "--stop-with-stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        token = json.loads(process.stdout.readline())["token"]
        assert len(token) > 30
        assert post(server, "/_control/stats", {}, {TOKEN_HEADER: token}).status == 403
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0
    assert post(server, "/_control/stats", {}, {TOKEN_HEADER: server._running().token}).status == 200


NESTED: dict[str, Any] = {"type": "string"}
for _ in range(4):
    NESTED = {"type": "array", "minItems": 1000, "items": NESTED}


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/v1/chat/completions", {"n": 129}),
        ("/v1/chat/completions", {"n": 10**9}),
        ("/v1/chat/completions", {"n": 10**400, "stream": True}),
        ("/v1/chat/completions", {"n": True}),
        ("/v1/chat/completions", {"max_tokens": 10**12}),
        ("/v1/chat/completions", {"max_completion_tokens": 10**12}),
        ("/v1/embeddings", {"dimensions": 10**9, "input": "a"}),
        ("/v1/embeddings", {"input": ["a"] * 10**5}),
        *(
            ("/v1/chat/completions", {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}})
            for schema in (
                {"properties": {"a": {"type": "array", "items": {}, "minItems": 10**9}}},
                {"properties": {"a": {"type": "string", "minLength": 10**12}}},
                {"properties": {"a": {"type": "object", "additionalProperties": {}, "minProperties": 10**9}}},
                {"properties": {"a": NESTED}},
                {"properties": {"a": {"type": "integer", "minimum": 1e400}}},
                {"properties": {"a": {"type": "string", "minLength": "long"}}},
            )
        ),
    ],
)
def test_a_request_for_too_much_is_a_400(server: LMServer, path: str, more: dict[str, Any]) -> None:
    """It costs neither memory nor time, and the server goes on."""
    assert post(server, path, {**chat_body(), **more}).status == 400
    assert chat(server, n=3).status == 200


def test_a_body_that_nests_without_end_is_a_400(server: LMServer) -> None:
    """JSON may be deeper than Python's stack."""
    assert post(server, "/v1/chat/completions", b'{"model": "m", "messages": ' + b"[" * 10**5).status == 400
