"""Every pitfall that the design knows of: one test per row, named in the docstring.

A section per part of the design: the loop engine, the thread engine, wrapt, DSPy.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import gc
import inspect
import logging
import os
import sys
import threading
import weakref

import pytest

from dspy_parallel.bridge import await_, engines, in_bridge, placement, placement_of, run, run_sync
from dspy_parallel.errors import BridgeError

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR")


@pytest.fixture(autouse=True)
def nothing_learned():
    """Programs are on probation again; tests share code objects between their parameters."""
    placement._placements.clear()


async def echo(value):
    await asyncio.sleep(0)
    return value


# Loop engine


def test_await_outside_the_bridge():
    """`await_` outside the bridge: typed error, coroutine closed."""
    coroutine = echo(1)
    with pytest.raises(BridgeError):
        await_(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_await_in_a_foreign_thread():
    """`await_` in a foreign thread: typed error, coroutine closed."""

    def program():
        coroutine = echo(1)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            failure = pool.submit(await_, coroutine).exception(10)
        return failure, inspect.getcoroutinestate(coroutine)

    failure, state = asyncio.run(run(program, engine="loop"))
    assert isinstance(failure, BridgeError)
    assert state == inspect.CORO_CLOSED


def test_await_in_a_foreign_greenlet():
    """`await_` in a foreign greenlet: typed error, coroutine closed."""
    from greenlet import greenlet

    def foreign(coroutine):
        with pytest.raises(BridgeError):
            await_(coroutine)
        return inspect.getcoroutinestate(coroutine)

    def program():
        return greenlet(foreign).switch(echo(1))

    assert asyncio.run(run(program, engine="loop")) == inspect.CORO_CLOSED


def test_await_outside_never_closes_tasks_and_futures():
    """`await_` outside the bridge never touches a Task or Future."""

    async def main():
        task = asyncio.get_running_loop().create_task(echo(1))
        with pytest.raises(BridgeError):
            await_(task)
        assert await task == 1

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_eager_tasks():
    """Eager tasks: re-parent. The first step is taken in the creator's greenlet, later ones in the loop's."""

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)

        def child(n):
            return [await_(echo(n)), await_(echo(n))]

        def parent():
            tasks = [asyncio.get_running_loop().create_task(run(child, n, engine="loop")) for n in range(3)]
            return await_(gather(tasks))

        async def gather(tasks):
            return await asyncio.gather(*tasks)

        return await run(parent, engine="loop")

    assert asyncio.run(main()) == [[0, 0], [1, 1], [2, 2]]


def test_context_set_and_reset_across_awaits():
    """Context: set/reset across awaits works only with a shared `gr_context`."""

    async def main():
        token = VAR.set("caller")

        def program():
            inner = VAR.set("program")
            await_(echo(1))
            VAR.reset(inner)
            VAR.reset(token)

        await run(program, engine="loop")
        assert VAR.get("unset") == "unset"

    asyncio.run(main())


def test_copied_context_sees_its_own():
    """`copy_context().run(f)` inside must see its own context."""

    async def get():
        await asyncio.sleep(0)
        return VAR.get("unset")

    def program():
        def inner():
            VAR.set("copy")
            return await_(get())

        return contextvars.copy_context().run(inner), await_(get())

    assert asyncio.run(run(program, engine="loop")) == ("copy", "unset")


@pytest.mark.parametrize("outer", ["ours", "SQLAlchemy's"])
def test_sqlalchemy(outer):
    """SQLAlchemy inside ours and ours inside SQLAlchemy's: the `__sqlalchemy_greenlet_provider__` marker."""
    util = pytest.importorskip("sqlalchemy.util", reason="sqlalchemy is not installed")

    def theirs():
        return util.await_only(echo(1))

    def ours():
        # Both kinds of wait in both kinds of greenlet.
        return await_(echo(1)) + util.await_only(echo(1)) + await_(util.greenlet_spawn(theirs))

    def theirs_around_ours():
        return util.await_only(run(ours, engine="loop"))

    if outer == "ours":
        assert asyncio.run(run(ours, engine="loop")) == 3
    else:
        assert asyncio.run(util.greenlet_spawn(theirs_around_ours)) == 3


