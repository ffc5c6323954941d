"""offload(): a function that blocks gets a thread of its own, where one is needed."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest

from dspy_parallel import offload
from dspy_parallel.bridge import await_, call_in_thread
from dspy_parallel.errors import BridgeError, DSPyParallelError, ThreadRequiredError
from tests.bridge.programs import run


@offload
def where(*args, **kwargs):
    """Where it runs."""
    return threading.current_thread(), args, kwargs


def test_error_in_a_program_pinned_to_the_loop(run_here):
    @offload(reason="it reads a tape")
    def read_tape():
        raise AssertionError("ran")

    with pytest.raises(ThreadRequiredError, match=r"read_tape needs a thread because it reads a tape.*engine='auto'"):
        run_here(run, lambda: read_tape(), engine="loop")
    assert issubclass(ThreadRequiredError, DSPyParallelError)


def test_a_thread_only_where_the_program_is_on_the_loop(run_here):
    """That is in async functions run in the bridge; elsewhere auto is in a thread anyway."""

    def is_here():
        thread, args, kwargs = where(1, a=2)
        assert (args, kwargs) == ((1,), {"a": 2})
        return thread is threading.current_thread()

    async def program():
        return is_here()

    assert is_here()
    assert not run_here(run, program)
    assert run_here(run, is_here, engine="thread")
    assert where.__doc__ == "Where it runs."
    assert inspect.signature(where) == inspect.signature(where.__wrapped__)


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
