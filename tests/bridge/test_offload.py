"""offload(): a function that blocks gets a thread of its own, where one is needed."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading

import pytest

from dspy_parallel.bridge import await_, call_in_thread, in_bridge, offload, placement_of, run
from dspy_parallel.errors import BridgeError, DSPyParallelError, ThreadRequiredError

from .placing import answer, block, on_loop, recorded

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR")


@offload
def where(*args, **kwargs):
    """Where it runs."""
    return threading.current_thread(), args, kwargs


def test_plain_call_outside():
    assert where(1, a=2) == (threading.current_thread(), (1,), {"a": 2})
    assert where.__doc__ == "Where it runs."
    assert inspect.signature(where) == inspect.signature(where.__wrapped__)


def test_a_worker_where_the_program_is_on_the_loop(run_here):
    """That is in async functions run in the bridge; elsewhere auto is in a thread anyway."""

    async def program():
        return where(1, a=2)

    async def main():
        thread, args, kwargs = await run(program)
        assert thread is not threading.current_thread()
        assert (args, kwargs) == ((1,), {"a": 2})

    run_here(main)


def test_plain_call_in_the_thread_engine(run_here):
    def program():
        return where()[0] is threading.current_thread()

    assert run_here(run, program, engine="thread")


def test_error_in_a_program_pinned_to_the_loop(run_here):
    @offload(reason="it reads a tape")
    def read_tape():
        raise AssertionError("ran")

    with pytest.raises(ThreadRequiredError, match=r"read_tape needs a thread because it reads a tape.*engine='auto'"):
        run_here(run, lambda: read_tape(), engine="loop")
    assert issubclass(ThreadRequiredError, DSPyParallelError)


def test_it_can_wait_and_share_context(run_here):
    """Its own awaits run on the program's loop and in its task; context variables go both ways, tokens too."""

    async def main():
        me = asyncio.current_task()

        async def on_loop():
            await asyncio.sleep(0)
            VAR.set(VAR.get() + ", coroutine")
            return asyncio.current_task()

        @offload
        def blocks(token):
            assert in_bridge()
            VAR.reset(token)
            VAR.set(VAR.get() + ", worker")
            assert await_(on_loop()) is me
            return VAR.get()

        async def program():
            VAR.set("program")
            assert blocks(VAR.set("gone")) == "program, worker, coroutine"
            return VAR.get()

        assert await run(program) == "program, worker, coroutine"
        assert VAR.get() == "program, worker, coroutine"

    run_here(main)


def test_the_loop_goes_on_meanwhile(run_here):
    async def main():
        released = threading.Event()

        @offload
        def blocks():
            assert released.wait(20)
            return "went on"

        async def program():
            return blocks()

        task = asyncio.ensure_future(run(program))
        await asyncio.sleep(0)
        released.set()
        assert await task == "went on"

    run_here(main)


def test_exceptions_and_stop_iteration(run_here):
    async def main():
        @offload
        def fails(exception):
            raise exception

        async def program():
            with pytest.raises(ValueError, match="text"):
                fails(ValueError("text"))
            with pytest.raises(RuntimeError):
                fails(StopIteration())
            return "alive"

        assert await run(program) == "alive"

    run_here(main)


@pytest.mark.usefixtures("no_leaks")
def test_cancel(run_here):
    """The program goes on only after the thread has left the function; there, it is raised at the next wait."""

    async def main():
        loop, entered, released, log = asyncio.get_running_loop(), asyncio.Event(), threading.Event(), []

        @offload
        def blocks():
            loop.call_soon_threadsafe(entered.set)
            assert released.wait(20)
            try:
                await_(asyncio.Event().wait())
            finally:
                log.append("worker")

        async def program():
            try:
                blocks()
            finally:
                log.append("program")

        task = asyncio.ensure_future(run(program))
        await entered.wait()
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        assert not task.done()
        released.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log == ["worker", "program"]

    run_here(main)


def test_methods_and_nesting(run_here):
    class Reader:
        @offload
        def read(self, n):
            return n if n == 0 else self.read(n - 1) + 1

    async def program():
        return Reader().read(3)

    assert run_here(run, program) == 3


def test_call_in_thread_from_a_foreign_greenlet_is_a_plain_call():
    """It cannot wait there; the call itself is still right."""
    from greenlet import greenlet

    def inner():
        with pytest.raises(BridgeError):
            await_(asyncio.sleep(0))
        return call_in_thread(threading.current_thread, (), {}, "x")

    def program():
        return greenlet(inner).switch() is threading.current_thread()

    assert asyncio.run(run(program, engine="loop"))


def test_what_is_offloaded_does_not_count_as_the_programs_blocking():
    """Nor do the locks that it holds meanwhile. So the program is on the loop before long, and nobody is warned."""
    lock = threading.Lock()

    @offload
    def blocks():
        block(0.15)
        with lock:
            await_(answer())
            block(0.01)
        block(0.05)

    def program():
        await_(answer())
        blocks()
        await_(answer())
        return threading.current_thread()

    async def main():
        batches = 0
        while placement_of(program).state == "probation":
            await asyncio.gather(*(run(program) for _ in range(10)))
            batches += 1
            assert batches < 20, placement_of(program)
        assert on_loop(program), placement_of(program)
        assert await run(program) is threading.current_thread()

    _, seen = recorded(main)
    assert not seen
    assert placement_of(program).signs == 0


def test_blocking_before_and_after_what_is_offloaded_counts():
    @offload
    def returns():
        pass

    def program():
        returns()
        block()

    async def main():
        while placement_of(program).state == "probation":
            await run(program)
        return placement_of(program).state

    state, seen = recorded(main)
    assert state == "thread"
    assert len(seen) == 1


def test_a_lock_held_while_something_is_offloaded():
    """On the loop, the program would wait for the thread and hold the lock."""
    lock = threading.Lock()

    @offload
    def returns():
        pass

    def program():
        with lock:
            returns()

    async def main():
        while placement_of(program).state == "probation":
            await run(program)
        return placement_of(program)

    placement, _ = recorded(main)
    assert placement.state == "thread"
    assert placement.reason.startswith("holds lock ")
