"""Cancelled programs whose LM requests are at the server: the requests end there, and nothing is left here."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest

from dspy_parallel import async_module
from dspy_parallel.testing import LMServer
from tests.modules.plain import Plain, fresh
from tests.support.loops import run_on
from tests.testing.dspy_world import ENGINES, make_lm


@pytest.mark.parametrize("way", ["loop", "thread", "auto"])
@pytest.mark.parametrize("engine", ENGINES)
def test_requests_in_flight(lm_server: LMServer, engine: str | None, way: Any, no_leaks: None) -> None:
    """Very many where a request costs neither a thread nor LiteLLM's time."""
    lm_server.configure(hold=True)
    many = 300 if engine == "lm15" and way == "loop" else 30
    program = async_module(engine=way)(fresh(Plain))()

    async def main() -> None:
        with dspy.context(lm=make_lm(lm_server, engine)):
            tasks = [asyncio.create_task(program.acall(str(n))) for n in range(many)]
            await lm_server.await_for(held=many)
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(result, asyncio.CancelledError)
            stats = await lm_server.await_for(disconnects=many, in_flight=0, connections=0)
            assert (stats.requests, stats.completed, stats.disconnects, stats.held) == (many, 0, many, 0)

    run_on("asyncio", main)
