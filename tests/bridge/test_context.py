"""Context variables: a program shares those of its caller, as plain sync code would."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars

import pytest

from dspy_parallel.bridge import await_
from tests.bridge.programs import run

VAR: contextvars.ContextVar[object] = contextvars.ContextVar("VAR")
OTHER: contextvars.ContextVar[object] = contextvars.ContextVar("OTHER", default="default")


def unset() -> bool:
    return VAR.get("unset") == "unset"


def test_shared_with_what_it_awaits(run_here, engine):
    """Both ways, also in the middle of the coroutine, and when it or the program fails."""

    async def coroutine(fails):
        assert VAR.get() == "program"
        VAR.set("coroutine 1")
        await asyncio.sleep(0)
        VAR.set("coroutine 2")
        if fails:
            raise ValueError

    def program(fails):
        VAR.set("program")
        with contextlib.suppress(ValueError):
            await_(coroutine(fails))
        assert VAR.get() == "coroutine 2"
        OTHER.set("changed")
        if fails:
            raise KeyError

    async def main():
        for fails in (False, True):
            with contextlib.suppress(KeyError):
                await run(program, fails, engine=engine)
            assert (VAR.get(), OTHER.get()) == ("coroutine 2", "changed")

    run_here(main)


def test_tokens_work_everywhere(run_here, engine):
    """Set here, reset there: caller, program and coroutine are one context; unset again is unset."""

    async def reset(token):
        await asyncio.sleep(0)
        VAR.reset(token)

    async def set_():
        await asyncio.sleep(0)
        return VAR.set("coroutine")

    async def main():
        # program -> coroutine
        def first():
            await_(reset(VAR.set("program")))
            assert unset()
            return VAR.set("again")

        token = await run(first, engine=engine)
        # program -> caller
        assert VAR.get() == "again"
        VAR.reset(token)
        assert unset()

        # caller -> program, coroutine -> program
        def second(token):
            VAR.reset(token)
            assert unset()
            await_(asyncio.sleep(0))
            assert unset()
            token = await_(set_())
            assert VAR.get() == "coroutine"
            VAR.reset(token)

        await run(second, VAR.set("caller"), engine=engine)
        assert unset()

        # across awaits and nested runs
        def third(token):
            await_(run(lambda: VAR.reset(token), engine="thread"))
            assert unset()
            token = VAR.set(1)
            await_(run(lambda: await_(run(lambda: VAR.reset(token), engine="loop")), engine="thread"))

        await run(third, VAR.set("caller"), engine=engine)
        assert unset()

    run_here(main)


def test_a_context_of_its_own_inside(run_here, engine):
    """copy_context().run(f): f and what it awaits see and change only the copy."""

    async def coroutine():
        assert VAR.get() == "copy"
        await asyncio.sleep(0)
        VAR.set("coroutine")

    def inner():
        VAR.set("copy")
        await_(coroutine())
        assert VAR.get() == "coroutine"
        await_(run(lambda: VAR.set("nested"), engine="thread"))
        assert VAR.get() == "nested"
        return VAR.get()

    def program():
        VAR.set("program")
        copy = contextvars.copy_context()
        assert copy.run(inner) == "nested"
        assert VAR.get() == "program"
        await_(asyncio.sleep(0))
        assert (VAR.get(), copy[VAR]) == ("program", "nested")

    async def main():
        await run(program, engine=engine)
        assert VAR.get() == "program"

    run_here(main)


def test_a_context_shared_by_tasks(run_here, engine):
    """create_task(context=...) (3.11): the tasks asked for one context, and get it."""
    import sys

    if sys.version_info < (3, 11):
        pytest.skip("new in 3.11")

    async def main():
        context = contextvars.copy_context()

        def program():
            VAR.set("first")
            await_(asyncio.sleep(0))

        await asyncio.get_running_loop().create_task(run(program, engine=engine), context=context)
        assert context[VAR] == "first"
        assert unset()

    run_here(main)
