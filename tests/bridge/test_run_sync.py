"""run_sync(): programs for callers without an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import sys
import threading

import pytest

from dspy_parallel.bridge import await_, in_bridge, is_waiting, portal, run, run_sync
from dspy_parallel.errors import BridgeError, UnknownEngineError

from .children import run_child

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR")


async def echo(value):
    await asyncio.sleep(0)
    return value


def program(n):
    return await_(echo(n)) + 1


async def loop():
    return asyncio.get_running_loop()


def test_values_and_exceptions(engine):
    def fails():
        await_(asyncio.sleep(0))
        raise ValueError("text")

    assert run_sync(program, 1, engine=engine) == 2
    assert run_sync(echo, 2, engine=engine) == 2
    with pytest.raises(ValueError, match="text"):
        run_sync(fails, engine=engine)
    with pytest.raises(RuntimeError, match="StopIteration"):
        run_sync(next, iter(()), engine=engine)
    with pytest.raises(UnknownEngineError):
        run_sync(program, 1, engine="process")


def test_exception_context_is_kept(engine):
    """Of the program, and what the caller handles at the time."""

    def fails():
        try:
            raise KeyError("program")
        except KeyError:
            raise ValueError("text")  # noqa: B904

    try:
        raise OSError("caller")
    except OSError:
        with pytest.raises(ValueError, match="text") as caught:
            run_sync(fails, engine=engine)
    assert repr(caught.value.__context__) == "KeyError('program')"
    assert repr(caught.value.__context__.__context__) == "OSError('caller')"


def test_one_loop_for_all(engine):
    """So that connection pools live on."""
    loops = {run_sync(lambda: await_(loop()), engine=engine) for _ in range(3)}
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        loops |= set(pool.map(lambda _: run_sync(loop, engine=engine), range(3)))
    assert len(loops) == 1


def test_from_many_threads_at_once(engine):
    """Twenty programs meet on the loop: all in flight before any returns."""
    arrived, here = [], asyncio.Event()

    async def meet(n):
        arrived.append(n)
        if len(arrived) == 20:
            here.set()
        await here.wait()
        return n

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        got = list(pool.map(lambda n: run_sync(lambda: await_(meet(n)), engine=engine), range(20), timeout=30))
    assert got == list(range(20))


def test_nested_and_inside_a_bridge(engine):
    def outer():
        assert in_bridge()
        return run_sync(program, run_sync(program, 1, engine=engine), engine=engine)

    assert run_sync(outer, engine=engine) == 3


def test_on_a_thread_with_a_running_loop(run_here, engine):
    """As in a notebook cell: a sync call on the loop's own thread, which it blocks."""

    async def cell():
        assert not in_bridge()
        assert run_sync(program, 1, engine=engine) == 2
        return run_sync(loop, engine=engine) is not asyncio.get_running_loop()

    assert run_here(cell)


def test_on_its_own_loop_outside_the_bridge():
    """A task or callback there would wait for itself: a typed error instead."""

    async def spawn():
        async def task():
            run_sync(program, 1)

        with pytest.raises(BridgeError, match="wait for itself"):
            await asyncio.get_running_loop().create_task(task())
        return await asyncio.get_running_loop().create_task(run(program, 1))

    assert run_sync(spawn) == 2


def test_context_goes_in_and_comes_back(engine):
    def changes():
        assert VAR.get() == "caller"
        await_(asyncio.sleep(0))
        VAR.set("program")

    def body():
        VAR.set("caller")
        run_sync(changes, engine=engine)
        assert VAR.get() == "program"

    contextvars.copy_context().run(body)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_exits_belong_to_the_caller(engine, kind):
    """The loop lives on."""
    before = run_sync(loop)

    def exits():
        await_(asyncio.sleep(0))
        raise kind

    with pytest.raises(kind):
        run_sync(exits, engine=engine)
    assert run_sync(loop) is before
    assert run_sync(program, 1) == 2


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_exits_in_a_background_task_do_not_end_the_loop(kind, caplog):
    async def leaves_a_task():
        async def task():
            raise kind

        task = asyncio.get_running_loop().create_task(task())
        task.add_done_callback(lambda done: done.exception())
        return task

    before = run_sync(loop)
    with caplog.at_level(logging.ERROR, "dspy_parallel"):
        run_sync(leaves_a_task)
        assert run_sync(program, 1) == 2
    assert run_sync(loop) is before
    assert "tried to end it" in caplog.text


