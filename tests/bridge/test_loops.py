"""Event loops come and go, and there may be several."""

from __future__ import annotations

import asyncio
import threading

import pytest

from dspy_parallel.bridge import await_, engines
from tests.bridge.programs import run
from tests.support.loops import run_on


async def echo(value):
    await asyncio.sleep(0)
    return value


def program(n):
    return await_(echo(n)) + await_(echo(1))


@pytest.mark.usefixtures("no_leaks")
def test_loops_in_several_threads_at_once(loop_kind, engine):
    """All programs of all loops must be in flight before any returns."""
    barrier = threading.Barrier(4)
    results = {}

    async def main(loop):
        arrived, here = 0, asyncio.Event()

        async def meet():
            nonlocal arrived
            arrived += 1
            if arrived == 10:
                await asyncio.get_running_loop().run_in_executor(None, barrier.wait, 100)
                here.set()
            await here.wait()

        def meeting(n):
            await_(meet())
            assert await_(current_loop()) is running
            return program(n)

        async def current_loop():
            return asyncio.get_running_loop()

        running = asyncio.get_running_loop()
        results[loop] = await asyncio.gather(*(run(meeting, n, engine=engine) for n in range(10)))

    threads = [threading.Thread(target=run_on, args=(loop_kind, main, n)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert results == {n: list(range(1, 11)) for n in range(4)}


def test_free_threaded_python_means_threads(monkeypatch):
    """Also for what is known not to need one; pinned to the loop stays what it is."""
    monkeypatch.setattr(engines, "_FREE_THREADED", True)

    def where():
        return threading.current_thread()

    async def main():
        me = threading.current_thread()
        assert await run(where) is not me
        assert await run(where, engine="loop") is me

    asyncio.run(main())
