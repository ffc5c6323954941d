"""engine="auto": what is promoted to the loop, what is not, and what a busy machine does not change."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import logging
import select
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from dspy_parallel.bridge import await_, placement_of, run, start, stretches
from dspy_parallel.bridge import placement as placements
from dspy_parallel.bridge.locks import held_lock
from dspy_parallel.bridge.placement import Placement
from dspy_parallel.bridge.stretches import Sighting
from dspy_parallel.errors import BlockingWarning

from .children import run_child

BLOCK = 0.25


def block(seconds: float = BLOCK) -> None:
    """Blocks by something real that no library patches."""
    select.select([], [], [], seconds)


async def answer() -> int:
    await asyncio.sleep(0.001)
    return 1


async def times(n: int, program: Callable[..., Any], *args: Any) -> list[Any]:
    return [await run(program, *args) for _ in range(n)]


async def until(state: str, program: Callable[..., Any]) -> list[Any]:
    """Run the program until it is in that state. On a busy machine, not every run gives a verdict."""
    results: list[Any] = []
    while placement_of(program).state != state:
        assert len(results) < 100, placement_of(program)
        results.append(await run(program))
    return results


def recorded(fn: Callable[..., Any], *args: Any) -> tuple[Any, list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = asyncio.run(fn(*args))
    return result, [warning for warning in seen if warning.category is BlockingWarning]


def on_loop(program: Callable[..., Any]) -> bool:
    return placement_of(program).state == "loop"


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
    assert seen[0].filename == __file__
    line = _line_of(seen[0].lineno)
    assert "select.select" in line
    assert "blocked its thread for " in str(seen[0].message)
    assert f"{__file__}:{seen[0].lineno}" in placement_of(program).reason


def _line_of(number: int) -> str:
    with open(__file__) as file:
        return file.read().splitlines()[number - 1]


def test_the_warning_points_to_the_users_line_not_into_a_library():
    """Here the standard library's."""

    def program():
        event = threading.Event()
        event.wait(BLOCK)  # this line

    _, seen = recorded(until, "thread", program)
    assert [_line_of(warning.lineno).strip() for warning in seen] == ["event.wait(BLOCK)  # this line"]


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
    assert "select.select" in _line_of(seen[0].lineno)


def test_many_in_flight_when_it_begins_to_block():
    """Those on the loop block it one by one, which nobody can help. They are one sign; later runs are in threads."""
    gate = None
    blocking = False

    async def wait():
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
BOUNDED = threading.BoundedSemaphore(1)
HOLDER = types.SimpleNamespace(lock=threading.Lock())


class Owner:
    def __init__(self, lock: Any) -> None:
        self.lock = lock

    def direct(self):
        with self.lock:
            await_(answer())

    def behind_a_manager(self):
        import contextlib

        @contextlib.contextmanager
        def guard(owner=self):
            with owner.lock:
                yield

        with guard():
            await_(answer())


def _local(lock):
    with lock:
        await_(answer())


def _global_lock():
    with LOCK:
        await_(answer())


def _global_rlock():
    with RLOCK:
        _unaware()


def _unaware():
    await_(answer())


def _global_condition():
    with CONDITION:
        await_(answer())


def _global_semaphore():
    with SEMAPHORE:
        await_(answer())


def _global_bounded():
    with BOUNDED:
        await_(answer())


def _attribute_of_a_global():
    with HOLDER.lock:
        await_(answer())


def _closure():
    lock = threading.Lock()

    def inner():
        with lock:
            await_(answer())

    return inner