def test_tasks_left_behind_go_on():
    """The loop is persistent, so they are not lost; nobody's exception disturbs other callers."""
    done = threading.Event()

    async def leaves_tasks():
        async def later():
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            done.set()

        return asyncio.get_running_loop().create_task(later())

    task = run_sync(leaves_tasks)
    assert done.wait(10)
    assert task


def test_ctrl_c_cancels_the_program(engine):
    """Its cleanup runs to the end, KeyboardInterrupt is raised, the process is still usable, and it is prompt."""
    ended = run_child(
        f"""
        import asyncio
        from dspy_parallel.bridge import await_, run_sync

        def program():
            try:
                await_(waits())
            except asyncio.CancelledError:
                print("cancelled")
                raise
            finally:
                await_(asyncio.sleep(0))
                print("cleaned")

        async def waits():
            print("ready")
            await asyncio.get_running_loop().create_future()

        try:
            run_sync(program, engine={engine!r})
        except KeyboardInterrupt:
            print("interrupted", run_sync(lambda: await_(asyncio.sleep(0, "again"))))
        """,
        interrupt=True,
    )
    assert ended.out.split() == ["cancelled", "cleaned", "interrupted", "again"]
    assert not ended.err
    assert ended.seconds_after_ready < 5


@pytest.mark.parametrize("when", ["before", "after"])
def test_ctrl_c_while_the_program_is_being_asked_for(monkeypatch, when):
    """A moment before or after the loop knows of it: it has not run, or is cancelled and has ended."""
    log, waiting = [], threading.Event()
    run_sync(echo, 1)
    loop = portal._portal.loop
    schedule = loop.call_soon_threadsafe

    def interrupted(*args, **kwargs):
        monkeypatch.setattr(loop, "call_soon_threadsafe", schedule)
        if when == "after":
            schedule(*args, **kwargs)
            assert waiting.wait(10)
        raise KeyboardInterrupt

    async def waits():
        waiting.set()
        await asyncio.get_running_loop().create_future()

    async def program():
        try:
            await waits()
        finally:
            await asyncio.sleep(0)
            log.append("cleaned")

    monkeypatch.setattr(loop, "call_soon_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_sync(program)
    assert log == (["cleaned"] if when == "after" else [])


def test_ctrl_c_twice_leaves_a_program_that_does_not_end():
    ended = run_child(
        """
        import asyncio, os, signal, threading
        from dspy_parallel.bridge import await_, run_sync

        entered = threading.Event()

        def stubborn():
            while True:
                try:
                    await_(waits())
                except asyncio.CancelledError:
                    os.kill(os.getpid(), signal.SIGINT)

        async def waits():
            print("ready")
            await asyncio.get_running_loop().create_future()

        try:
            run_sync(stubborn, engine="loop")
        except KeyboardInterrupt:
            print("left")
        import os
        os._exit(0)
        """,
        interrupt=True,
    )
    assert "left" in ended.out


@pytest.mark.parametrize("engine", ["loop", "thread"])
def test_interpreter_exit_with_programs_in_flight(engine):
    """Prompt, silent, and the programs are cancelled and unwind."""
    ended = run_child(
        f"""
        import asyncio, threading
        from dspy_parallel.bridge import await_, run_sync

        waiting = threading.Event()

        async def waits():
            waiting.set()
            await asyncio.get_running_loop().create_future()

        def program():
            try:
                await_(waits())
            finally:
                await_(asyncio.sleep(0))
                print("cleaned")

        threading.Thread(target=run_sync, args=(program,), kwargs=dict(engine={engine!r}), daemon=True).start()
        assert waiting.wait(20)
        print("ready")
        """,
        interrupt=False,
    )
    assert ended.out.split() == ["ready", "cleaned"]
    assert not ended.err


def test_interpreter_exit_does_not_wait_for_good_for_a_thread():
    """A thread cannot be killed; exit waits a few seconds and goes."""
    ended = run_child(
        """
        import threading
        from dspy_parallel.bridge import portal, run_sync

        portal.EXIT_SECONDS = 0.5
        entered = threading.Event()

        def program():
            entered.set()
            threading.Event().wait()

        threading.Thread(target=run_sync, args=(program,), kwargs=dict(engine="thread"), daemon=True).start()
        assert entered.wait(20)
        """
    )
    assert not ended.err


def test_program_knows_which_loops_wait_for_it():
    """Also in threads and loops that it starts, and for no longer than they wait."""
    known = []

    async def nested(outer):
        here = asyncio.get_running_loop()
        known.append(run_sync(lambda: (is_waiting(outer), is_waiting(here))))
        return is_waiting(outer), is_waiting(here)

    async def main():
        here = asyncio.get_running_loop()
        is_over = asyncio.Event()

        async def left_behind():
            before = is_waiting(here)
            await is_over.wait()
            return before, is_waiting(here)

        async def leave():
            task = asyncio.create_task(left_behind())
            await asyncio.sleep(0)
            return task, asyncio.get_running_loop()

        assert not is_waiting(here)
        assert await run(lambda: is_waiting(here)) is False
        assert run_sync(lambda: is_waiting(here))
        assert run_sync(lambda: await_(asyncio.to_thread(asyncio.run, nested(here)))) == (True, False)
        task, loop = run_sync(leave)
        loop.call_soon_threadsafe(is_over.set)
        outcome = asyncio.run_coroutine_threadsafe(asyncio.wait_for(task, 20), loop)
        assert await asyncio.wrap_future(outcome) == (True, False)
        assert not is_waiting(here)

    asyncio.run(main())
    assert known == [(True, True)]


def test_interpreter_exit_after_use_is_silent():
    ended = run_child(
        """
        import asyncio
        from dspy_parallel.bridge import await_, run, run_sync
        for engine in ("loop", "thread", "auto"):
            run_sync(lambda: await_(asyncio.sleep(0)), engine=engine)
            asyncio.run(run(lambda: await_(asyncio.sleep(0)), engine=engine))
        """
    )
    assert (ended.out, ended.err) == ("", "")


FORK = """
    import asyncio, os, sys, threading, warnings
    from dspy_parallel.bridge import await_, in_bridge, placement_of, run, run_sync

    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

    def program(n):
        return await_(asyncio.sleep(0, n)) + 1

    def use_all(n):
        for engine in ("loop", "thread", "auto"):
            assert run_sync(program, n, engine=engine) == n + 1
            assert asyncio.run(run(program, n, engine=engine)) == n + 1

    def in_child():
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                assert not in_bridge()
                import gc; gc.collect()
                use_all(2)
                code = 0
            except BaseException:
                import traceback; traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
"""


@pytest.mark.skipif(not hasattr(sys.modules["os"], "fork"), reason="no fork")
@pytest.mark.parametrize("where", ["main", "loop", "thread"])
def test_fork(where):
    """A child can use everything, wherever it was forked; the parent's loop is unharmed by it."""
    calls = {
        "main": "in_child()",
        "loop": 'run_sync(in_child, engine="loop")',
        "thread": 'run_sync(in_child, engine="thread")',
    }
    run_child(FORK + f"\n    use_all(1)\n    {calls[where]}\n    use_all(3)\n    {calls[where]}\n    use_all(4)\n")


def test_the_portal_survives_a_fork_in_the_middle_of_its_locks():
    """The child replaces them."""
    before = portal._lock
    portal_before = portal._portal
    try:
        portal._lock.acquire()
        portal._after_fork()
        assert portal._lock is not before
        assert not portal._lock.locked()
        assert portal._portal is None
        assert portal_before is None or portal_before in portal._inherited
    finally:
        before.release()
        portal._lock, portal._portal = before, portal_before
        portal._inherited.clear()
