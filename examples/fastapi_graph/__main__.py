"""Starts everything, makes the requests, and prints what happened."""

from __future__ import annotations

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import argparse
import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import dspy
import httpx
import uvicorn

from dspy_parallel.testing import LMServer
from examples.fastapi_graph.app import make_app


@asynccontextmanager
async def serving(lm: Any) -> AsyncIterator[str]:
    """Run the service on this event loop; gives its URL."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(lm), log_level="error"))
    running = asyncio.ensure_future(server.serve([listening]))
    while not server.started:  # noqa: ASYNC110 - uvicorn offers nothing to wait for
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


async def load(client: httpx.AsyncClient, path: str, count: int) -> tuple[float, float]:
    """Send requests at once, and look every 20 ms how long a health check takes meanwhile.

    Returns:
        Seconds for all of them, and seconds of the slowest health check.
    """
    began, slowest, done = time.perf_counter(), 0.0, asyncio.Event()

    async def watch() -> None:
        nonlocal slowest
        while not done.is_set():
            asked = time.perf_counter()
            await client.get("/health")
            slowest = max(slowest, time.perf_counter() - asked)
            await asyncio.sleep(0.02)

    watching = asyncio.ensure_future(watch())
    replies = await asyncio.gather(*(client.post(path, json={"text": f"text {n}"}) for n in range(count)))
    seconds = time.perf_counter() - began
    done.set()
    await watching
    assert all(reply.json()["verdict"] for reply in replies)
    return seconds, slowest


async def hang_up(client: httpx.AsyncClient, lm_server: LMServer, count: int) -> None:
    """Clients that lose patience while their LM requests are in flight."""
    await asyncio.to_thread(lm_server.configure, latency=30)
    await asyncio.to_thread(lm_server.reset_stats)
    impatient = [asyncio.ensure_future(client.post("/review", json={"text": str(n)})) for n in range(count)]
    await lm_server.await_for(in_flight=2 * count)
    for request in impatient:
        request.cancel()
    await asyncio.gather(*impatient, return_exceptions=True)
    await lm_server.await_for(in_flight=0)
    stats = await lm_server.astats()
    print(f"{count} clients hung up: {stats.disconnects} LM requests in flight were closed, {stats.completed} ran on")


async def main(requests: int, latency: float) -> None:
    with LMServer(latency=latency) as lm_server:
        lm = dspy.LM("openai/any", cache=False, **lm_server.lm_kwargs())
        async with serving(lm) as url, httpx.AsyncClient(base_url=url, timeout=120, limits=httpx.Limits()) as client:
            await client.post("/review", json={"text": "warm-up"})
            print(f"{requests} requests at once, 3 LM calls of {latency} s each, two of them side by side")
            for path, few in (("/review", requests), ("/review-stock", min(requests, 5))):
                seconds, slowest = await load(client, path, few)
                print(
                    f"{path:15} {few:4} requests: {seconds:6.2f} s, {few / seconds:6.1f} a second; "
                    f"slowest health check meanwhile {slowest:.2f} s"
                )
            await hang_up(client, lm_server, 10)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--latency", type=float, default=0.5, help="seconds of each LM call (default: 0.5)")
    options = parser.parse_args()
    asyncio.run(main(options.requests, options.latency))
