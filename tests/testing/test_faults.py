"""Faults: what the client sees, and which requests they hit."""

from __future__ import annotations

import http.client
import json
import time
from types import SimpleNamespace

import pytest

from dspy_parallel.testing import LMServer, SettingsError, admission
from dspy_parallel.testing.request_log import Recorder
from dspy_parallel.testing.server_options import Settings
from tests.testing.requests import chat, chat_body

BODY = json.dumps(chat_body()).encode()


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("400", 400, None),
        ("401", 401, "invalid_api_key"),
        ("429", 429, "rate_limit_exceeded"),
        ("500", 500, None),
        ("503", 503, None),
        ("context_length", 400, "context_length_exceeded"),
    ],
)
def test_error_replies(server: LMServer, kind: str, status: int, code: str | None) -> None:
    """Each is the reply that OpenAI sends, without Retry-After unless asked for."""
    server.configure(faults=[kind])
    answer = chat(server)
    assert answer.status == status
    assert answer.json["error"]["code"] == code
    assert "retry-after" not in answer.headers
    stats = server.stats()
    assert stats.faults == {kind: 1}
    assert (stats.requests, stats.completed, stats.in_flight) == (1, 0, 0)


def test_retry_after(server: LMServer) -> None:
    """Whole and fractional seconds, and a message of one's own."""
    server.configure(faults=[{"kind": "429", "retry_after": 2, "message": "Slow down."}])
    answer = chat(server)
    assert answer.headers["retry-after"] == "2"
    assert answer.json["error"]["message"] == "Slow down."
    server.configure(faults={"503": {"retry_after": 0.25}})
    assert chat(server).headers["retry-after"] == "0.25"


def test_reset(server: LMServer, plug) -> None:
    """The connection is reset before any byte of a reply."""
    server.configure(faults="reset")
    with pytest.raises(ConnectionResetError):
        plug.send(BODY).recv(1)
    stats = server.wait_for(in_flight=0)
    assert (stats.faults, stats.disconnects, stats.completed) == ({"reset": 1}, 0, 0)


def test_stall_until_the_client_leaves(server: LMServer, plug) -> None:
    """Nothing ever comes, and the client's leaving is noticed."""
    server.configure(faults=["stall"])
    sock = plug.send(BODY)
    server.wait_for(in_flight=1)
    sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        sock.recv(1)
    sock.close()
    assert server.wait_for(disconnects=1, in_flight=0).faults == {"stall": 1}


def test_truncated_body(server: LMServer) -> None:
    """Fewer bytes come than the header promises."""
    server.configure(faults=["truncated"])
    with pytest.raises(http.client.IncompleteRead):
        chat(server)
    server.configure(faults=[])
    assert chat(server).status == 200


def test_truncated_stream(server: LMServer) -> None:
    """A stream ends in the middle, without [DONE]."""
    server.configure(faults=["truncated"], words=8)
    with pytest.raises(http.client.IncompleteRead) as raised:
        chat(server, stream=True)
    assert b"chat.completion.chunk" in raised.value.partial
    assert b"[DONE]" not in raised.value.partial


def test_malformed_json(server: LMServer) -> None:
    """Status 200, complete by its length, and not JSON."""
    server.configure(faults=["malformed_json"])
    answer = chat(server)
    assert answer.status == 200
    with pytest.raises(json.JSONDecodeError):
        _ = answer.json


def test_wrong_content(server: LMServer) -> None:
    """A sound reply whose text is of no use."""
    server.configure(faults=["wrong_content"])
    answer = chat(server, "Respond with a JSON object in the following order of fields: `answer`.")
    assert answer.status == 200
    assert "[[" not in answer.content
    assert "{" not in answer.content


def _statuses(server: LMServer, count: int) -> list[int]:
    return [chat(server).status for _ in range(count)]


def test_every(server: LMServer) -> None:
    """Every third request, counted from the reset."""
    server.configure(faults=[{"kind": "500", "every": 3}])
    assert _statuses(server, 7) == [200, 200, 500, 200, 200, 500, 200]
    server.reset_stats()
    assert _statuses(server, 3) == [200, 200, 500]


