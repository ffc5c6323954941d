"""engine="auto": what is promoted to the loop, what is not, and what a busy machine does not change."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import logging
import sys
import threading
import time
import warnings
from types import ModuleType
from typing import Any, cast

import pytest

from dspy_parallel.bridge import await_, placement_of, run, start
from dspy_parallel.bridge import placement as placements
from dspy_parallel.bridge.placement import Placement

from . import placing
from .children import run_child
from .placing import BLOCK, answer, block, on_loop, recorded, times, until


def test_clean_programs_move_to_the_loop():
    """After a few runs, and from then on they run there."""

    def program():
        await_(answer())
        return threading.current_thread()

    async def main():
        me = threading.current_thread()
        assert me not in await until("loop", program)
        assert placement_of(program).clean_runs >= placements.CLEAN_RUNS
        assert await run(program) is me

    asyncio.run(main())


@pytest.mark.parametrize("where", ["before", "after"])
def test_blocking_programs_stay_in_threads(where):
    """Blocking before or after the wait; one warning, with the user's file and line."""

    def program():
        if where == "before":
            block()
        await_(answer())
        if where == "after":
            block()
        return threading.current_thread()

    async def main():
        assert threading.current_thread() not in await until("thread", program)
        await times(3, program)

    _, seen = recorded(main)
    assert len(seen) == 1
    assert seen[0].filename == placing.__file__
    line = _line_of(placing, seen[0].lineno)
    assert "select.select" in line
    assert "blocked its thread for " in str(seen[0].message)
    assert f"{placing.__file__}:{seen[0].lineno}" in placement_of(program).reason


def _line_of(module: ModuleType, number: int) -> str:
    with open(cast("str", module.__file__)) as file:
        return file.read().splitlines()[number - 1]


def test_the_warning_points_to_the_users_line_not_into_a_library():
    """Here the standard library's."""

    def program():
        event = threading.Event()
        event.wait(BLOCK)  # this line

    _, seen = recorded(until, "thread", program)
    assert [_line_of(sys.modules[__name__], warning.lineno).strip() for warning in seen] == [
        "event.wait(BLOCK)  # this line"
    ]


