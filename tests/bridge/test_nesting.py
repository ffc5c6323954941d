"""Programs in coroutines in programs, on either engine; tasks; other greenlet libraries."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading

import greenlet
import pytest

from dspy_parallel.bridge import await_, in_bridge, offload, run, run_sync
from dspy_parallel.errors import BridgeError


async def echo(value):
    await asyncio.sleep(0)
    return value


@pytest.mark.parametrize("inner", ["loop", "thread", "auto"])
def test_any_engine_in_any_engine(run_here, engine, inner):
    """Five levels deep, waiting on each."""

    def program(depth):
        before = await_(echo(depth))
        if depth:
            nested = engine if depth % 2 else inner
            return [before, *await_(run(program, depth - 1, engine=nested)), await_(echo(-depth))]
        return [before]

    assert run_here(run, program, 4, engine=engine) == [4, 3, 2, 1, 0, -1, -2, -3, -4]


def test_sync_code_in_coroutines_in_sync_code(run_here, engine):
    def innermost(n):
        assert in_bridge()
        return await_(echo(n))

    async def coroutine(n):
        await asyncio.sleep(0)
        return innermost(n) + await echo(1)

    def program():
        return await_(coroutine(1)) + await_(coroutine(2))

    assert run_here(run, program, engine=engine) == 5


def test_gather_inside_really_overlaps(run_here, engine):
    """All must be in flight before any returns."""

    async def main():
        arrived, all_here = 0, asyncio.Event()

        async def meet():
            nonlocal arrived
            arrived += 1
            if arrived == 5:
                all_here.set()
            await all_here.wait()
            return arrived

        async def gather():
            return await asyncio.gather(*(run(lambda: await_(meet()), engine=engine) for _ in range(5)))

        def program():
            return await_(gather())

        return await run(program, engine=engine)

    assert run_here(main) == [5] * 5


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


def test_eager_tasks_return_exceptions_not_errors_as_values(run_here, engine):
    """greenback 1.3.0 hands back an Error object as a value there."""

    async def main():
        def fails():
            await_(asyncio.sleep(0))
            raise ValueError("real")

        got = await asyncio.gather(run(fails, engine=engine), run(lambda: 1, engine=engine), return_exceptions=True)
        assert repr(got) == "[ValueError('real'), 1]"

    run_here(main)


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
    seen = []

    def other():
        seen.append(in_bridge())
        coroutine = echo(1)
        with contextlib.suppress(BridgeError):
            await_(coroutine)
            seen.append("waited")

    def program():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(10)

    run_here(run, program, engine=engine)
    assert seen == [False]


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
    """engine="loop" is strict wherever it is, and auto inside it never takes a thread."""

    def where():
        await_(asyncio.sleep(0))
        return threading.current_thread()

    @offload
    def blocks():
        return threading.current_thread()

    async def main():
        def strict():
            assert await_(run(where, engine="auto")) is threading.current_thread()
            with pytest.raises(RuntimeError, match="pinned"):
                blocks()
            with pytest.raises(RuntimeError, match="pinned"):
                await_(run(blocks, engine="auto"))

        async def coroutine():
            with pytest.raises(RuntimeError, match="pinned"):
                await run(lambda: blocks(), engine="loop")
            assert blocks() is not threading.current_thread()

        await run(strict, engine="loop")
        await run(coroutine, engine="auto")

    run_here(main)


def test_programs_on_probation_get_a_thread_inside_programs_on_the_loop(run_here):
    """Nobody has seen yet whether they block."""

    def new():
        return threading.current_thread()

    async def coroutine():
        return await run(new, engine="auto")

    async def main():
        assert await run(coroutine, engine="auto") is not threading.current_thread()

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