def _cancelled_while_waiting(program, waiting):
    async def main():
        task = asyncio.ensure_future(run(program, engine="loop"))
        while not waiting:
            await asyncio.sleep(0)
        task.cancel()
        return await task

    return asyncio.run(main())


def test_cancellation_is_thrown_in():
    """Cancellation: throw `BaseException` in; `except Exception` does not stop it."""
    waiting = []

    async def wait():
        waiting.append(1)
        await asyncio.get_running_loop().create_future()

    def program():
        with contextlib.suppress(Exception):
            await_(wait())

    with pytest.raises(asyncio.CancelledError):
        _cancelled_while_waiting(program, waiting)


def test_cleanup_that_awaits_runs():
    """Cancellation: cleanup that awaits must run."""
    waiting, cleaned = [], []

    async def wait():
        waiting.append(1)
        await asyncio.get_running_loop().create_future()

    def program():
        try:
            await_(wait())
        finally:
            cleaned.append(await_(echo("cleaned")))

    with pytest.raises(asyncio.CancelledError):
        _cancelled_while_waiting(program, waiting)
    assert cleaned == ["cleaned"]


def test_bare_except_swallows_cancellation():
    """Cancellation: bare `except` in user code swallows it, as it would in a coroutine."""
    waiting = []

    async def wait():
        waiting.append(1)
        await asyncio.get_running_loop().create_future()

    def program():
        try:
            await_(wait())
        except:  # noqa: E722
            return await_(echo("swallowed"))

    assert _cancelled_while_waiting(program, waiting) == "swallowed"


def test_stop_iteration_and_greenlet_exit():
    """`StopIteration`, `GreenletExit` as results: neither ends as a value nor hangs."""
    from greenlet import GreenletExit

    def raises(kind):
        raise kind("out")

    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(run(raises, StopIteration, engine="loop"))
    with pytest.raises(GreenletExit, match="out"):
        asyncio.run(run(raises, GreenletExit, engine="loop"))
    for value in (StopIteration("value"), GreenletExit("value")):
        assert asyncio.run(run(lambda value=value: value, engine="loop")) is value


def test_close_with_an_await_in_finally():
    """`coro.close()` with `await_` in `finally`: an error, as in plain code, and the program ends."""
    ended = []

    async def main():
        future = asyncio.get_running_loop().create_future()

        def program():
            try:
                await_(future)
            finally:
                try:
                    await_(echo(1))
                finally:
                    ended.append(1)

        coroutine = run(program, engine="loop")
        coroutine.send(None)
        with pytest.raises(RuntimeError, match="being closed"):
            coroutine.close()

    asyncio.run(main())
    assert ended == [1]


@pytest.mark.parametrize("make", [threading.Lock, threading.RLock])
def test_a_lock_held_across_an_await(make):
    """A lock held across an await: auto keeps it in threads, where it excludes and does not hang."""
    lock, inside, most = make(), 0, 0

    def program():
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            await_(asyncio.sleep(0.001))
            inside -= 1

    async def main():
        for _ in range(3):
            await asyncio.wait_for(asyncio.gather(*(run(program) for _ in range(10))), 30)

    with pytest.warns(UserWarning, match="holds lock at"):
        asyncio.run(main())
    assert most == 1
    assert placement_of(program).state == "thread"


def test_a_watchdog_names_the_line(caplog):
    """A lock held across an await: a watchdog names the line on which the loop is stuck."""
    held, release = threading.Event(), threading.Event()

    class Reported(logging.Handler):
        def emit(self, record):
            release.set()

    def program():
        held.set()
        assert release.wait(20)  # stands for the lock

    handler = Reported()
    logger = logging.getLogger("dspy_parallel")
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.WARNING, "dspy_parallel"):
            asyncio.run(run(program, engine="loop"))
    finally:
        logger.removeHandler(handler)
    line = inspect.getsourcelines(program)[1] + 2
    assert f"{__file__}:{line} in" in caplog.text


def test_generator_functions():
    """Generator functions: refuse."""

    def generator():
        yield

    for fn in (generator, functools.partial(generator)):
        with pytest.raises(TypeError, match="generator function"):
            asyncio.run(run(fn, engine="loop"))


