"""The service. `make_app()` is what a real one would look like: nothing in it knows that nodes are sync."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
from fastapi import FastAPI, Request
from pydantic import BaseModel

from dspy_parallel.langgraph import parallelize_graph
from examples.fastapi_graph.graph import build

__all__ = ["make_app"]


class Text(BaseModel):
    """What clients send."""

    text: str


async def _unless_disconnected(request: Request, running: asyncio.Task[Any]) -> Any:
    """The result, or a cancelled run if the client hangs up. (FastAPI does not cancel endpoints by itself.)"""

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    waiting = asyncio.ensure_future(hung_up())
    try:
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            running.cancel()
        return await running
    finally:
        waiting.cancel()


def make_app(lm: Any) -> FastAPI:
    """Build the service.

    Args:
        lm: The language model of all nodes.
    """
    app = FastAPI()
    parallel, stock = parallelize_graph(build()).compile(), build().compile()

    async def review(graph: Any, text: Text, request: Request) -> Any:
        with dspy.context(lm=lm):
            running = asyncio.ensure_future(graph.ainvoke({"text": text.text}))
        try:
            return await _unless_disconnected(request, running)
        except asyncio.CancelledError:
            return {"cancelled": True}  # nobody reads this

    @app.post("/review")
    async def _(text: Text, request: Request) -> Any:
        return await review(parallel, text, request)

    @app.post("/review-stock")
    async def _(text: Text, request: Request) -> Any:
        return await review(stock, text, request)

    @app.get("/health")
    async def _() -> str:
        return "ok"

    return app
