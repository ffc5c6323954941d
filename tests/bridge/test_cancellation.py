"""Cancellation: raised where the program waits, as in a coroutine; nothing is left behind."""

from __future__ import annotations

import asyncio

import pytest

from dspy_parallel.bridge import await_
from tests.bridge.programs import run

from .waiting import Computing, Gate, cancelled, ticks

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.mark.parametrize("at", [0, 1, 2])
def test_at_every_await(run_here, engine, at):
    """Raised exactly there, inside out, with its message; cleanup that waits runs to its end."""

    async def main():
        gate, log = Gate(), []

        async def wait():
            try:
                await gate.wait()
            finally:
                await asyncio.sleep(0)
                log.append("coroutine")

        async def cleanup():
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            log.append("cleaned")

        def program():
            for n in range(3):
                try:
                    await_(wait() if n == at else asyncio.sleep(0))
                except asyncio.CancelledError as exc:
                    log.append((n, exc.args))
                    raise
                finally:
                    if n == at:
                        await_(cleanup())

        task = asyncio.ensure_future(run(program, engine=engine))
        await gate.arrived.wait()
        task.cancel("because")
        await cancelled(task)
        assert log == ["coroutine", (at, ("because",)), "cleaned"]

    run_here(main)


def test_twice_reaches_the_cleanup(run_here, engine):
    """A second cancel interrupts cleanup that waits, no more and no less."""

    async def main():
        gate, cleaning, log = Gate(), Gate(), []

        def program():
            try:
                await_(gate.wait())
            finally:
                try:
                    await_(cleaning.wait())
                except asyncio.CancelledError:
                    log.append("interrupted")
                    raise

        task = asyncio.ensure_future(run(program, engine=engine))
        await gate.arrived.wait()
        task.cancel()
        await cleaning.arrived.wait()
        task.cancel()
        await cancelled(task)
        assert log == ["interrupted"]

    run_here(main)


def test_before_it_starts(run_here, engine):
    """The program never runs. (An eager task has started by then.)"""

    async def main():
        ran = []

        def program():
            ran.append(1)
            await_(asyncio.get_running_loop().create_future() if engine == "loop" else Gate().wait())

        task = asyncio.get_running_loop().create_task(run(program, engine=engine))
        eager = asyncio.get_running_loop().get_task_factory() is not None
        task.cancel()
        await cancelled(task)
        assert eager or not ran

    run_here(main)


@pytest.mark.parametrize("ending", ["value", "error", "wait", "swallow"])
def test_while_the_thread_computes(run_here, ending):
    """Raised at the next wait, or else at the end; the task waits for the thread, and the cancel is not lost."""

    async def main():
        computing, log = Computing(), []

        def program():
            computing.work()
            if ending == "value":
                return "unheard"
            if ending == "error":
                raise ValueError("unheard")
            try:
                await_(log.append("not awaited"))
            except asyncio.CancelledError as exc:
                log.append(exc.args)
                if ending == "swallow":
                    return await_(asyncio.sleep(0, "swallowed"))
                raise

        task = asyncio.ensure_future(run(program, engine="thread"))
        await computing.entered.wait()
        task.cancel("first")
        await ticks(3)
        task.cancel("now")
        await ticks(3)
        assert not task.done()
        computing.released.set()
        if ending == "swallow":
            assert await task == "swallowed"
            return
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        if ending == "error":
            link = caught.value
            while not isinstance(link, ValueError):
                link = link.__context__
        if ending == "wait":
            assert log == ["not awaited", ("now",)]

    run_here(main)


def test_coroutine_not_awaited_after_a_cancel_is_closed(run_here):
    """No "never awaited" warning: the suite makes warnings errors."""

    async def main():
        computing = Computing()

        def program():
            computing.work()
            coroutine = asyncio.sleep(0)
            try:
                await_(coroutine)
            finally:
                assert coroutine.cr_frame is None

        task = asyncio.ensure_future(run(program, engine="thread"))
        await computing.entered.wait()
        task.cancel()
        await ticks(2)
        computing.released.set()
        await cancelled(task)

    run_here(main)


@pytest.mark.parametrize("exit_with", [KeyboardInterrupt, SystemExit])
def test_exit_of_a_thread_program_outdoes_a_cancel(exit_with):
    async def main():
        computing = Computing()

        def program():
            computing.work()
            raise exit_with

        task = asyncio.ensure_future(run(program, engine="thread"))
        await computing.entered.wait()
        task.cancel()
        await ticks(2)
        computing.released.set()
        await task

    with pytest.raises(exit_with):
        asyncio.run(main())
