"""offload(): a function that blocks gets a thread of its own, where one is needed."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading

import pytest

from dspy_parallel import offload
from dspy_parallel.bridge import await_, call_in_thread, in_bridge
from dspy_parallel.errors import BridgeError, DSPyParallelError, ThreadRequiredError
from tests.bridge.programs import run

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


@pytest.mark.parametrize("catches", [Exception, BaseException, "finally", "nested", "another error"])
def test_a_program_cannot_swallow_that_it_is_refused_a_thread(run_here, catches):
    """Nor make anything of it: it waits for nothing any more, least of all for an LM with the error in its prompt."""
    waits = []
    kind = catches if isinstance(catches, type) else Exception

    @offload
    def blocks():
        raise AssertionError("it has a thread")

    async def ask():
        waits.append("asked")

    def swallows():
        try:
            return await_(run(blocks, engine="unpinned")) if catches == "nested" else blocks()
        except kind as exc:
            if catches == "another error":
                raise ValueError("another") from exc
        return None

    def returns_in_finally():
        try:
            blocks()
        finally:
            return None  # noqa: B012 - that is the point

    def program():
        (returns_in_finally if catches == "finally" else swallows)()
        try:
            await_(ask())
        except Exception:
            pass
        return "swallowed"

    async def main():
        with pytest.raises(ThreadRequiredError, match="blocks needs a thread"):
            await run(program, engine="loop")
        assert await run(lambda: "as ever", engine="loop") == "as ever"

    run_here(main)
    assert waits == []


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


@pytest.mark.usefixtures("no_leaks")
def test_cancel(run_here):
    """The program goes on only after the thread has left the function; there, it is raised at the next wait."""

    async def main():
        loop, entered, released, log = asyncio.get_running_loop(), asyncio.Event(), threading.Event(), []

        @offload
        def blocks():
            loop.call_soon_threadsafe(entered.set)
            assert released.wait(100)
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
