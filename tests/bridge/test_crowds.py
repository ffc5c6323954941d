"""`engine="auto"` with many runs at once, and what counts as a sign of blocking."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from dspy_parallel.bridge import await_, placement_of, run, stretches, threads
from dspy_parallel.bridge import placement as placements
from dspy_parallel.bridge.placement import CLEAN_RUNS, Placement
from dspy_parallel.bridge.stretches import Sighting
from dspy_parallel.errors import BlockingWarning

from .children import run_child
from .placing import answer, block, on_loop, recorded

LOCK, RLOCK = threading.Lock(), threading.RLock()


CONDITION, SEMAPHORE = threading.Condition(), threading.Semaphore(2)


@pytest.mark.timeout(120)
def test_two_hundred_first_runs_of_a_clean_program():
    """In threads, and on the loop by the second batch."""

    def program():
        for _ in range(3):
            await_(answer())
        return threading.current_thread()

    async def main():
        me = threading.current_thread()
        first = await asyncio.gather(*(run(program) for _ in range(200)))
        assert me not in first[:CLEAN_RUNS]  # on a busy machine these may be done before the last ones begin
        assert on_loop(program), placement_of(program)
        assert set(await asyncio.gather(*(run(program) for _ in range(200)))) == {me}

    _, seen = recorded(main)
    assert not seen


@pytest.mark.timeout(180)
@pytest.mark.parametrize("where", ["before", "after"])
def test_two_hundred_first_runs_of_a_blocking_program(where):
    """No slower than plain threads; not one of them, nor of a second batch, is on the loop."""

    def new_program():
        def program():
            if where == "before":
                block()
            await_(answer())
            if where == "after":
                block()
            return threading.current_thread()

        # Functions made from one code object are one program, of which the first round would have taught enough.
        program.__code__ = program.__code__.replace()
        return program

    def plain():
        block()
        asyncio.run_coroutine_threadsafe(answer(), loop).result()

    loop = None

    async def crowd(program):
        began = time.perf_counter()
        assert threading.current_thread() not in await asyncio.gather(*(run(program) for _ in range(200)))
        return time.perf_counter() - began

    async def main():
        nonlocal loop
        loop = asyncio.get_running_loop()
        ratios = []
        for _ in range(3):
            began = time.perf_counter()
            threads = [threading.Thread(target=plain) for _ in range(200)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                await asyncio.sleep(0.005)
            stock = time.perf_counter() - began
            program = new_program()
            assert placement_of(program) == Placement(placement_of(program).name)
            ratios.append(await crowd(program) / stock)
        await crowd(program)
        return min(ratios), placement_of(program)

    (ratio, placement), seen = recorded(main)
    assert ratio <= 1.25
    assert placement.state == "thread"
    assert 1 <= len(seen) <= 3  # one for each program, of which two may not have been seen often enough


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
            for _ in range(1000):  # a busy machine takes its time
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


@pytest.mark.parametrize("ending", ["returns", "raises", "is cancelled"])
def test_only_some_of_a_crowd_are_watched(ending):
    """Those that end, in whatever way, make room for others."""
    metered: list[bool] = []

    def program(gate: asyncio.Event) -> None:
        metered.append(threads.current_thread_program()._meter is not None)
        await_(gate.wait())
        if ending == "raises":
            raise ValueError

    async def main() -> None:
        for _ in range(2):
            gate = asyncio.Event()
            runs = [asyncio.create_task(run(program, gate)) for _ in range(placements.WATCHED_AT_ONCE + 5)]
            while len(metered) < len(runs):
                await asyncio.sleep(0.001)
            assert sum(metered) == placements.WATCHED_AT_ONCE
            metered.clear()
            if ending == "is cancelled":
                for task in runs:
                    task.cancel()
            else:
                gate.set()
            await asyncio.gather(*runs, return_exceptions=True)
            if ending == "returns":
                break  # it may be on the loop by now

    asyncio.run(main())
    assert not placement_of(program).watched
