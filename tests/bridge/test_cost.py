"""Thousands of programs in flight on one loop."""

from __future__ import annotations

import asyncio

from dspy_parallel.bridge import await_
from tests.bridge.programs import run


def test_ten_thousand_programs_in_flight_on_one_loop():
    """All of them must be waiting before any returns, and no thread is needed."""
    number = 10_000

    async def main():
        arrived, here = 0, asyncio.Event()

        async def meet():
            nonlocal arrived
            arrived += 1
            if arrived == number:
                here.set()
            await here.wait()

        def program(n):
            await_(meet())
            return n

        got = await asyncio.gather(*(run(program, n, engine="loop") for n in range(number)))
        assert got == list(range(number))

    asyncio.run(asyncio.wait_for(main(), 100))
