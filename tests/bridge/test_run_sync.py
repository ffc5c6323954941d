"""run_sync(): programs for callers without an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import sys
import threading

import pytest

import dspy_parallel
from dspy_parallel import bridge, placement
from dspy_parallel.bridge import await_, in_bridge, is_waiting, loop_thread
from dspy_parallel.bridge.caller_thread import CallingThread
from dspy_parallel.errors import BridgeError
from tests.bridge.programs import run, run_sync
from tests.support.children import run_child

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
    with pytest.raises(StopIteration):
        run_sync(next, iter(()), engine=engine)


async def in_a_thread(fn):
    return await run(fn, engine="thread")


@pytest.mark.parametrize("kind", [StopIteration, GeneratorExit, asyncio.CancelledError, StopAsyncIteration])
def test_exceptions_that_mean_something_to_coroutines(kind):
    """In sync code they are exceptions as all others, on their way through the loop, too."""

    def fails():
        await_(asyncio.sleep(0))
        raise kind("text")

    for call in (lambda: run_sync(fails), lambda: run_sync(in_a_thread, fails)):
        with pytest.raises(kind, match="text") as caught:
            call()
        assert not caught.value.__suppress_context__


def test_what_the_caller_handles_is_seen_in_its_thread():
    def program():
        await_(asyncio.sleep(0))
        return sys.exc_info()[0]

    try:
        raise OSError("caller")
    except OSError:
        assert run_sync(in_a_thread, program) is OSError
    assert run_sync(in_a_thread, program) is None


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


def test_from_many_threads_at_once(engine):
    """Twenty programs meet on the loop, the same for all of them and later ones: so connection pools live on."""
    arrived, here = [], asyncio.Event()

    async def meet(n):
        arrived.append(n)
        if len(arrived) == 20:
            here.set()
        await here.wait()
        return n, await loop()

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        got = list(pool.map(lambda n: run_sync(lambda: await_(meet(n)), engine=engine), range(20), timeout=100))
    the_loop = run_sync(loop, engine=engine)
    assert got == [(n, the_loop) for n in range(20)]


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


def test_ctrl_c_ends_the_program(engine):
    """In the caller's thread it is a KeyboardInterrupt there; on the loop, and what is waited for, is cancelled."""
    ended = run_child(
        f"""
        import asyncio
        from dspy_parallel.bridge import await_
        from tests.bridge.programs import run_sync

        def program():
            try:
                await_(waits())
            except BaseException as exc:
                print(type(exc).__name__)
                raise
            finally:
                await_(asyncio.sleep(0))
                print("cleaned")

        async def waits():
            print("ready")
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await asyncio.sleep(0)
                print("closed")

        try:
            run_sync(program, engine={engine!r})
        except KeyboardInterrupt:
            print("interrupted", run_sync(lambda: await_(asyncio.sleep(0, "again"))))
        """,
        interrupt=True,
    )
    seen = "CancelledError" if engine == "loop" else "KeyboardInterrupt"
    assert ended.out.split() == ["closed", seen, "cleaned", "interrupted", "again"]
    assert not ended.err


