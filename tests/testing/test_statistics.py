"""Counting, waiting without polling, rendezvous, and clients that leave."""

from __future__ import annotations

import asyncio
import contextlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from dspy_parallel.testing import LMServer, SettingsError, WaitTimeout
from tests.testing.requests import chat, chat_body, chats

BODY = json.dumps(chat_body()).encode()


def test_counts(server: LMServer) -> None:
    """Requests by model and status; control requests are not counted."""
    chat(server, model="a")
    chat(server, model="a")
    chat(server, model="b")
    stats = server.stats()
    assert (stats.requests, stats.completed, stats.in_flight) == (3, 3, 0)
    assert stats.models == {"a": 2, "b": 1}
    assert stats.statuses == {"200": 3}
    assert server.reset_stats().requests == 0


def test_hold_proves_concurrency(server: LMServer) -> None:
    """All requests are in flight before any returns, and the log agrees."""
    server.configure(hold=True)
    with ThreadPoolExecutor(1) as pool:
        answers = pool.submit(chats, server, 8)
        stats = server.wait_for(held=8, timeout=60)
        assert (stats.in_flight, stats.completed) == (8, 0)
        server.release()
        assert {a.status for a in answers.result(60)} == {200}
    stats = server.stats()
    assert (stats.peak_in_flight, stats.in_flight, stats.completed) == (8, 0, 8)
    log = server.log()
    assert [entry.ordinal for entry in log] == list(range(1, 9))
    assert all(a.overlaps(b) for a in log for b in log)


def test_release_some(server: LMServer) -> None:
    """`release(n)` lets n requests pass, in order, also ones that come later."""
    server.configure(hold=True)
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(chat, server) for _ in range(3)]
        server.wait_for(held=3, timeout=60)
        server.release(2)
        stats = server.wait_for(completed=2, timeout=60)
        assert stats.in_flight == 1
        server.release(2)
        assert pool.submit(chat, server).result(60).status == 200
        assert [a.result(60).status for a in answers] == [200, 200, 200]


def test_gate_opens_when_all_have_come(server: LMServer) -> None:
    """A gate of N needs no release, and stays open."""
    server.configure(gate=6)
    assert len(chats(server, 6)) == 6
    assert server.stats().peak_in_flight == 6
    assert chat(server).status == 200


def test_a_hold_that_nobody_ends_fails(server: LMServer) -> None:
    """A forgotten release is an error, not a hanging test."""
    server.configure(hold=True, max_hold=0.05)
    answer = chat(server)
    assert answer.status == 503
    assert "never released" in answer.json["error"]["message"]


def test_a_client_that_leaves_is_noticed_while_the_handler_sleeps(server: LMServer, plug) -> None:
    """A cancelled LM call shows as a disconnect at once, whatever the request was waiting for."""
    server.configure(latency=600)
    sleeping = plug.send(BODY)
    server.wait_for(in_flight=1, timeout=60)
    server.configure(hold=True)
    held = plug.send(BODY)
    server.wait_for(held=1, timeout=60)
    for count, sock in enumerate((held, sleeping), 1):
        sock.close()
        server.wait_for(disconnects=count, timeout=60)
    stats = server.stats()
    assert (stats.in_flight, stats.held, stats.completed, stats.disconnects) == (0, 0, 0, 2)
    assert [entry.status for entry in server.log()] == [None, None]


def test_a_cancelled_task_is_noticed(server: LMServer) -> None:
    """The same for an asyncio client, with the async twins of the controls."""

    async def main() -> None:
        async def ask() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            try:
                writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nConnection: close\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY))
                await reader.read()
            finally:
                writer.close()

        tasks = [asyncio.create_task(ask()) for _ in range(20)]
        stats = await server.await_for(in_flight=20, timeout=60)
        assert stats.peak_in_flight == 20
        for task in tasks[:15]:
            task.cancel()
        assert (await server.await_for(disconnects=15, timeout=60)).in_flight == 5
        await server.arelease()
        await asyncio.gather(*tasks[15:])
        assert (await server.astats()).completed == 5

    server.configure(hold=True)
    asyncio.run(asyncio.wait_for(main(), 100))


def test_a_moment_is_not_missed(server: LMServer) -> None:
    """A waiter is woken by a number in flight that is over long before it could look again."""
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(server.wait_for, in_flight=5, timeout=60)
        while not waiter.done():
            server.configure(gate=5)
            chats(server, 5)
        assert waiter.result().peak_in_flight == 5


def test_waiting_in_vain(server: LMServer) -> None:
    """The error says what was wanted and where the server is."""
    with pytest.raises(WaitTimeout, match=r"did not reach requests=3 within 0\.05 s.*requests=0"):
        server.wait_for(requests=3, timeout=0.05)
    with pytest.raises(SettingsError, match="No such statistic"):
        server.wait_for(nonsense=1)


def test_zero_means_exactly_zero(server: LMServer, plug) -> None:
    """`wait_for(in_flight=0)` waits for quiet."""
    server.configure(hold=True)
    plug.send(BODY)
    server.wait_for(in_flight=1)
    with pytest.raises(WaitTimeout):
        server.wait_for(in_flight=0, timeout=0.05)
    server.release()
    assert server.wait_for(in_flight=0, completed=1).completed == 1


def test_connections(server: LMServer, plug) -> None:
    """Connections that carried requests are counted while they are open."""
    sockets = [plug.send(BODY) for _ in range(3)]
    assert server.wait_for(connections=3, completed=3, timeout=60).peak_connections == 3
    for sock in sockets:
        sock.close()
    assert server.wait_for(connections=0, timeout=60).peak_connections == 3


def test_the_log_has_bodies_only_on_request(server: LMServer) -> None:
    """Prompts are not kept unless a test asks for them."""
    chat(server, "secret")
    server.configure(log_bodies=True)
    chat(server, "wanted")
    first, second = server.log()
    assert first.body is None
    assert second.body["messages"][0]["content"] == "wanted"
    assert first.end is not None
    assert not first.overlaps(second)


def test_restore_cuts_off_and_forgets(server: LMServer, plug) -> None:
    """After `restore()` the server is like new."""
    server.configure(hold=True, latency=3, models=["x"])
    sock = plug.send(BODY)
    server.wait_for(held=1)
    server.restore()
    with contextlib.suppress(ConnectionResetError):
        assert sock.recv(1) == b""
    stats = server.stats()
    assert (stats.requests, stats.in_flight, stats.held, stats.disconnects) == (0, 0, 0, 0)
    assert chat(server).status == 200
