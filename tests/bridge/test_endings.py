"""Programs that are closed, dropped, or outlive their loop; and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref

import pytest
from greenlet import greenlet

from dspy_parallel.bridge import await_
from dspy_parallel.bridge.kernel import Program
from dspy_parallel.errors import BridgeError
from tests.bridge.programs import run

from .waiting import Computing, Gate, gone, ticks

pytestmark = pytest.mark.usefixtures("no_leaks")


async def forever():
    await asyncio.get_running_loop().create_future()


def begun(program):
    """A coroutine that has been stepped to the program's first wait."""
    coroutine = run(program, engine="loop")
    coroutine.send(None)
    return coroutine


@pytest.mark.parametrize("by", ["close", "collection"])
def test_closing_a_coroutine_runs_finally_blocks(by):
    """GeneratorExit is raised in the program; waiting is an error then, what does not wait works."""
    log = []

    async def instant():
        return "instant"

    def program():
        try:
            await_(forever())
        except GeneratorExit:
            log.append("exit")
            raise
        finally:
            log.append(await_(instant()))

    async def main():
        coroutine = begun(program)
        if by == "close":
            coroutine.close()
        del coroutine
        gc.collect()
        assert log == ["exit", "instant"]

    asyncio.run(main())


@pytest.mark.parametrize("with_loop", [True, False])
def test_closing_with_await_in_finally(with_loop):
    """Plain code gets "coroutine ignored GeneratorExit", a RuntimeError; so does this, and it ends the program."""
    log = []

    async def cleanup():
        try:
            await asyncio.sleep(0)
        finally:
            log.append("cleanup ended")

    def program():
        try:
            await_(forever())
        finally:
            try:
                await_(cleanup())
            finally:
                log.append("program ended")

    def close(coroutine):
        with pytest.raises(BridgeError, match="being closed"):
            coroutine.close()

    async def main():
        coroutine = begun(program)
        if with_loop:
            close(coroutine)
        return coroutine

    coroutine = asyncio.run(main())
    if not with_loop:
        close(coroutine)
    assert log == ["cleanup ended", "program ended"]


def test_closing_what_swallows_it():
    """As in plain code: a generator that goes on to wait ignores GeneratorExit, one that returns is closed."""

    def returns():
        with contextlib.suppress(BaseException):
            await_(forever())

    def waits_on():
        returns()
        await_(asyncio.sleep(0))

    async def main():
        begun(returns).close()
        await ticks(2)  # each begins in a turn of its own
        coroutine = begun(waits_on)
        with pytest.raises(RuntimeError):
            coroutine.close()

    asyncio.run(main())


@pytest.mark.parametrize("waits", [True, False])
def test_closing_a_thread_program(waits):
    """The program gets an error at its wait, or its next one."""
    outcome = []
    done = threading.Event()

    async def main():
        computing = Computing()

        def program():
            try:
                if waits:
                    await_(gate.wait())
                else:
                    computing.work()
                    await_(asyncio.sleep(0))
            except BaseException as exc:
                outcome.append(exc)
                raise
            finally:
                done.set()

        gate = Gate()
        coroutine = run(program, engine="thread")
        future = coroutine.send(None)
        if waits:
            while not gate.arrived.is_set():  # step it by hand, as a task would
                await asyncio.wait([asyncio.ensure_future(future)]) if not future.done() else None
                future._asyncio_future_blocking = False
                future = coroutine.send(None)
        else:
            await computing.entered.wait()
        coroutine.close()
        computing.released.set()
        await asyncio.get_running_loop().run_in_executor(None, done.wait, 100)

    asyncio.run(main())
    assert done.is_set()
    assert isinstance(outcome[0], BridgeError)


def test_loop_closed_under_a_computing_thread():
    """The program's next wait is a typed error, not a hang; its thread ends."""
    loop = asyncio.new_event_loop()
    seen, done, computing = [], threading.Event(), None

    def program():
        computing.work()
        coroutine = asyncio.sleep(0)
        try:
            await_(coroutine)
        except BridgeError as exc:
            seen.append(str(exc))
            assert coroutine.cr_frame is None
        finally:
            done.set()

    async def main():
        nonlocal computing
        computing = Computing()
        task = loop.create_task(run(program, engine="thread"))
        task._log_destroy_pending = False
        await computing.entered.wait()

    loop.run_until_complete(main())
    loop.close()
    computing.released.set()
    assert done.wait(100)
    assert "closed" in seen[0]


def _suspended() -> list[greenlet]:
    gc.collect()
    return [found for found in gc.get_objects() if isinstance(found, Program) and not found.dead]


def test_a_thousand_cancels_leave_nothing(run_here, engine):
    """No greenlet, task, busy thread, or object of theirs."""
    number = 1000 if engine == "loop" else 100
    marks: list[weakref.ref] = []

    class Mark:
        pass

    async def main():
        waiting = 0
        all_wait = asyncio.Event()

        async def wait():
            nonlocal waiting
            waiting += 1
            if waiting == number:
                all_wait.set()
            await asyncio.get_running_loop().create_future()

        def program():
            mark = Mark()
            marks.append(weakref.ref(mark))
            await_(wait())

        tasks = [asyncio.ensure_future(run(program, engine=engine)) for _ in range(number)]
        await all_wait.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
        tasks.clear()
        del task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_here(main)
    assert not _suspended()
    assert gone(marks)


def test_no_garbage_cycles(engine):
    """Runs, failures and cancels are freed by reference counting alone, so that nothing waits for the collector."""
    marks: list[weakref.ref] = []

    class Mark:
        pass

    class Failure(Exception):
        pass

    async def main():
        gate = Gate()

        def program(how):
            mark = Mark()
            marks.append(weakref.ref(mark))
            await_(asyncio.sleep(0))
            if how == "fail":
                raise Failure
            if how == "await":
                await_(fail())
            if how == "cancel":
                await_(gate.wait())

        async def fail():
            raise Failure

        for how in ("return", "fail", "await", "cancel"):
            task = asyncio.ensure_future(run(program, how, engine=engine))
            if how == "cancel":
                await gate.arrived.wait()
                task.cancel()
            with contextlib.suppress(Failure, asyncio.CancelledError):
                await task
            del task
            await asyncio.sleep(0)

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
        assert len(marks) == 4
        assert gone(marks, collect=False)
    finally:
        gc.enable()
