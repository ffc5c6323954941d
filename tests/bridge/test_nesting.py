"""Programs in coroutines in programs, on either engine; tasks; other greenlet libraries."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sys
import threading

import greenlet
import pytest

from dspy_parallel import offload
from dspy_parallel.bridge import await_, in_bridge, run_sync
from dspy_parallel.errors import BridgeError
from tests.bridge.programs import run


async def echo(value):
    await asyncio.sleep(0)
    return value


@pytest.mark.parametrize("inner", ["loop", "thread", "unpinned"])
def test_any_engine_in_any_engine(run_here, engine, inner):
    """Five levels deep, waiting on each."""

    def program(depth):
        before = await_(echo(depth))
        if depth:
            nested = engine if depth % 2 else inner
            return [before, *await_(run(program, depth - 1, engine=nested)), await_(echo(-depth))]
        return [before]

    assert run_here(run, program, 4, engine=engine) == [4, 3, 2, 1, 0, -1, -2, -3, -4]


def test_no_extra_task(run_here, engine):
    """The program's awaits, and those of nested ones, run in the caller's task."""

    async def whose():
        await asyncio.sleep(0)
        return asyncio.current_task()

    async def main():
        me = asyncio.current_task()

        def program():
            assert await_(whose()) is me
            return await_(run(lambda: await_(whose()), engine=engine))

        assert await run(program, engine=engine) is me
        assert asyncio.all_tasks() >= {me}

    run_here(main)


def test_tasks_made_inside_are_not_in_the_bridge(run_here, engine):
    """Also if they start eagerly, inside the program's greenlet: they must not suspend somebody else."""

    async def other():
        first = in_bridge()
        with pytest.raises(BridgeError):
            await_(asyncio.sleep(0))
        await asyncio.sleep(0)
        return first, in_bridge()

    async def spawn():
        return await asyncio.get_running_loop().create_task(other())

    def program():
        assert await_(spawn()) == (False, False)
        assert in_bridge()
        return await_(echo("alive"))

    assert run_here(run, program, engine=engine) == "alive"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_eager_task_started_by_a_program_outlives_it():
    """Its first step runs inside the program's greenlet, the rest in the loop's."""

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        go, tasks = asyncio.Event(), []

        def child():
            await_(go.wait())
            await_(asyncio.sleep(0))
            return await_(echo("child"))

        def parent():
            tasks.append(asyncio.get_running_loop().create_task(run(child, engine="loop")))
            with pytest.raises(BridgeError, match="another task"):
                asyncio.get_running_loop().create_task(sneaky()).result()
            await_(asyncio.sleep(0))
            return "parent"

        async def sneaky():
            await_(asyncio.sleep(0))

        assert await run(parent, engine="loop") == "parent"
        go.set()
        return await tasks[0]

    assert asyncio.run(main()) == "child"


def test_run_sync_inside_is_a_plain_call(run_here, engine):
    def inner(n):
        return await_(echo(n)), threading.current_thread()

    async def coroutine(n):
        return await echo(n)

    def program():
        assert run_sync(inner, 1) == (1, threading.current_thread())
        assert run_sync(coroutine, 2) == 2
        with pytest.raises(StopIteration):
            run_sync(next, iter(()))
        return True

    assert run_here(run, program, engine=engine)


def test_a_loop_run_by_a_thread_program_is_not_bridged():
    """Waiting there would block that loop; its own awaits work."""

    async def inner():
        assert not in_bridge()
        with pytest.raises(BridgeError):
            await_(echo(1))
        return await asyncio.gather(run(lambda: await_(echo(1)), engine="loop"), run(lambda: 2, engine="thread"))

    def program():
        result = asyncio.run(inner())
        assert in_bridge()
        return result, await_(echo(3))

    assert asyncio.run(run(program, engine="thread")) == ([1, 2], 3)


def test_threads_started_by_programs_are_not_bridged(run_here, engine):
    """Nobody there could wait: a typed error, and the coroutine is closed."""

    def program():
        coroutine = echo(1)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            assert not pool.submit(in_bridge).result(100)
            failure = pool.submit(await_, coroutine).exception(100)
        return failure, coroutine.cr_frame

    failure, frame = run_here(run, program, engine=engine)
    assert isinstance(failure, BridgeError)
    assert frame is None