def test_greenlets_when_a_loop_closes():
    """Abandoned greenlets when a loop closes: asyncio.run cancels, they unwind, nothing stays."""
    ended, marks = [], []

    class Mark:
        pass

    async def main():
        def program():
            mark = Mark()
            marks.append(weakref.ref(mark))
            try:
                await_(asyncio.get_running_loop().create_future())
            finally:
                ended.append(1)

        tasks = [asyncio.get_running_loop().create_task(run(program, engine="loop")) for _ in range(10)]
        while len(marks) < 10:
            await asyncio.sleep(0)
        assert tasks

    asyncio.run(main())
    gc.collect()
    assert len(ended) == 10
    assert [mark() for mark in marks] == [None] * 10


@pytest.mark.parametrize("engine", ["loop", "thread"])
def test_the_stack_ends_at_the_programs_root(engine):
    """`inspect.stack()` ends at the greenlet's root; code that walks it must find an end, not the caller."""

    async def caller_of_the_program():
        return await run(program, engine=engine)

    def program():
        return [frame.function for frame in inspect.stack(0)]

    stack = asyncio.run(caller_of_the_program())
    assert stack[0] == "program"
    assert "caller_of_the_program" not in stack


def test_free_threaded_python(monkeypatch):
    """Free-threaded Python: threads."""
    monkeypatch.setattr(engines, "_FREE_THREADED", True)

    def program():
        return threading.current_thread()

    async def main():
        return [await run(program) for _ in range(5)]

    assert threading.current_thread() not in asyncio.run(main())


@pytest.mark.parametrize("engine", ["loop", "thread", "auto"])
def test_no_loop_bound_globals(engine):
    """No loop-bound globals: one loop after the other, and one inside the other's thread."""

    def program():
        return await_(echo(1))

    def outer():
        return asyncio.run(run(program, engine=engine))

    for _ in range(3):
        assert asyncio.run(run(program, engine=engine)) == 1
    assert asyncio.run(run(outer, engine="thread")) == 1


# Thread engine


def test_nested_work_does_not_starve():
    """Nested work in one bounded pool starves: ours has no bound, so that a hundred nested programs get on."""

    def program(depth):
        return await_(run(program, depth - 1, engine="thread")) + 1 if depth else 0

    async def main():
        return await asyncio.wait_for(asyncio.gather(*(run(program, 5, engine="thread") for _ in range(20))), 60)

    assert asyncio.run(main()) == [5] * 20


def test_not_the_default_executor():
    """Default executor: never. A program works while that one is full."""

    async def main():
        loop = asyncio.get_running_loop()
        release = threading.Event()
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        hog = loop.run_in_executor(None, release.wait, 30)
        try:
            return await asyncio.wait_for(run(lambda: await_(echo(1)), engine="thread"), 20)
        finally:
            release.set()
            await hog

    assert asyncio.run(main()) == 1


def test_context_goes_in():
    """Copy context in, nothing back, said the design; better: both ways, as on the loop engine."""

    async def main():
        VAR.set("caller")

        def program():
            assert VAR.get() == "caller"
            VAR.set("program")

        await run(program, engine="thread")
        assert VAR.get() == "program"

    asyncio.run(main())


def test_threads_cannot_be_killed():
    """Threads can't be killed: cancel the inner await so that `await_` raises, then join."""

    async def main():
        waiting, left = asyncio.Event(), []

        async def wait():
            waiting.set()
            await asyncio.get_running_loop().create_future()

        def program():
            try:
                await_(wait())
            finally:
                left.append(threading.current_thread().name)

        task = asyncio.ensure_future(run(program, engine="thread"))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left  # before the task was done
        assert left[0].startswith("dspy-parallel-")

    asyncio.run(main())


