"""A program that computes for long between two waits leaves the loop for good. No clock here is real."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dspy_parallel import placement
from dspy_parallel.bridge import await_, call_in_thread, start
from dspy_parallel.errors import BlockingWarning
from dspy_parallel.loop_monitor import LOOK_SECONDS, LoopMonitor
from dspy_parallel.placement import ON_LOOP, PINNED_TO_LOOP, Placement
from dspy_parallel.task_pool import Job, TaskPool

SECOND = 40 * LOOK_SECONDS


class Machine:
    """Its clocks go only when a program takes time, and its monitors look whenever they do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = self.cpu = 0.0
        self.monitors: list[LoopMonitor] = []
        machine = self

        class Driven(LoopMonitor):
            def __init__(self, looks: int) -> None:
                super().__init__(clock=lambda: machine.wall)
                machine.monitors.append(self)

            def watch(self, loop: asyncio.AbstractEventLoop) -> None:
                self.add(loop)

        monkeypatch.setattr(placement, "LoopMonitor", Driven)
        monkeypatch.setattr(placement, "wall_seconds", lambda: machine.wall)
        monkeypatch.setattr(placement, "cpu_seconds", lambda: machine.cpu)

    def take(self, seconds: float, *, is_busy: bool = False) -> None:
        """What a program does for so long; on a busy machine others do it."""
        for _ in range(round(seconds / LOOK_SECONDS)):
            self.wall += LOOK_SECONDS
            self.cpu += 0.0 if is_busy else LOOK_SECONDS
            for monitor in self.monitors:
                if not monitor.is_over:
                    monitor.look()  # the line that is to be named


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def computes(machine: Machine, seconds: float = 0.2, **kwargs: Any) -> None:
    await_(asyncio.sleep(0))
    machine.take(seconds, **kwargs)
    await_(asyncio.sleep(0))


LINE = next(n for n, line in enumerate(inspect.getsourcelines(Machine)[0], 1) if "to be named" in line)
LINE += inspect.getsourcelines(Machine)[1] - 1


def times(count: int, where: Placement, *args: Any, **kwargs: Any) -> list[str]:
    """Run the program so many times; return what was warned of."""

    async def main() -> None:
        for _ in range(count):
            await start(computes, args, kwargs, where)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main())
    assert all((w.category, w.filename, w.lineno) == (BlockingWarning, __file__, LINE) for w in caught)
    return [str(w.message) for w in caught]


def test_after_a_few_runs_it_is_in_threads_with_one_warning(machine: Machine) -> None:
    where = Placement("program", "loop")
    assert times(1, where, machine) == []  # suspicion
    assert times(placement.LONG_RUNS - 1, where, machine) == []
    assert where.engine == "loop"
    (message,) = times(1, where, machine)
    assert f"program computes for 0.20 s between two waits at {__file__}:{LINE}." in message
    assert (where.engine, where.filename, where.line) == ("thread", __file__, LINE)
    assert times(3, where, machine) == []
    assert all(monitor.is_over for monitor in machine.monitors)


def test_its_engine_had_another_name() -> None:
    with pytest.warns(DeprecationWarning, match="called engine"):
        assert Placement("program", "thread").state == "thread"


def test_a_crowd_in_flight_at_once(machine: Machine) -> None:
    where = Placement("program", "loop")

    async def main() -> None:
        await asyncio.gather(*(start(computes, (machine,), {}, where) for _ in range(50)))

    with pytest.warns(BlockingWarning, match="computes for") as caught:
        asyncio.run(main())
    assert len(caught) == 1
    assert where.engine == "thread"


@pytest.mark.parametrize("way", ["start", "TaskPool"])
def test_in_threads_they_compute_one_at_a_time_but_wait_and_block_together(way: str) -> None:
    """As on the loop, which has every other turn at the GIL meanwhile, not one of many."""
    where, crowd, peak = Placement("program", "thread", computes=True), 5, 0
    at_work: list[int] = []
    together = threading.Barrier(crowd, timeout=100)

    def compute() -> None:
        nonlocal peak
        at_work.append(1)
        for _ in range(100):
            os.stat(".")  # others have every opportunity to go on
            peak = max(peak, len(at_work))
        at_work.pop()

    def program() -> None:
        compute()
        await_(asyncio.to_thread(together.wait))
        compute()
        call_in_thread(together.wait, (), {}, "it blocks")
        compute()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(crowd))
        if way == "start":
            await asyncio.gather(*(start(program, (), {}, where) for _ in range(crowd)))
            return
        landed: asyncio.Queue[BaseException | None] = asyncio.Queue()
        pool = TaskPool(loop, crowd, lambda _, result, error: landed.put_nowait(error))
        for _ in range(crowd):
            pool.submit(Job(program, (), {}, contextvars.Context(), where))
        assert [await landed.get() for _ in range(crowd)] == [None] * crowd

    asyncio.run(main())
    assert peak == 1


def test_warnings_that_are_errors_cost_no_result(machine: Machine) -> None:
    where = Placement("program", "loop")

    async def main() -> None:
        for _ in range(placement.LONG_RUNS + 1):
            await start(computes, (machine,), {}, where)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
    assert where.engine == "thread"


@pytest.mark.parametrize(
    ("seconds", "is_busy"), [(LOOK_SECONDS, False), (SECOND, True)], ids=["a short slice", "a busy machine"]
)
def test_it_stays(machine: Machine, seconds: float, is_busy: bool) -> None:
    where = Placement("program", "loop")
    assert times(20, where, machine, seconds, is_busy=is_busy) == []
    assert where.engine == "loop"
    assert bool(machine.monitors) == is_busy  # nobody watches what has never taken long


def test_a_long_slice_now_and_then_is_none_of_its_own(machine: Machine) -> None:
    where = Placement("program", "loop")
    for _ in range(5):
        assert times(1, where, machine) == []
        times(placement.NEAR_RUNS, where, machine, 0.0)
    assert where.engine == "loop"
    times(1, where, machine)
    assert len(times(placement.LONG_RUNS - 1, where, machine)) == 1


def test_a_run_counts_once(machine: Machine) -> None:
    def often() -> None:
        for _ in range(9):
            computes(machine)

    where = Placement("program", "loop")
    asyncio.run(start(often, (), {}, where))
    assert where.engine == "loop"


@pytest.mark.parametrize("where", [ON_LOOP, PINNED_TO_LOOP])
def test_what_is_pinned_stays(machine: Machine, where: Placement) -> None:
    assert times(9, where, machine) == []
    assert where.engine == "loop"
    assert machine.monitors == []