def test_the_first_of_each_distinct_request(server: LMServer) -> None:
    """Who asks the same again gets through, whatever others ask; a reset starts anew."""
    server.configure(faults=[{"kind": "503", "first": 1, "match": "a|b"}])
    assert [chat(server, q).status for q in ("a", "b", "c", "b", "a", "a")] == [503, 503, 200, 200, 200, 200]
    server.reset_stats()
    assert chat(server, "a").status == 503


def test_times(server: LMServer) -> None:
    """The first two."""
    server.configure(faults=[{"kind": "500", "times": 2}])
    assert _statuses(server, 4) == [500, 500, 200, 200]


def test_probability_is_seeded(server: LMServer) -> None:
    """The same requests fail in every run; another seed, other requests."""
    server.configure(faults={"500": 0.5})
    first = _statuses(server, 40)
    server.reset_stats()
    assert _statuses(server, 40) == first
    assert 8 < first.count(500) < 32
    server.reset_stats()
    server.configure(faults=[{"kind": "500", "probability": 0.5, "seed": 1}])
    assert _statuses(server, 40) != first


def test_faults_of_a_model_or_a_text(server: LMServer) -> None:
    """A fault may be meant for some requests only."""
    server.configure(faults=[{"kind": "500", "model": "bad-*"}, {"kind": "401", "match": "secret"}])
    assert chat(server, model="bad-one").status == 500
    assert chat(server, "a secret").status == 401
    assert chat(server).status == 200


def test_max_concurrency_rejects(server: LMServer) -> None:
    """More at a time than allowed get 429 with Retry-After at once."""
    server.configure(max_concurrency=2, hold=True, retry_after=3)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        admitted = [pool.submit(chat, server) for _ in range(2)]
        server.wait_for(held=2)
        refused = chat(server)
        assert (refused.status, refused.headers["retry-after"]) == (429, "3")
        server.release()
        assert [a.result(60).status for a in admitted] == [200, 200]
    stats = server.stats()
    assert (stats.rejected, stats.peak_in_flight, stats.requests) == ({"concurrency": 1}, 2, 3)


def test_requests_per_minute(server: LMServer) -> None:
    """A sliding window, with advice when to come back."""
    server.configure(requests_per_minute=3)
    began = time.monotonic()
    answers = [chat(server) for _ in range(5)]
    took = time.monotonic() - began
    assert [a.status for a in answers] == [200, 200, 200, 429, 429]
    assert 60 - took - 0.001 <= float(answers[-1].headers["retry-after"]) <= 60
    assert server.stats().rejected == {"rate": 2}


def test_the_window_slides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits as advised is served."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(admission, "time", SimpleNamespace(monotonic=lambda: clock.now))
    window = admission.Admission(Settings(requests_per_minute=1, rate_window=0.2), Recorder())
    window.enter()
    clock.now += 0.05
    with pytest.raises(admission.Rejection) as advised:
        window.enter()
    assert advised.value.retry_after == pytest.approx(0.15, abs=0.002)
    clock.now += advised.value.retry_after
    window.enter()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latencies": 3}, "Unknown option 'latencies'. Known: .*latency"),
        ({"faults": ["404"]}, "Unknown fault kind '404'. Choose one of: 400, "),
        ({"faults": [{"kind": "500", "evry": 2}]}, "Unknown fault 'evry'"),
        ({"replies": [{"contents": "x"}]}, "Unknown rule 'contents'"),
        ({"replies": [{"match": "(", "content": "x"}]}, "not a regular expression"),
        ({"latency": -1}, "latency is -1"),
        ({"latency": {"m": []}}, "empty list"),
    ],
)
def test_wrong_options(server: LMServer, options: dict, message: str) -> None:
    """An error names the option, and nothing is changed."""
    with pytest.raises(SettingsError, match=message):
        server.configure(words=9, **options)
    assert len(chat(server).content.split()) == 2