@pytest.mark.parametrize("when", ["before", "after"])
def test_ctrl_c_while_the_program_is_being_asked_for(monkeypatch, when):
    """A moment before or after the loop knows of it: it has not begun, or is cancelled and has ended."""
    log, waiting = [], threading.Event()
    run_sync(echo, 1)
    mailbox = loop_thread._loop_thread.mailbox
    post = mailbox.post

    def interrupted(call):
        monkeypatch.setattr(mailbox, "post", post)
        if when == "after":
            post(call)
            assert waiting.wait(100)
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

    monkeypatch.setattr(mailbox, "post", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_sync(program)
    assert log == (["cleaned"] if when == "after" else [])


def test_ctrl_c_twice_leaves_a_program_that_does_not_end():
    ended = run_child(
        """
        import asyncio, os, signal, threading
        from dspy_parallel.bridge import await_
        from tests.bridge.programs import run_sync

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
    """Those of daemon threads end as daemon threads do, without a word."""
    ended = run_child(
        f"""
        import asyncio, threading
        from dspy_parallel.bridge import await_
        from tests.bridge.programs import run_sync

        waiting = threading.Event()

        async def waits():
            waiting.set()
            await asyncio.get_running_loop().create_future()

        threading.Thread(
            target=run_sync, args=(lambda: await_(waits()),), kwargs=dict(engine={engine!r}), daemon=True
        ).start()
        assert waiting.wait(100)
        """
    )
    assert (ended.out, ended.err) == ("", "")


@pytest.mark.parametrize("first_used", ["before", "at exit"])
@pytest.mark.parametrize("where", ["atexit", "atexit, behind ours", "thread"])
def test_it_works_while_the_interpreter_exits(first_used, where):
    """In functions registered with atexit, and in threads that outlive the main thread; executors are closed then."""
    ended = run_child(
        f"""
        import asyncio, atexit, threading

        if {where!r} == "atexit, behind ours":
            atexit.register(lambda: work())

        from dspy_parallel.bridge import await_, start
        from dspy_parallel.placement import PINNED_TO_THREAD
        from tests.bridge.programs import run_sync

        def hop():
            return await_(asyncio.to_thread(lambda: "hop"))

        def work():
            if {where!r} == "thread":
                threading.main_thread().join()
            print(run_sync(hop), run_sync(start, hop, (), {{}}, PINNED_TO_THREAD))

        if {first_used!r} == "before":
            run_sync(hop)
        if {where!r} == "atexit":
            atexit.register(work)
        elif {where!r} == "thread":
            threading.Thread(target=work).start()
        """
    )
    assert (ended.out, ended.err) == ("hop hop\n", "")


AT_EXIT = """
    import asyncio, atexit, os, threading
    from dspy_parallel.bridge import await_, serving_loop, start
    from dspy_parallel.placement import PINNED_TO_THREAD

    begun = threading.Event()

    def works():
        begun.set()
        while not threading._SHUTTING_DOWN:
            pass
        for _ in range(10_000):  # gives the process every opportunity to end
            os.stat(".")
"""


def test_what_workers_are_at_ends_before_the_process_and_before_atexit():
    """As in a ThreadPoolExecutor. Stopped in an import, they would keep its lock from finalizers."""
    ended = run_child(
        AT_EXIT
        + """
    def program():
        works()
        print(await_(asyncio.to_thread(lambda: "program")))

    atexit.register(print, "atexit")
    asyncio.run_coroutine_threadsafe(start(program, (), {}, PINNED_TO_THREAD), serving_loop())
    begun.wait()
    """
    )
    assert (ended.out, ended.err) == ("program\natexit\n", "")


def test_the_serving_loop_is_not_stopped_in_the_middle_of_a_step():
    ended = run_child(
        AT_EXIT
        + """
    serving_loop().call_soon_threadsafe(lambda: (works(), print("step")))
    begun.wait()
    """
    )
    assert (ended.out, ended.err) == ("step\n", "")


@pytest.mark.parametrize("when", ["at exit", "before"])
def test_the_process_does_not_wait_for_programs_whose_loop_will_not_go_on(when):
    ended = run_child(
        AT_EXIT
        + f"""
    def program():
        for _ in range(2):
            if {when!r} == "at exit":
                works()
            try:
                await_(waits())
            except RuntimeError as exc:
                print(exc)

    async def waits():
        begun.set()
        await asyncio.get_running_loop().create_future()

    async def main():
        task = asyncio.ensure_future(start(program, (), {{}}, PINNED_TO_THREAD))
        await asyncio.to_thread(begun.wait)
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(main())
    """
    )
    assert [line.partition(":")[0] for line in ended.out.splitlines()] == [
        "await_() in a program whose task is gone"
    ] * 2
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
        outcome = asyncio.run_coroutine_threadsafe(asyncio.wait_for(task, 100), loop)
        assert await asyncio.wrap_future(outcome) == (True, False)
        assert not is_waiting(here)

    asyncio.run(main())
    assert known == [(True, True)]


FORK = """
    import asyncio, os, sys, threading, warnings
    from dspy_parallel.bridge import await_, in_bridge
    from tests.bridge.programs import run_sync
    from tests.bridge.programs import run

    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

    def program(n):
        return await_(asyncio.sleep(0, n)) + 1

    def use_all(n):
        for engine in ("loop", "thread", "unpinned"):
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


def test_the_loop_survives_a_fork_in_the_middle_of_its_locks():
    """The child replaces them."""
    before = loop_thread._lock
    served_before = loop_thread._loop_thread
    try:
        loop_thread._lock.acquire()
        loop_thread._after_fork()
        assert loop_thread._lock is not before
        assert not loop_thread._lock.locked()
        assert loop_thread._loop_thread is None
        assert served_before is None or served_before in loop_thread._inherited
    finally:
        before.release()
        loop_thread._lock, loop_thread._loop_thread = before, served_before
        loop_thread._inherited.clear()


async def there():
    return threading.current_thread()


def test_a_sync_callers_program_runs_in_its_thread():
    """And waits for what is on the loop."""

    def program():
        return threading.current_thread(), await_(there())

    for call in (run_sync, dspy_parallel.run_sync):
        here, elsewhere = call(program)
        assert here is threading.current_thread() is not elsewhere


def test_a_program_below_a_sync_caller_has_its_thread_however_late_that_waits(monkeypatch):
    decided, take, wait = threading.Event(), CallingThread.take, CallingThread.wait

    def decide(self, job):
        try:
            return take(self, job)
        finally:
            decided.set()

    def late(self, *args, **kwargs):
        assert decided.wait(100)
        return wait(self, *args, **kwargs)

    monkeypatch.setattr(CallingThread, "take", decide)
    monkeypatch.setattr(CallingThread, "wait", late)
    found = bridge.run_sync(bridge.start, threading.current_thread, (), {}, placement.PINNED_TO_THREAD)
    assert found is threading.current_thread()


def test_a_job_that_comes_when_the_thread_goes_on_has_another():
    """And the messages that are there already stay."""
    thread, where = CallingThread(), concurrent.futures.Future()
    with thread.offered():
        thread.post("reply", 1)
        assert thread.take(lambda: where.set_result(threading.current_thread()))
    assert where.result(100) is not threading.current_thread()
    assert thread.wait("reply") == 1
