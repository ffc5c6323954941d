"""A crowd of programs begins over several turns of the loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from dspy_parallel.bridge import await_, start_pace
from tests.bridge.programs import run

from .waiting import cancelled, ticks

PER_TURN = 5
CROWD = 50 * PER_TURN + 3


class Clock:
    """Time passes only where a program computes."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def compute(self, seconds: float = start_pace.SECONDS_PER_TURN / PER_TURN) -> None:
        self.now += seconds * 1.0001  # a bit more than so many fit in


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(start_pace, "time", made)
    return made


def noting(clock: Clock) -> tuple[list[int], Callable[[int], None]]:
    """A program that computes once it begins, and the numbers of those that have begun."""
    begun: list[int] = []

    def program(number: int) -> None:
        clock.compute()
        begun.append(number)

    return begun, program


def crowd_of(program: Callable[[int], None]) -> list[asyncio.Future[None]]:
    return [asyncio.ensure_future(run(program, number, engine="loop")) for number in range(CROWD)]


@pytest.mark.parametrize("engine", ["loop", "unpinned", "thread"])
async def test_in_order_and_a_few_in_each_turn(engine, clock):
    turn, begun = 0, []

    def program(number):
        clock.compute()
        begun.append((number, turn))
        await_(asyncio.sleep(0))
        return number

    everything = asyncio.gather(*(run(program, number, engine=engine) for number in range(CROWD)))
    while not everything.done():
        await asyncio.sleep(0)
        turn += 1
    assert everything.result() == list(range(CROWD))
    assert len(begun) == CROWD
    if engine == "loop":  # threads begin when they like
        assert begun == sorted(begun)
        assert max(Counter(turn for _, turn in begun).values()) <= PER_TURN


async def test_those_that_compute_for_long_have_a_turn_each(clock):
    """So that one that does not is followed by two at most."""
    turn, begun = 0, []

    def program(seconds):
        clock.compute(seconds)
        begun.append(turn)

    everything = asyncio.gather(*(run(program, seconds, engine="loop") for seconds in (1, 1, 1, 0, 1, 1, 1)))
    while not everything.done():
        await asyncio.sleep(0)
        turn += 1
    assert sorted(Counter(begun).values()) == [1, 1, 1, 1, 1, 2]


async def test_a_late_one_does_not_overtake_those_that_wait(clock):
    begun, program = noting(clock)
    tasks = crowd_of(program)
    while len(begun) < CROWD:
        await asyncio.sleep(0)
        if len(tasks) == CROWD:
            tasks.append(asyncio.ensure_future(run(program, CROWD, engine="loop")))
    await asyncio.gather(*tasks)
    assert begun == list(range(CROWD + 1))


async def test_one_begins_at_once(clock):
    """In the first step of its task, also if the one before has taken long."""
    for _ in range(3 * PER_TURN):
        began = clock.now
        task = asyncio.ensure_future(run(clock.compute, 1.0, engine="loop"))
        await asyncio.sleep(0)
        assert clock.now > began
        await task


async def test_those_that_are_cancelled_meanwhile_never_begin(clock):
    begun, program = noting(clock)
    tasks = crowd_of(program)
    await ticks(1)
    dropped = tasks[PER_TURN + 1 :: 2]
    for task in dropped:
        task.cancel()
    for task in dropped:
        await cancelled(task)
    await asyncio.gather(*(task for task in tasks if task not in dropped))
    kept = [number for number in range(CROWD) if tasks[number] not in dropped]
    assert begun == kept


async def test_programs_of_a_program_are_not_held_up(clock):
    """The outer one has had its turn."""

    def program():
        for number in range(3 * PER_TURN):
            clock.compute()
            assert await_(run(lambda number=number: number, engine="loop")) == number

    task = asyncio.ensure_future(run(program, engine="loop"))
    await asyncio.sleep(0)
    assert task.done()


def test_each_loop_has_turns_of_its_own(clock):
    """Also if the one before was closed while programs waited for their turn."""

    async def crowd(last):
        begun, program = noting(clock)
        tasks = crowd_of(program)
        await ticks(1)
        assert len(begun) == PER_TURN
        if last:
            await asyncio.gather(*tasks)
        return begun

    assert asyncio.run(crowd(last=False)) == list(range(PER_TURN))
    assert asyncio.run(crowd(last=True)) == list(range(CROWD))
