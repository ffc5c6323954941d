"""A program on the loop that stalls a little in every run goes back on probation; a busy machine is no stall."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import types

import pytest

from dspy_parallel.bridge import await_, meters, placement_of, run, stretches
from dspy_parallel.bridge import placement as placements
from dspy_parallel.bridge.meters import LoopMeter
from dspy_parallel.bridge.placement import STALLED_RUNS, Placement

from .placing import answer, block, recorded, until


class World:
    """A thread's clocks, which move only when told to."""

    def __init__(self) -> None:
        self.wall = self.cpu = 1.0
        self.cpu_readings = 0
        self.punctual = True
        self.placement = Placement("program", state="loop")

    def read_cpu(self) -> float:
        self.cpu_readings += 1
        return self.cpu

    def pass_time(self, wall: float, cpu: float = 0.0) -> None:
        self.wall, self.cpu = self.wall + wall, self.cpu + cpu

    def run(self, *stretches: tuple[float, float]) -> None:
        meter = LoopMeter(self.placement)
        for stretch in stretches:
            meter.begin()
            self.pass_time(*stretch)
            meter.end()
            self.pass_time(1.0)
        meter.finished()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world, slot = World(), stretches.Slot()
    clocks = types.SimpleNamespace(perf_counter=lambda: world.wall, thread_time=world.read_cpu)
    monkeypatch.setattr(meters, "time", clocks)
    monkeypatch.setattr(meters, "current_slot", lambda: slot)
    monkeypatch.setattr(meters, "was_on_time", lambda since: world.punctual)
    return world


SHORT, STALL = (0.001, 0.001), (0.05, 0.001)


def test_many_stalling_runs_in_a_row(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Back on probation, which is no sign of blocking; on the loop again after as many clean runs as ever."""
    with caplog.at_level(logging.INFO, "dspy_parallel"):
        for _ in range(STALLED_RUNS):
            assert world.placement.state == "loop"
            world.run(SHORT, STALL, SHORT)
        assert world.placement.state == "loop"  # the first one has only made us look
        world.run(STALL)
    assert (world.placement.state, world.placement.signs) == ("probation", 0)
    assert "stalled for 0.05 s, as in 20 runs in a row; it is on probation" in caplog.text
    assert world.placement.reason.startswith("stalled for 0.05 s")
    for _ in range(placements.CLEAN_RUNS):
        assert world.placement.state == "probation"
        world.placement.ran_clean(0)
    assert world.placement.state == "loop"


@pytest.mark.parametrize("between", ["short", "computes", "busy machine"])
def test_a_run_between_that_does_not_stall(world: World, between: str) -> None:
    for _ in range(5):
        for _ in range(STALLED_RUNS):
            world.run(STALL)
        if between == "short":
            world.run(SHORT)
        elif between == "computes":
            world.run((0.05, 0.02))
        else:
            world.punctual = False
            world.run(STALL)
            world.punctual = True
    assert world.placement.state == "loop"


def test_a_sign_meanwhile(world: World) -> None:
    """Runs that were under way at the last sign do not count."""
    runs = [LoopMeter(world.placement) for _ in range(3 * STALLED_RUNS)]
    world.placement.suspected = True
    world.placement.blocked(0, "blocks")
    world.placement.state = "loop"
    for meter in runs:
        meter.begin()
        world.pass_time(*STALL)
        meter.end()
        meter.finished()
    assert world.placement.state == "loop"


def test_a_program_inside_is_blamed_for_itself(world: World) -> None:
    outer, inner = Placement("outer", state="loop"), world.placement
    for _ in range(STALLED_RUNS + 1):
        around, within = LoopMeter(outer), LoopMeter(inner)
        around.begin()
        within.begin()
        world.pass_time(*STALL)
        within.end()
        around.end()
        within.finished()
        around.finished()
    assert (outer.state, inner.state) == ("loop", "probation")


def test_the_cpu_clock_is_only_read_on_suspicion(world: World) -> None:
    """It costs a system call."""
    for _ in range(10):
        world.run(SHORT, SHORT)
    assert world.cpu_readings == 0
    world.run(STALL)
    world.run(SHORT)
    assert world.cpu_readings == 1
    world.run(SHORT)
    assert world.cpu_readings == 1


def test_punctuality() -> None:
    """Of the thread that watches: a late tick, or one that is late now, says that the machine is busy."""
    watch, now = stretches._Watch(), time.perf_counter()
    watch._asleep = now
    assert watch.was_on_time(now)
    watch._late = now
    assert not watch.was_on_time(now - 0.01)
    assert watch.was_on_time(now + 0.01)
    watch._asleep = now - stretches.TICK_SECONDS - 2 * stretches.LATE_SECONDS
    assert not watch.was_on_time(now + 0.01)


def test_a_program_that_begins_to_block_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """For too short a time to be a sign."""
    monkeypatch.setattr(placements, "STALLED_RUNS", 3)
    blocking = False

    def program() -> threading.Thread:
        await_(answer())
        if blocking:
            block(0.04)
        return threading.current_thread()

    async def main() -> None:
        nonlocal blocking
        await until("loop", program)
        blocking = True
        await until("probation", program)
        assert placement_of(program).reason.startswith("stalled for ")
        assert await run(program) is not threading.current_thread()
        blocking = False
        await until("loop", program)

    _, seen = recorded(main)
    assert not seen
    assert placement_of(program).signs == 0


def test_a_long_wait_does_not_end_the_watching(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody watches while nothing runs; what blocks afterwards is seen all the same."""
    monkeypatch.setattr(stretches, "QUIET_TICKS", 2)

    async def tell_when_quiet(gate: asyncio.Event) -> None:
        while stretches._watch._running:
            await asyncio.sleep(0.01)
        gate.set()

    def program(gate: asyncio.Event) -> None:
        await_(gate.wait())
        block()

    async def main() -> None:
        for _ in range(20):
            placement_of(program).state = "loop"
            gate = asyncio.Event()
            await asyncio.gather(run(program, gate), tell_when_quiet(gate))
            if placement_of(program).signs:
                break
        assert placement_of(program).signs == 1

    asyncio.run(main())
