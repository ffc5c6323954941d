"""The FastAPI example: it serves many at once, and a client that hangs up stops its LM requests."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import dspy
import httpx

from dspy_parallel.testing import LMServer
from examples.fastapi_graph.__main__ import serving


def test_concurrent_requests_and_disconnects() -> None:
    async def main(lm_server: LMServer) -> None:
        lm = dspy.LM("openai/any", cache=False, **lm_server.lm_kwargs())
        async with serving(lm) as url, httpx.AsyncClient(base_url=url, timeout=250) as client:
            # Nobody is answered before all have asked twice.
            requests = [client.post("/review", json={"text": str(n)}) for n in range(10)]
            replies = await asyncio.gather(*requests)
            assert all(reply.json()["verdict"] for reply in replies)
            assert (await lm_server.astats()).peak_in_flight >= 20

            await asyncio.to_thread(lm_server.configure, latency=60)
            await asyncio.to_thread(lm_server.reset_stats)
            impatient = [asyncio.ensure_future(client.post("/review", json={"text": str(n)})) for n in range(5)]
            await lm_server.await_for(in_flight=10)
            for request in impatient:
                request.cancel()
            await asyncio.gather(*impatient, return_exceptions=True)
            await lm_server.await_for(disconnects=10)
            stats = await lm_server.astats()
            assert (stats.in_flight, stats.completed) == (0, 0)

    with LMServer(gate=20) as lm_server:
        asyncio.run(main(lm_server))