def test_loop_captured_at_call():
    """Loop captured at call, not at construction: one callable serves several loops."""
    program = functools.partial(run, lambda: await_(current()), engine="thread")

    async def current():
        return asyncio.get_running_loop()

    async def main():
        return await program() is asyncio.get_running_loop()

    assert asyncio.run(main())
    assert asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_fork():
    """Fork: a child makes threads and a loop of its own. (In a process of its own: this one has threads.)"""
    from tests.bridge.children import run_child

    run_child(
        """
        import asyncio, os, warnings
        from dspy_parallel.bridge import await_, in_bridge, run, run_sync

        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

        def program():
            assert in_bridge()
            return await_(asyncio.sleep(0, 1))

        def check():
            assert run_sync(program, engine="thread") == 1
            assert asyncio.run(run(program, engine="thread")) == 1

        check()
        child = os.fork()
        if child == 0:
            try:
                check()
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        check()
        """
    )


def test_sync_callers_share_one_loop():
    """Neither engine's loop is bound to a caller: sync callers share one that persists, on any thread."""

    async def current():
        assert in_bridge()
        return asyncio.get_running_loop()

    assert run_sync(current) is run_sync(current)


# wrapt


@pytest.fixture
def with_seams():
    """The seams in place; not in the tests of the engines, which know nothing of them."""
    from dspy_parallel import seams

    seams.install()
    yield seams
    seams.uninstall()


def test_instances_are_never_wrapped(with_seams):
    """wrapt: wrappers stored on instances can't be deep-copied, so nothing is stored there."""
    import copy
    import pickle

    import dspy
    from dspy.utils import DummyLM

    from dspy_parallel import async_module

    class Program(dspy.Module):
        def __init__(self):
            super().__init__()
            self.predict = dspy.Predict("question -> answer")
            self.tool = dspy.Tool(len, name="len")

        def forward(self, question):
            return self.predict(question=question)

    program = async_module(Program())
    program.predict.lm = lm = DummyLM([{"answer": "a"}] * 3)
    assert asyncio.run(program.acall(question="q")).answer == "a"
    for instance in (program, program.predict, program.tool, lm):
        assert not any(
            type(value).__module__.startswith(("wrapt", "dspy_parallel")) for value in vars(instance).values()
        )
    copied = copy.deepcopy(program)
    assert asyncio.run(copied.acall(question="q")).answer == "a"
    assert pickle.loads(pickle.dumps(dspy.LM("openai/any"))).model == "openai/any"


def test_a_row_names_the_class_that_defines_the_method(with_seams):
    """wrapt: hooking an inherited name would patch the class named, and leave its parents and siblings out."""
    import dspy

    from dspy_parallel import add_seam
    from dspy_parallel.errors import SeamError

    assert "__call__" not in vars(dspy.LM)
    with pytest.raises(SeamError, match="inherited: name the class that defines it, BaseLM"):
        add_seam("dspy.clients.lm:LM.__call__")


def test_methods_do_not_escape_through_aliases(with_seams):
    """wrapt: `from x import y` escapes the patch of a function; methods are found wherever they are called from."""
    with_seams.uninstall()
    from concurrent.futures import Future, as_completed

    with_seams.install()
    future: Future[int] = Future()

    async def main():
        asyncio.get_running_loop().call_soon(future.set_result, 1)
        return await run(lambda: [done.result() for done in as_completed([future], timeout=10)], engine="loop")

    assert asyncio.run(main()) == [1]


def test_install_patches_once_and_uninstall_restores(with_seams):
    """wrapt: the original is kept for uninstall; installing twice must not wrap the wrapper."""
    import dspy

    def layers():
        patched = vars(dspy.BaseLM)["__call__"]
        while patched is not original:
            yield patched
            patched = patched.__wrapped__

    with_seams.uninstall()
    original = vars(dspy.BaseLM)["__call__"]
    assert inspect.isfunction(original)
    with_seams.install()
    once = list(layers())
    with_seams.install()
    assert list(map(id, layers())) == list(map(id, once))
    assert once
    with_seams.uninstall()
    with_seams.uninstall()
    assert vars(dspy.BaseLM)["__call__"] is original
    with_seams.install()
    assert len(list(layers())) == len(once)


# DSPy


