"""Cancellation: raised where the program waits, as in a coroutine; nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import time
import weakref

import anyio
import pytest
from greenlet import greenlet

from dspy_parallel.bridge import await_, run
from dspy_parallel.bridge.kernel import Program
from dspy_parallel.errors import BridgeError

pytestmark = pytest.mark.usefixtures("no_leaks")


class Gate:
    """A coroutine waits here for good; the test knows when it has arrived."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()

    async def wait(self) -> None:
        self.arrived.set()
        await asyncio.get_running_loop().create_future()


class Computing:
    """A program computes (or blocks) here until the test lets it go on; for the thread engine."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.released = threading.Event()
        self._loop = asyncio.get_running_loop()

    def work(self) -> None:
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self.released.wait(30)


async def ticks(n: int) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def cancelled(task: asyncio.Task) -> None:
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("at", [0, 1, 2])
def test_at_every_await(run_here, engine, at):
    """Raised exactly there, with its message, and cleanup that waits runs to its end."""

    async def main():
        gate, log = Gate(), []

        async def cleanup():
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            log.append("cleaned")

        def program():
            for n in range(3):
                try:
                    await_(gate.wait() if n == at else asyncio.sleep(0))
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
        assert log == [(at, ("because",)), "cleaned"]

    run_here(main)


def test_the_awaited_coroutine_is_cancelled_first(run_here, engine):
    """Inside out, with waits on the way."""

    async def main():
        gate, log = Gate(), []

        async def inner():
            try:
                await gate.wait()
            finally:
                await asyncio.sleep(0)
                log.append("inner")

        def program():
            try:
                await_(inner())
            finally:
                log.append("program")

        task = asyncio.ensure_future(run(program, engine=engine))
        await gate.arrived.wait()
        task.cancel()
        await cancelled(task)
        assert log == ["inner", "program"]

    run_here(main)


def test_bare_except_swallows_it(run_here, engine):
    """As in a coroutine: the program goes on, can wait again, and be cancelled again."""

    async def main():
        first, second = Gate(), Gate()

        def program():
            try:
                await_(first.wait())
            except:  # noqa: E722
                pass
            await_(asyncio.sleep(0))
            await_(second.wait())

        task = asyncio.ensure_future(run(program, engine=engine))
        await first.arrived.wait()
        task.cancel()
        await second.arrived.wait()
        assert not task.done()
        task.cancel()
        await cancelled(task)

    run_here(main)


def test_except_exception_does_not(run_here, engine):
    async def main():
        gate = Gate()

        def program():
            with contextlib.suppress(Exception):
                await_(gate.wait())
            raise AssertionError("went on")

        task = asyncio.ensure_future(run(program, engine=engine))
        await gate.arrived.wait()
        task.cancel()
        await cancelled(task)

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


def test_wait_for(run_here, engine):
    async def main():
        gate, log = Gate(), []

        def program():
            try:
                await_(gate.wait())
            finally:
                await_(asyncio.sleep(0))
                log.append("cleaned")

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(run(program, engine=engine), 0.05)
        assert log == ["cleaned"]
        assert await asyncio.wait_for(run(lambda: await_(asyncio.sleep(0, 1)), engine=engine), 30) == 1

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

        def program():
            assert await_(limited()) == "inner"
            await_(Gate().wait())

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
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


def test_anyio_does_not_spin_while_a_thread_computes():
    """anyio cancels on each turn of the loop until it is heard: that would burn a core for as long."""

    async def main():
        computing, turns = Computing(), 0
        asyncio.get_running_loop()

        def program():
            computing.work()
            await_(Gate().wait())

        async def count():
            nonlocal turns
            loop = asyncio.get_running_loop()
            original = loop._run_once

            def counted():
                nonlocal turns
                turns += 1
                original()

            loop._run_once = counted
            await asyncio.sleep(0.2)
            del loop._run_once
            computing.released.set()

        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def bridged():
                    with anyio.CancelScope():
                        await run(program, engine="thread")

                group.start_soon(bridged)
                await computing.entered.wait()
                task = asyncio.ensure_future(count())
                await asyncio.sleep(0)
                scope.cancel()
        await task
        assert turns < 100

    asyncio.run(main())


def test_closing_a_coroutine_runs_finally_blocks():
    """coro.close(): GeneratorExit is raised in the program; waiting is an error then, what does not wait works."""
    log = []

    async def instant():
        return "instant"

    async def main():
        def program():
            try:
                await_(asyncio.get_running_loop().create_future())
            except GeneratorExit:
                log.append("exit")
                raise
            finally:
                log.append(await_(instant()))

        coroutine = run(program, engine="loop")
        coroutine.send(None)
        coroutine.close()
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
            await_(pending())
        finally:
            try:
                await_(cleanup())
            finally:
                log.append("program ended")

    async def pending():
        await asyncio.get_running_loop().create_future()

    async def main():
        coroutine = run(program, engine="loop")
        coroutine.send(None)
        if not with_loop:
            return coroutine
        with pytest.raises(BridgeError, match="being closed"):
            coroutine.close()

    coroutine = asyncio.run(main())
    if coroutine is not None:
        with pytest.raises(BridgeError, match="being closed"):
            coroutine.close()
    assert log == ["cleanup ended", "program ended"]


def test_closing_what_swallows_it():
    """As in plain code: a generator that goes on to wait ignores GeneratorExit, one that returns is closed."""

    async def main():
        def returns():
            with contextlib.suppress(BaseException):
                await_(asyncio.get_running_loop().create_future())

        def waits_on():
            with contextlib.suppress(BaseException):
                await_(asyncio.get_running_loop().create_future())
            await_(asyncio.sleep(0))

        coroutine = run(returns, engine="loop")
        coroutine.send(None)
        coroutine.close()
        coroutine = run(waits_on, engine="loop")
        coroutine.send(None)
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
        await asyncio.get_running_loop().run_in_executor(None, done.wait, 10)

    asyncio.run(main())
    assert done.is_set()
    assert isinstance(outcome[0], BridgeError)


def test_dropped_coroutine_ends_its_program():
    """Garbage collection of a suspended coroutine closes it, and so its greenlet."""
    log = []

    async def main():
        def program():
            try:
                await_(asyncio.get_running_loop().create_future())
            finally:
                log.append("ended")

        coroutine = run(program, engine="loop")
        coroutine.send(None)
        del coroutine
        gc.collect()
        assert log == ["ended"]

    asyncio.run(main())


def test_asyncio_run_cancels_what_is_in_flight(engine):
    """Programs that nobody awaits are cancelled when the loop ends, and unwind."""
    log = []

    async def main():
        gate = Gate()

        def program():
            try:
                await_(gate.wait())
            finally:
                await_(asyncio.sleep(0))
                log.append("ended")

        task = asyncio.ensure_future(run(program, engine=engine))
        await gate.arrived.wait()
        return weakref.ref(task)

    task = asyncio.run(main())
    assert log == ["ended"]
    gc.collect()
    assert task() is None


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
    assert done.wait(10)
    assert "closed" in seen[0]


def _suspended() -> list[greenlet]:
    gc.collect()
    return [found for found in gc.get_objects() if isinstance(found, Program) and not (found.dead or found.is_spare)]


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
    deadline = time.monotonic() + 5  # a worker may be a few instructions away from dropping its last job
    while any(mark() is not None for mark in marks) and time.monotonic() < deadline:
        gc.collect()
    assert not [mark for mark in marks if mark() is not None]


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
        deadline = time.monotonic() + 5
        while (alive := [mark() for mark in marks if mark() is not None]) and time.monotonic() < deadline:
            del alive
            threading.Event().wait(0.01)
        assert [mark() for mark in marks] == [None] * 4
    finally:
        gc.enable()