def test_a_foreign_greenlet_inside(run_here, engine):
    """Typed error where it cannot wait, no harm to the program; switching between greenlets works."""

    def foreign():
        coroutine = echo(1)
        try:
            await_(coroutine)
        except BridgeError:
            assert coroutine.cr_frame is None
            return greenlet.getcurrent().parent.switch("error")
        return "no error"

    def program():
        other = greenlet.greenlet(foreign)
        assert other.switch() == "error"
        assert await_(echo(1)) == 1
        assert other.switch("back") == "back"
        return await_(echo(2))

    assert run_here(run, program, engine="loop") == 2


def test_strict_reaches_into_nested_programs(run_here):
    """engine="loop" is strict wherever it is, and what is not pinned inside it never takes a thread."""

    def where():
        await_(asyncio.sleep(0))
        return threading.current_thread()

    @offload
    def blocks():
        return threading.current_thread()

    async def main():
        def strict():
            assert await_(run(where, engine="unpinned")) is threading.current_thread()
            await_(run(blocks, engine="unpinned"))

        async def coroutine():
            with pytest.raises(RuntimeError, match="pinned"):
                await run(lambda: blocks(), engine="loop")
            assert blocks() is not threading.current_thread()

        with pytest.raises(RuntimeError, match="pinned"):
            await run(strict, engine="loop")
        await run(coroutine, engine="unpinned")

    run_here(main)


def test_programs_that_need_a_thread_get_one_inside_programs_on_the_loop(run_here):
    def new():
        return threading.current_thread()

    async def coroutine():
        return await run(new, engine="thread")

    async def main():
        assert await run(coroutine, engine="unpinned") is not threading.current_thread()

    run_here(main)


sqlalchemy = pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")
pytest.importorskip("aiosqlite", reason="aiosqlite is not installed")


def _engine():
    from sqlalchemy.ext.asyncio import create_async_engine

    return create_async_engine("sqlite+aiosqlite://")


def test_sqlalchemy_inside_ours(run_here, engine):
    """An AsyncSession through await_(); and in its run_sync, sync code that calls await_()."""
    from sqlalchemy.ext.asyncio import AsyncSession

    def sync_work(session, n):
        value = session.execute(sqlalchemy.text("select :n"), {"n": n}).scalar()
        assert in_bridge()
        value += await_(echo(100))
        with contextlib.suppress(ValueError):
            await_(fail())
        return value + session.execute(sqlalchemy.text("select 1000")).scalar()

    async def fail():
        await asyncio.sleep(0)
        raise ValueError

    async def main():
        database = _engine()

        def program(n):
            async def use():
                async with AsyncSession(database) as session:
                    first = (await session.execute(sqlalchemy.text("select 1"))).scalar()
                    return first + await session.run_sync(sync_work, n)

            session = AsyncSession(database)
            total = await_(session.execute(sqlalchemy.text("select 10000"))).scalar()
            await_(session.close())
            return total + await_(use())

        try:
            assert await run(program, 1, engine=engine) == 11102
        finally:
            await database.dispose()

    run_here(main)


def test_ours_inside_sqlalchemy(run_here, engine):
    """A program run by a coroutine that SQLAlchemy's greenlet awaits; and SQLAlchemy's await_only in ours."""
    from sqlalchemy.util import await_only, greenlet_spawn

    async def ours(n):
        return await run(lambda: await_(echo(n)), engine=engine)

    def theirs():
        return await_only(ours(1)) + await_only(ours(2))

    async def main():
        assert await greenlet_spawn(theirs) == 3
        if engine == "loop":
            assert await run(lambda: await_only(echo(4)), engine="loop") == 4
            assert await run(lambda: await_(greenlet_spawn(theirs)), engine="loop") == 3

    run_here(main)


def test_nested_programs_need_neither_a_bound_nor_the_default_executor():
    """Nested work in one bounded pool starves; and DSPy's `acall` makes its thread hops in the default executor."""

    async def hop(n):
        return await asyncio.to_thread(lambda: n)

    def program(depth):
        return await_(run(program, depth - 1, engine="thread")) + await_(hop(1)) if depth else 0

    async def main():
        asyncio.get_running_loop().set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        return await asyncio.gather(*(run(program, 5, engine="thread") for _ in range(20)))

    assert asyncio.run(main()) == [5] * 20
