"""Greenlets of programs that have returned are used again, and keep nothing alive meanwhile."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import greenlet
import pytest

from dspy_parallel.bridge import await_, in_bridge, kernel, run
from dspy_parallel.bridge.kernel import Program


class Thing:
    """Something that can be watched."""


async def greenlet_of_a_program():
    return await run(greenlet.getcurrent, engine="loop")


def test_a_greenlet_serves_one_program_after_the_other():
    async def main():
        return {id(await greenlet_of_a_program()) for _ in range(5)}

    assert len(asyncio.run(main())) == 1


def test_programs_in_flight_have_greenlets_of_their_own():
    async def main():
        everybody_is_here, here = asyncio.Event(), []

        async def meet():
            here.append(greenlet.getcurrent())
            if len(here) == 20:
                everybody_is_here.set()
            await everybody_is_here.wait()

        await asyncio.gather(*(run(lambda: await_(meet()), engine="loop") for _ in range(20)))
        return here

    assert len(set(map(id, asyncio.run(main())))) == 20


def test_a_spare_greenlet_keeps_neither_arguments_nor_results_nor_context(no_leaks):
    seen = []

    def program(thing):
        result = Thing()
        seen.extend([weakref.ref(thing), weakref.ref(result)])
        return result

    async def main():
        await run(program, Thing(), engine="loop")

    asyncio.run(main())
    gc.collect()
    assert [reference() for reference in seen] == [None, None]
    spare = [found for found in gc.get_objects() if type(found) is Program and found.is_spare]
    assert spare
    assert all(found.gr_context is None and found.task is None for found in spare)


def test_a_program_that_raises_takes_its_greenlet_along():
    def program():
        raise KeyError("mine")

    async def main():
        failed = await greenlet_of_a_program()
        with pytest.raises(KeyError):
            await run(program, engine="loop")
        assert failed.dead
        return await run(in_bridge, engine="loop")

    assert asyncio.run(main())


def test_spare_greenlets_end_with_their_thread():
    alive = []

    def in_thread():
        async def main():
            alive.append(weakref.ref(await greenlet_of_a_program()))

        asyncio.run(main())

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    gc.collect()
    assert alive[0]() is None


def test_each_program_has_its_own_context():
    import contextvars

    variable = contextvars.ContextVar("variable", default="unset")

    def program(value):
        before = variable.get()
        variable.set(value)
        return before

    async def main():
        # Each task has a context of its own; the greenlet is the same.
        return [await asyncio.create_task(run(program, value, engine="loop")) for value in ("a", "b")]

    assert asyncio.run(main()) == ["unset", "unset"]


def test_a_greenlet_does_not_keep_its_first_program():
    """Python holds on to what a greenlet was started with for as long as it lives."""
    kernel._spare().clear()

    class Callable:
        def __call__(self) -> None:
            await_(asyncio.sleep(0))

    program = Callable()
    reference = weakref.ref(program)
    asyncio.run(run(program, engine="loop"))
    assert kernel._spare()
    del program
    gc.collect()
    assert reference() is None
