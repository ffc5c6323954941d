"""Timeouts, task groups and anyio's scopes cancel programs."""

from __future__ import annotations

import asyncio
import sys

import anyio
import pytest

from dspy_parallel.bridge import await_
from tests.bridge.programs import run

from .waiting import Computing, Gate, ticks

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_wait_for(run_here, engine):
    """The time begins when the program waits: before that there is nothing to clean up."""

    async def main():
        gate, log = Gate(), []

        def program():
            try:
                await_(gate.wait())
            finally:
                await_(asyncio.sleep(0))
                log.append("cleaned")

        task = asyncio.ensure_future(run(program, engine=engine))
        await gate.arrived.wait()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(task, 0.01)
        assert log == ["cleaned"]
        assert await asyncio.wait_for(run(lambda: await_(asyncio.sleep(0, 1)), engine=engine), 100) == 1

    run_here(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="new in 3.11")
def test_timeout_inside_and_outside(run_here, engine):
    """A timeout around the program, one inside it, and the cancelling() count afterwards."""

    async def main():
        async def limited():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await Gate().wait()
            return "inner"

        async def expire():
            outer.reschedule(asyncio.get_running_loop().time())
            await Gate().wait()

        def program():
            assert await_(limited()) == "inner"
            await_(expire())

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as outer:
                await run(program, engine=engine)
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)

    run_here(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="new in 3.11")
def test_sibling_failure_in_a_task_group(run_here, engine):
    async def main():
        gate, log = Gate(), []

        def waits():
            try:
                await_(gate.wait())
            except asyncio.CancelledError:
                log.append("cancelled")
                raise

        def fails():
            await_(gate.arrived.wait())
            raise ValueError("sibling")

        with pytest.raises(BaseExceptionGroup) as caught:  # noqa: F821, PT012
            async with asyncio.TaskGroup() as group:
                group.create_task(run(waits, engine=engine))
                group.create_task(run(fails, engine=engine))
        assert [repr(exc) for exc in caught.value.exceptions] == ["ValueError('sibling')"]
        assert log == ["cancelled"]

    run_here(main)


def test_anyio_cancel_scope(run_here, engine):
    """Around the program and inside it; a shielded cleanup runs to its end."""

    async def main():
        gate, log = Gate(), []

        async def inside():
            with anyio.move_on_after(0.01) as scope:
                await Gate().wait()
            return scope.cancelled_caught

        async def cleanup():
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)
                log.append("cleaned")

        def program():
            assert await_(inside())
            try:
                await_(gate.wait())
            finally:
                await_(cleanup())

        async def bridged(scope):
            with scope:
                await run(program, engine=engine)
                raise AssertionError("not cancelled")

        scope = anyio.CancelScope()
        task = asyncio.ensure_future(bridged(scope))
        await gate.arrived.wait()
        scope.cancel()
        await task
        assert scope.cancelled_caught
        assert log == ["cleaned"]

    run_here(main)


class Stepped:
    """A coroutine, and how often it has been stepped."""

    def __init__(self, coroutine):
        self.coroutine, self.number = coroutine, 0

    def __await__(self):
        steps = self.coroutine.__await__()
        step = steps.send, None
        while True:
            self.number += 1
            try:
                yielded = step[0](step[1])
            except StopIteration as stop:
                return stop.value
            try:
                step = steps.send, (yield yielded)
            except BaseException as exc:
                step = steps.throw, exc


def test_anyio_does_not_spin_while_a_thread_computes():
    """anyio cancels on each turn of the loop until it is heard: that would burn a core for as long."""

    async def main():
        computing = Computing()

        def program():
            computing.work()
            await_(Gate().wait())

        async def bridged():
            with anyio.CancelScope():
                await stepped

        stepped = Stepped(run(program, engine="thread"))
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(bridged)
                await computing.entered.wait()
                scope.cancel()
                with anyio.CancelScope(shield=True):
                    await ticks(10)
                    steps = stepped.number
                    computing.released.set()
        return steps

    assert asyncio.run(main()) == 2  # to its wait for the thread, and to the next one after the cancel
