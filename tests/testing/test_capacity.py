"""What the server can take: many connections, and little CPU for each request."""

from __future__ import annotations

import asyncio
import json
import os
import resource

import pytest

from dspy_parallel.testing import LMServer
from tests.testing.requests import chat_body

SYSTEM = (
    "Your output fields are:\n1. `reasoning` (str):\n2. `answer` (int):\n\n[[ ## answer ## ]]\n"
    "{answer}        # note: the value you produce must be a single int value\n\n[[ ## completed ## ]]\n"
)
INSTRUCTIONS = "Think. " * 100
USER = (
    "[[ ## question ## ]]\nQuestion %d\n\nRespond with the corresponding output fields, starting with the field "
    "`[[ ## reasoning ## ]]`, then `[[ ## answer ## ]]` (must be formatted as a valid Python int), "
    "and then ending with the marker for `[[ ## completed ## ]]`."
)


def _request(number: int) -> bytes:
    body = chat_body()
    body["messages"] = [
        {"role": "system", "content": SYSTEM + INSTRUCTIONS},
        {"role": "user", "content": USER % number},
    ]
    raw = json.dumps(body).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%s" % (len(raw), raw)


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    return await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))


async def _many(server: LMServer, connections: int, requests: int) -> None:
    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for i in range(requests):
            writer.write(_request(number * requests + i))
            assert b"answer" in await _answer(reader)
        writer.close()

    await asyncio.gather(*(client(i) for i in range(connections)))


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"the system allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


def test_a_thousand_at_once(server: LMServer) -> None:
    """A thousand requests in flight, each on its own connection, all before the first is answered."""
    _allow_files(1200)
    server.configure(gate=1000, max_hold=250)
    asyncio.run(asyncio.wait_for(_many(server, 1000, 1), 250))
    stats = server.stats()
    assert (stats.peak_in_flight, stats.peak_connections, stats.completed) == (1000, 1000, 1000)


@pytest.mark.stress
def test_ten_thousand_at_once(server: LMServer) -> None:
    """The same with ten thousand, which is more than any fan-out of this library's benchmarks."""
    _allow_files(10_200)
    server.configure(gate=10_000)
    asyncio.run(asyncio.wait_for(_many(server, 10_000, 1), 110))
    stats = server.stats()
    assert (stats.peak_in_flight, stats.peak_connections, stats.completed) == (10_000, 10_000, 10_000)


@pytest.mark.bench
def test_cpu_per_request(server: LMServer) -> None:
    """The server takes less than a third of a millisecond, so that it leaves the machine to what is measured."""

    def used() -> float:
        with open(f"/proc/{server.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    asyncio.run(_many(server, 50, 20))
    before = used()
    asyncio.run(_many(server, 50, 400))
    each = (used() - before) / 20_000
    print(f"{each * 1e6:.0f} µs of CPU for each request")
    assert each < 1 / 3000
