"""What the bridge adds, measured against plain await in the same process.

Machines are noisy. So many rounds are measured, each short enough to pass between two disturbances, and the
fastest counts; and the limits are generous, about three times what was measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from dspy_parallel.bridge import await_, run, start

ROUNDS = 200
RUN_MICROSECONDS = 40.0
WAIT_MICROSECONDS = 10.0


async def _best(measured: Callable[[], Awaitable[None]]) -> float:
    """Seconds of the fastest round."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await measured()
        best = min(best, time.perf_counter() - began)
    return best


def test_a_run_costs_less_than_40_microseconds():
    number = 50

    async def main():
        def program():
            return None

        async def plain():
            async def nothing():
                return None

            for _ in range(number):
                await nothing()

        async def bridged():
            for _ in range(number):
                await start(program, (), {}, "loop")

        return (await _best(bridged) - await _best(plain)) / number * 1e6

    assert asyncio.run(main()) < RUN_MICROSECONDS


def test_a_wait_costs_less_than_10_microseconds():
    number = 50

    async def main():
        def program():
            for _ in range(number):
                await_(asyncio.sleep(0))

        async def plain():
            for _ in range(number):
                await asyncio.sleep(0)

        return (await _best(lambda: run(program, engine="loop")) - await _best(plain)) / number * 1e6

    assert asyncio.run(main()) < WAIT_MICROSECONDS


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

    asyncio.run(asyncio.wait_for(main(), 60))