LOCKED: dict[str, Callable[[], Any]] = {
    "local lock": functools.partial(_local, threading.Lock()),
    "local rlock": functools.partial(_local, threading.RLock()),
    "local condition": functools.partial(_local, threading.Condition(threading.Lock())),
    "local semaphore": functools.partial(_local, threading.Semaphore(1)),
    "attribute": Owner(threading.Lock()).direct,
    "attribute rlock": Owner(threading.RLock()).direct,
    "behind a context manager": Owner(threading.Lock()).behind_a_manager,
    "global lock": _global_lock,
    "global rlock, held further out": _global_rlock,
    "global condition": _global_condition,
    "global semaphore": _global_semaphore,
    "global bounded semaphore": _global_bounded,
    "attribute of a global": _attribute_of_a_global,
    "closure": _closure(),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("program", LOCKED.values(), ids=LOCKED)
def test_locks_held_across_an_await(program):
    """Never promoted, never a hang, one warning that names the lock; ten at once take turns as threads do."""

    async def main():
        for _ in range(3):
            await asyncio.wait_for(asyncio.gather(*(run(program) for _ in range(10))), 30)
            assert placement_of(program).state != "loop"
        assert placement_of(program).state == "thread"

    _, seen = recorded(main)
    assert len(seen) == 1
    assert "holds" in str(seen[0].message)
    assert __file__ in str(seen[0].message)


def test_locks_used_between_awaits_are_fine():
    """Also while many threads use them at once; somebody else's short use is no sign."""
    lock = threading.Lock()
    count = 0

    def program():
        nonlocal count
        for _ in range(3):
            with lock:
                count += 1
            await_(answer())

    async def main():
        batches = 0
        while not on_loop(program):
            await asyncio.gather(*(run(program) for _ in range(50)))
            batches += 1
            assert batches < 20
        return batches

    batches, seen = recorded(main)
    assert not seen
    assert count == batches * 50 * 3


def test_held_lock_looks_at_the_frames_given():
    lock = threading.Lock()

    def outer():
        with lock:
            return inner()

    def inner():
        frame = sys._getframe()
        return held_lock(frame, None), held_lock(frame, frame.f_back)

    found, not_found = outer()
    assert found.startswith("lock at ")
    assert found.endswith("in outer")
    assert not_found is None


@pytest.mark.timeout(120)
def test_two_hundred_first_runs_of_a_clean_program():
    """All in threads at once, and on the loop by the second batch."""

    def program():
        for _ in range(3):
            await_(answer())
        return threading.current_thread()

    async def main():
        me = threading.current_thread()
        assert me not in await asyncio.gather(*(run(program) for _ in range(200)))
        assert on_loop(program), placement_of(program)
        assert set(await asyncio.gather(*(run(program) for _ in range(200)))) == {me}

    _, seen = recorded(main)
    assert not seen


@pytest.mark.timeout(180)
@pytest.mark.parametrize("where", ["before", "after"])
def test_two_hundred_first_runs_of_a_blocking_program(where):
    """No slower than plain threads; not one of them, nor of a second batch, is on the loop."""

    def program():
        if where == "before":
            block()
        await_(answer())
        if where == "after":
            block()
        return threading.current_thread()

    def plain():
        block()
        asyncio.run_coroutine_threadsafe(answer(), loop).result()

    loop = None

    async def main():
        nonlocal loop
        loop = asyncio.get_running_loop()
        me = threading.current_thread()
        ratios = []
        for _ in range(3):
            began = time.perf_counter()
            threads = [threading.Thread(target=plain) for _ in range(200)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                await asyncio.sleep(0.005)
            stock = time.perf_counter() - began
            began = time.perf_counter()
            assert me not in await asyncio.gather(*(run(program) for _ in range(200)))
            ratios.append((time.perf_counter() - began) / stock)
        return min(ratios)

    ratio, seen = recorded(main)
    assert ratio <= 1.25
    assert placement_of(program).state == "thread"
    assert len(seen) == 1


@pytest.mark.timeout(120)
def test_a_program_that_blocks_now_and_then_is_not_promoted_for_long():
    """Half of two hundred runs at once block: their clean siblings do not speak for them."""

    def program(n):
        if n % 2:
            block()
        await_(answer())

    async def main():
        for _ in range(3):
            await asyncio.gather(*(run(program, n) for n in range(100)))
        assert placement_of(program).state == "thread"

    recorded(main)


@pytest.mark.timeout(120)
def test_other_processes_that_take_the_cpu_do_not_pin_a_clean_program():
    """Four busy processes on top of what else runs here: slow is not blocked."""
    ended = run_child(
        """
        import asyncio, multiprocessing, threading, time, warnings
        from dspy_parallel.bridge import await_, placement_of, run

        def burn():
            until = time.monotonic() + 8
            while time.monotonic() < until:
                pass

        def program():
            for _ in range(3):
                until = time.thread_time() + 0.004
                while time.thread_time() < until:
                    pass
                await_(asyncio.sleep(0.001))

        async def main():
            for _ in range(40):
                await asyncio.gather(*(run(program) for _ in range(5)))
                if placement_of(program).state == "loop":
                    break
            for _ in range(40):
                await asyncio.gather(*(run(program) for _ in range(5)))
            print(placement_of(program).state, placement_of(program).signs)

        if __name__ == "__main__":
            context = multiprocessing.get_context("fork")
            burners = [context.Process(target=burn, daemon=True) for _ in range(4)]
            for burner in burners:
                burner.start()
            asyncio.run(main())
            for burner in burners:
                burner.kill()
        """,
        timeout=100,
    )
    state, signs = ended.out.split()
    assert (state, signs) == ("loop", "0")


def test_standing_still_is_counted_only_by_punctual_ticks():
    """The decision itself, without a clock: late ticks and CPU time are no evidence."""
    watch, slot = stretches._Watch(), stretches.Slot()
    slot.on_loop = False
    slot.started = time.perf_counter() - 10
    slot.thread = threading.current_thread()
    cpu = 1.0
    slot_type = type("FakeSlot", (), {})
    fake = slot_type()
    for name in ("on_loop", "started", "thread"):
        setattr(fake, name, getattr(slot, name))
    fake.seen, fake.cpu = None, lambda: cpu
    tick = stretches.TICK_SECONDS
    watch._look_at(fake, tick, {})
    assert isinstance(fake.seen, Sighting)
    assert fake.seen.filename == __file__
    watch._look_at(fake, tick, {})
    assert fake.seen.blocked == pytest.approx(tick)
    watch._look_at(fake, 10 * tick, {})  # late: the process, or this thread, had no CPU
    assert fake.seen.blocked == pytest.approx(tick)
    cpu += tick / 2
    watch._look_at(fake, tick, {})  # it computed
    assert fake.seen.blocked == pytest.approx(tick)
    for _ in range(3):
        watch._look_at(fake, tick, {})
    assert fake.seen.blocked == pytest.approx(3 * tick)  # in a row


def test_runs_under_way_at_a_sign_count_neither_way():
    placement = Placement("p")
    placement.blocked(0, "blocks")
    placement.blocked(0, "blocks")
    for _ in range(100):
        placement.ran_clean(0)
    assert (placement.state, placement.signs, placement.clean_runs) == ("probation", 1, 0)
    for _ in range(placements.CLEAN_RUNS * 10):
        assert placement.state == "probation"
        placement.ran_clean(1)
    assert placement.state == "loop"
    for _ in range(placements.FORGIVEN_AFTER):
        placement.ran_clean(placement.signs)
    assert placement.signs == 0
    placement.blocked(0, "blocks")
    with pytest.warns(BlockingWarning):
        placement.blocked(1, "blocks again")
    assert placement.state == "thread"
    placement.ran_clean(2)
    placement.blocked(2, "more")
    assert (placement.state, placement.reason) == ("thread", "blocks again")


@pytest.mark.parametrize("together", [2, 20])
def test_programs_that_wait_for_each_other_stay_in_threads(together):
    """Whoever comes last at a barrier has not waited, and looks clean. On the loop, all would wait for it for good."""
    ended = run_child(
        f"""
        import asyncio, threading
        from dspy_parallel.bridge import await_, placement_of, run

        async def answer():
            await asyncio.sleep(0.001)

        barrier = threading.Barrier({together})

        def program():
            await_(answer())
            barrier.wait()

        async def main():
            for _ in range(10):
                await asyncio.gather(*(run(program) for _ in range({together})))

        asyncio.run(main())
        print(placement_of(program).state != "loop")
        """
    )
    assert ended.out.strip() == "True"


def test_failed_runs_do_not_count_as_clean():
    """They may have ended before the part that blocks."""

    def program():
        raise ValueError

    async def main():
        for _ in range(5):
            with pytest.raises(ValueError):
                await run(program)

    asyncio.run(main())
    assert placement_of(program).clean_runs == 0


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