def test_forward_is_called_without_the_warning(with_seams):
    """DSPy: "Calling module.forward(...) directly is discouraged" is for users, and instance patches are heeded."""
    import dspy

    from dspy_parallel import async_module
    from tests.modules.observing import logged

    @async_module
    class Program(dspy.Module):
        def forward(self, n):
            return n + 1

    program = Program()
    with logged() as lines:
        assert asyncio.run(program.acall(n=1)) == 2
        object.__setattr__(program, "forward", lambda n: n + 10)
        assert asyncio.run(program.acall(n=1)) == 11
    assert lines == []
    with logged() as lines:
        Program().forward(n=1)
    assert "discouraged" in lines[0][2]


@pytest.mark.parametrize("engine", ["auto", "thread"])
def test_nested_event_loops(with_seams, engine):
    """Nested `asyncio.run` inside `forward` (DSPy's `Tool` conversion, say): a seam. Two of them meet."""
    import dspy

    meeting = threading.Barrier(2)

    async def meet():
        await asyncio.to_thread(meeting.wait, 20)
        return asyncio.get_running_loop()

    async def where(n: int):
        return asyncio.get_running_loop()

    class Program(dspy.Module):
        def forward(self):
            with dspy.context(allow_tool_async_sync_conversion=True):
                return asyncio.run(meet()), dspy.Tool(where)(n=1)

    async def main():
        placement_of(Program).state = "loop"
        both = asyncio.gather(*(run(Program(), engine=engine) for _ in range(2)))
        return await asyncio.wait_for(both, 60), asyncio.get_running_loop()

    (one, other), loop = asyncio.run(main())
    assert len({one[0], other[0], loop}) == 3
    assert one[1] is other[1] is loop


@pytest.mark.parametrize("engine", ["loop", "thread"])
def test_types_in_string_signatures(with_seams, engine):
    """DSPy walks frames in `signatures/signature.py`, for types that are local to a caller inside `forward()`."""
    import dspy
    import pydantic
    from dspy.utils import DummyLM

    from dspy_parallel import async_module

    @async_module(engine=engine)
    class Program(dspy.Module):
        def forward(self, text):
            class Item(pydantic.BaseModel):
                name: str

            return type(self.ask(text).item) is Item

        def ask(self, text):
            return dspy.Predict("text -> item: Item")(text=text)

    with dspy.context(lm=DummyLM([{"item": '{"name": "a"}'}] * 2)):
        assert Program()(text="a")
        assert asyncio.run(Program().acall(text="a"))


def test_programs_leave_the_default_executor_to_dspy(with_seams):
    """DSPy: `acall` makes thread hops in the default executor; programs waiting in it would starve them."""

    async def hop(n):
        return await asyncio.to_thread(lambda: n)

    def program(n):
        return await_(hop(n))

    async def main():
        asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        return await asyncio.gather(*(run(program, n, engine="thread") for n in range(30)))

    assert asyncio.run(asyncio.wait_for(main(), 60)) == list(range(30))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_lm_on_many_loops(with_seams):
    """DSPy: async connection pools belong to an event loop; an LM outlives many, in any thread."""
    import dspy

    from dspy_parallel import run_sync as run_program_sync
    from dspy_parallel.testing import LMServer

    with LMServer() as server:
        lm = dspy.LM("openai/test-model", cache=False, **server.lm_kwargs())
        expected = lm("hello")
        for _ in range(3):
            assert asyncio.run(run(lm, "hello", engine="loop")) == expected
        results = []
        threads = [
            threading.Thread(target=lambda: results.append(asyncio.run(run(lm, "hello", engine="loop"))))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert results == [expected] * 3
        assert [run_program_sync(lm, "hello", engine="loop") for _ in range(3)] == [expected] * 3


def test_litellm_is_not_imported_on_the_loop(with_seams):
    """DSPy: LiteLLM's first import takes seconds. (The real one, in a fresh process: tests/seams/test_lms.py.)"""
    from dspy_parallel.seams import lms

    where = []

    class Lazy:
        @property
        def completion(self):
            where.append(threading.current_thread())

    def program():
        return lms._import_litellm(lambda name: Lazy(), None, ("litellm",), {})

    assert type(asyncio.run(run(program, engine="loop"))) is Lazy
    assert where
    assert threading.main_thread() not in where
