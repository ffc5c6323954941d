"""TaskPool: as many at a time as allowed, on the loop and in threads together; each lands once, whatever happens."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextvars import Context
from typing import Any

import pytest

from dspy_parallel import task_pool
from dspy_parallel.bridge import await_
from dspy_parallel.bridge.caller_thread import CallingThread
from dspy_parallel.placement import PINNED_TO_LOOP, PINNED_TO_THREAD
from dspy_parallel.task_pool import Job, TaskPool

pytestmark = pytest.mark.usefixtures("no_leaks")


def job(fn: Any, *args: Any, engine: str = "thread") -> Job:
    return Job(fn, args, {}, Context(), PINNED_TO_THREAD if engine == "thread" else PINNED_TO_LOOP)


class Landed:
    """What has become of jobs."""

    def __init__(self) -> None:
        self.results: dict[Job, Any] = {}
        self._changed = asyncio.Event()

    def __call__(self, landed: Job, result: Any, error: BaseException | None) -> None:
        assert landed not in self.results
        self.results[landed] = result if error is None else type(error)
        self._changed.set()

    async def of(self, *jobs: Job) -> list[Any]:
        while not all(each in self.results for each in jobs):
            self._changed.clear()
            await self._changed.wait()
        return [self.results[each] for each in jobs]


@pytest.mark.parametrize("engines", [("thread",), ("loop",), ("thread", "loop"), ("loop", "loop", "thread")])
async def test_as_many_at_a_time_as_allowed_and_all_of_them(engines: tuple[str, ...]) -> None:
    at_work, peak, lock = 0, 0, threading.Lock()

    def program(number: int) -> int:
        nonlocal at_work, peak
        with lock:
            at_work += 1
            peak = max(peak, at_work)
        await_(asyncio.sleep(0))
        with lock:
            at_work -= 1
        return number

    landed = Landed()
    pool = TaskPool(asyncio.get_running_loop(), 7, landed)
    jobs = [job(program, number, engine=engines[number % len(engines)]) for number in range(100)]
    for each in jobs:
        pool.submit(each)
    assert await landed.of(*jobs) == list(range(100))
    assert peak <= 7


@pytest.mark.parametrize("way", ["on the loop", "elsewhere"])
async def test_a_thread_goes_on_with_the_next(way: str) -> None:
    """In order, and without the loop, which is blocked here."""
    ran: list[tuple[int, threading.Thread]] = []
    done, first = threading.Event(), threading.Event()

    def program(number: int) -> None:
        if number == 0:
            assert first.wait(100)
        ran.append((number, threading.current_thread()))
        if number == 9:
            done.set()

    landed = Landed()
    pool = TaskPool(asyncio.get_running_loop(), 1, landed)
    jobs = [job(program, number) for number in range(10)]
    if way == "on the loop":
        for each in jobs:
            pool.submit(each)
        await asyncio.sleep(0)
    else:
        await asyncio.to_thread(lambda: [pool.submit(each) for each in jobs])
    first.set()
    assert done.wait(100)
    assert [number for number, _ in ran] == list(range(10))
    assert len({thread for _, thread in ran}) == 1
    await landed.of(*jobs)


async def test_cancelled_ones_that_wait_never_begin_and_those_at_work_hear_of_it_at_their_next_wait() -> None:
    began, entered, released = [], threading.Event(), threading.Event()

    def program(number: int) -> str:
        began.append(number)
        entered.set()
        assert released.wait(100)
        await_(asyncio.sleep(0))
        return "done"

    landed = Landed()
    pool = TaskPool(asyncio.get_running_loop(), 1, landed)
    jobs = [job(program, number) for number in range(5)]
    for each in jobs:
        pool.submit(each)
    await asyncio.to_thread(entered.wait)
    pool.cancel(lambda which: which is not jobs[3])
    assert await landed.of(jobs[1], jobs[2], jobs[4]) == [asyncio.CancelledError] * 3
    released.set()
    assert await landed.of(jobs[0], jobs[3]) == [asyncio.CancelledError, "done"]
    assert began == [0, 3]


async def test_cancelled_while_it_waits() -> None:
    waits = asyncio.Event()

    async def forever() -> None:
        waits.set()
        await asyncio.get_running_loop().create_future()

    landed = Landed()
    pool = TaskPool(asyncio.get_running_loop(), 1, landed)
    waiting = job(lambda: await_(forever()))
    pool.submit(waiting)
    await waits.wait()
    pool.cancel()
    assert await landed.of(waiting) == [asyncio.CancelledError]


async def test_cancelled_in_the_turn_in_which_it_begins_to_wait() -> None:
    """The task that is to await for it is cancelled before its first step; cleanup can wait nevertheless."""

    def program() -> None:
        assert turn.wait(100)
        try:
            await_(asyncio.Event().wait())
        finally:
            cleaned.append(await_(asyncio.sleep(0, "cleaned")))

    landed, cleaned, turn = Landed(), list[str](), threading.Event()
    pool = TaskPool(asyncio.get_running_loop(), 1, landed)
    await asyncio.to_thread(pool.submit, waiting := job(program))
    turn.set()
    while not pool._mailbox._calls:  # blocks the loop
        pass
    pool.cancel()
    assert await landed.of(waiting) == [asyncio.CancelledError]
    assert cleaned == ["cleaned"]


async def test_an_error_of_whoever_is_told_is_the_loops_business() -> None:
    """Others land."""
    loop, errors, landed = asyncio.get_running_loop(), [], Landed()
    loop.set_exception_handler(lambda _, context: errors.append(context["exception"]))

    def on_done(which: Job, result: Any, error: BaseException | None) -> None:
        if which is jobs[0]:
            raise KeyError("told")
        landed(which, result, error)

    pool = TaskPool(loop, 2, on_done)
    jobs = [job(lambda: 1, engine=engine) for engine in ("thread", "thread", "loop")]
    for each in jobs:
        pool.submit(each)
    assert await landed.of(*jobs[1:]) == [1, 1]
    while not errors:
        await asyncio.sleep(0)
    assert [type(error) for error in errors] == [KeyError]


async def test_a_crowd_of_threads_begins_over_several_turns_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making one takes time, and the loop has others to serve."""
    now = 0.0
    turn, begun, begin = 0, [], CallingThread.begin

    class Clock:
        @staticmethod
        def perf_counter() -> float:
            return now

    def take_time(*args: Any) -> None:
        nonlocal now
        now += task_pool.SECONDS_PER_TURN / 4.9
        begun.append(turn)
        begin(*args)

    monkeypatch.setattr(task_pool, "time", Clock)
    monkeypatch.setattr(CallingThread, "begin", take_time)
    landed, together = Landed(), threading.Barrier(20, timeout=100)
    pool = TaskPool(asyncio.get_running_loop(), 20, landed)
    jobs = [job(together.wait) for _ in range(20)]
    for each in jobs:
        pool.submit(each)
    while len(begun) < 20:
        await asyncio.sleep(0)
        turn += 1
    assert set(Counter(begun).values()) == {5}
    assert sorted(await landed.of(*jobs)) == list(range(20))


def test_what_still_runs_when_the_loop_closes_ends_quietly() -> None:
    entered, released, ended = threading.Event(), threading.Event(), threading.Event()

    def program() -> None:
        entered.set()
        assert released.wait(100)
        ended.set()

    async def main() -> None:
        pool = TaskPool(asyncio.get_running_loop(), 1, lambda *_: None)
        pool.submit(job(program))
        pool.submit(job(program))
        await asyncio.to_thread(entered.wait)

    asyncio.run(main())
    released.set()
    assert ended.wait(100)