def test_a_warning_turned_error_does_not_replace_the_result(caplog):
    def program():
        block()
        return "result"

    with caplog.at_level(logging.WARNING, "dspy_parallel"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(asyncio.run(until("thread", program))) == {"result"}
    assert "blocked its thread" in caplog.text


def test_a_program_that_begins_to_block_on_the_loop_goes_back():
    """To probation at the first sign, and for good at the next; one warning."""
    blocking = False

    def program():
        await_(answer())
        if blocking:
            block()
        return threading.current_thread()

    async def main():
        nonlocal blocking
        me = threading.current_thread()
        await until("loop", program)
        blocking = True
        assert set(await until("probation", program)) == {me}  # it had to be seen once
        assert placement_of(program).signs == 1
        assert me not in await until("thread", program)

    _, seen = recorded(main)
    assert len(seen) == 1
    assert "select.select" in _line_of(placing, seen[0].lineno)


def test_many_in_flight_when_it_begins_to_block():
    """Those on the loop block it one by one, which nobody can help. They are one sign; later runs are in threads."""
    gate = None
    blocking = False
    waiting = 0

    async def wait():
        nonlocal waiting
        waiting += 1
        await gate.wait()

    def program():
        if blocking:
            await_(wait())
            block()
        return threading.current_thread()

    async def main():
        nonlocal gate, blocking
        gate = asyncio.Event()
        me = threading.current_thread()
        await until("loop", program)
        blocking = True
        tasks = [asyncio.ensure_future(run(program)) for _ in range(5)]
        while waiting < 5:
            await asyncio.sleep(0)
        gate.set()
        assert await asyncio.gather(*tasks) == [me] * 5
        placement = placement_of(program)
        assert (placement.state, placement.signs) == ("probation", 1)
        started = time.perf_counter()
        assert me not in await asyncio.gather(*(run(program) for _ in range(20)))
        assert time.perf_counter() - started < 20 * BLOCK / 2
        await until("thread", program)

    _, seen = recorded(main)
    assert len(seen) == 1


def test_computing_for_long_is_blocking_too():
    """In threads it is never promoted; on the loop it is a sign."""
    seconds = 0.3

    def program():
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass
        return threading.current_thread()

    async def main():
        nonlocal seconds
        await times(4, program)
        assert placement_of(program).state == "probation"
        placement_of(program).state = "loop"
        await until("probation", program)
        assert "computed for over 0.1 s" in placement_of(program).reason

    _, seen = recorded(main)
    assert not seen


def test_one_long_first_use_is_forgiven():
    """Opening a connection, reading a model: once is not a habit. But it takes more runs after that."""
    calls = 0

    def program():
        nonlocal calls
        calls += 1
        if placement_of(program).signs == 0:
            block()
        await_(answer())

    async def main():
        while placement_of(program).signs == 0:
            await run(program)
        before = calls
        while not on_loop(program):
            assert calls - before < 300
            await run(program)
        assert calls - before >= 10 * placements.CLEAN_RUNS

    _, seen = recorded(main)
    assert not seen


def test_imports_do_not_count(tmp_path, monkeypatch):
    """A first run that imports for long, as LiteLLM's first use does, is no sign."""
    (tmp_path / "takes_long_to_import.py").write_text("import select; select.select([], [], [], 0.2)")
    monkeypatch.syspath_prepend(str(tmp_path))

    def program():
        importlib.import_module("takes_long_to_import")
        await_(answer())

    async def main():
        await run(program)
        assert placement_of(program) == Placement(placement_of(program).name)
        await until("loop", program)

    try:
        _, seen = recorded(main)
    finally:
        sys.modules.pop("takes_long_to_import", None)
    assert not seen


LOCK, RLOCK = threading.Lock(), threading.RLock()


CONDITION, SEMAPHORE = threading.Condition(), threading.Semaphore(2)


def test_which_programs_are_one():
    def decorate(fn):
        @functools.wraps(fn)
        def wrapper(*args):
            return fn(*args)

        return wrapper

    @decorate
    def first(): ...

    @decorate
    def second(): ...

    class Module:
        def forward(self): ...

        def __call__(self): ...

    def make():
        return lambda: 1

    assert placement_of(first) is not placement_of(second)
    assert placement_of(first) is placement_of(first.__wrapped__)
    assert first.__qualname__ in placement_of(first).name
    assert placement_of(Module().forward) is placement_of(Module().forward) is placement_of(Module.forward)
    assert placement_of(Module()) is placement_of(Module) is not placement_of(Module.forward)
    assert placement_of(make()) is placement_of(make())
    assert placement_of(functools.partial(functools.partial(first, 1), 2)) is placement_of(first)
    assert placement_of(len).state == "probation"
    # Alike to the last byte, but in different files.
    same = "def program(): ..."
    spaces: list[dict[str, Any]] = [{}, {}]
    for n, space in enumerate(spaces):
        exec(compile(same, f"file{n}.py", "exec"), space)
    assert placement_of(spaces[0]["program"]) is not placement_of(spaces[1]["program"])


def test_known_as_and_forgetting():
    async def main():
        class Module: ...

        while placement_of(Module).state != "loop":
            await start(lambda: await_(answer()), (), {}, "auto", Module)
        assert not placement_of(main).clean_runs

    asyncio.run(main())
    number = len(placements._placements)
    gc.collect()
    assert len(placements._placements) < number


def test_nested_programs_are_blamed_for_themselves():
    """A program on the loop that awaits one that blocks stays there; the inner one goes."""
    blocking = False

    def inner():
        if blocking:
            block()

    def outer():
        await_(run(inner))
        return threading.current_thread()

    async def main():
        nonlocal blocking
        while not (on_loop(inner) and on_loop(outer)):
            await run(outer)
        blocking = True
        while placement_of(inner).state != "thread":
            assert await run(outer) is threading.current_thread()
        assert placement_of(outer).state == "loop"

    recorded(main)


@pytest.mark.timeout(60)
def test_watchdog_names_the_line_that_a_loop_is_stuck_on():
    """Within about three seconds, with file and line, while it is still stuck."""
    ended = run_child(
        """
        import asyncio, logging, os, sys, tempfile, threading, time
        logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
        from dspy_parallel.bridge import await_, run

        source = '''
        def program():
            with lock:
                await_(asyncio.sleep(0.01))
        '''
        import textwrap
        lock = threading.Lock()
        exec(compile(textwrap.dedent(source), "stuck_program.py", "exec"), globals())

        class Handler(logging.Handler):
            def emit(self, record):
                print(f"{time.monotonic() - began:.1f} {record.getMessage()}")
                os._exit(0)

        logging.getLogger("dspy_parallel").addHandler(Handler())

        async def main():
            await asyncio.gather(run(program, engine="loop"), run(program, engine="loop"))

        began = time.monotonic()
        asyncio.run(main())
        """,
        timeout=40,
    )
    seconds, text = ended.out.split(" ", 1)
    assert float(seconds) < 4
    assert "stuck_program.py:3 in program" in text
    assert "engine='thread'" in text
