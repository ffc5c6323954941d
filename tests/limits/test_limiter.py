"""The queue before an LM: order, threads and loops together, cancellation, and queues that people leave."""

from __future__ import annotations

import asyncio
import gc
import heapq
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from dspy_parallel.limits.limiter import Limiter, Rate, TurnedAwayError
from tests.limits.programs import until
from tests.support.gates import Gate
from tests.support.virtual_alarm import VirtualAlarm

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualAlarm:
    """Time passes when the test says so."""
    virtual = VirtualAlarm()
    monkeypatch.setattr("dspy_parallel.limits.limiter.alarm", virtual)
    return virtual


async def settled() -> None:
    """Every task has come to where it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


def waiting_thread(limiter: Limiter, *args: Any, **kwargs: Any) -> Future[bool]:
    """A thread that has come to where it waits, and its outcome."""
    outcome: Future[bool] = Future()
    before = limiter.waiting

    def enter() -> None:
        try:
            outcome.set_result(limiter.enter_blocking(*args, **kwargs))
        except BaseException as exc:
            outcome.set_exception(exc)

    threading.Thread(target=enter, daemon=True).start()
    until(lambda: limiter.waiting > before or outcome.done())
    return outcome


def test_first_come_first_served(run_here: Callable[..., Any]) -> None:
    """The order in which calls come is the one in which they go in."""

    async def main() -> list[int]:
        gate, order = Limiter(3, None), []

        async def call(number: int) -> None:
            await gate.enter(gate.number())
            order.append(number)
            await asyncio.sleep(0)
            gate.leave("success", 0.0)

        await asyncio.gather(*(call(n) for n in range(200)))
        assert (gate.in_flight, gate.waiting) == (0, 0)
        return order

    assert run_here(main) == list(range(200))


def test_who_queues_again_keeps_the_place() -> None:
    """An early number goes before those that came while it was inside."""

    async def main() -> list[str]:
        gate, order = Limiter(1, None), []
        first = gate.number()
        await gate.enter(first)

        async def call(name: str, number: int) -> None:
            await gate.enter(number)
            order.append(name)
            gate.leave("success", 0.0)

        late = [asyncio.create_task(call(f"late {n}", gate.number())) for n in range(3)]
        await asyncio.sleep(0)
        again = asyncio.create_task(call("again", first))
        await asyncio.sleep(0)
        gate.leave("refused", 0.0)
        await asyncio.gather(again, *late)
        return order

    assert asyncio.run(main()) == ["again", "late 0", "late 1", "late 2"]


def test_threads_and_loops_share_it() -> None:
    """Several loops and plain threads at once: as many inside as allowed and never more, and all come through."""
    gate, inside, most, done = Limiter(4, None), 0, 0, 0
    lock, full = threading.Lock(), Gate()

    def enter() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            if inside == 4:
                full.set()

    def leave() -> None:
        nonlocal inside, done
        with lock:
            inside -= 1
            done += 1
        gate.leave("success", 0.0)

    async def task() -> None:
        await gate.enter(gate.number())
        enter()
        await full.passed()
        await asyncio.sleep(0.001)
        leave()

    async def many() -> None:
        await asyncio.gather(*(task() for _ in range(100)))

    def thread() -> None:
        for _ in range(20):
            gate.enter_blocking(gate.number())
            enter()
            assert full.wait(60)
            leave()

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(3)]
    threads += [threading.Thread(target=thread) for _ in range(5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert (done, most, gate.in_flight, gate.waiting) == (400, 4, 0, 0)


def test_cancelled_while_waiting(run_here: Callable[..., Any]) -> None:
    """It leaves the queue, and gives back a place that it got in the same moment."""

    async def main() -> None:
        gate = Limiter(1, None)
        await gate.enter(gate.number())
        waiting = [asyncio.create_task(gate.enter(gate.number())) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert gate.waiting == 3
        waiting[0].cancel()
        gate.leave("success", 0.0)  # to whom? the first has not yet heard that it is cancelled
        waiting[1].cancel()
        await asyncio.gather(*waiting[:2], return_exceptions=True)
        assert await waiting[2]
        assert (gate.in_flight, gate.waiting) == (1, 0)
        gate.leave("success", 0.0)

    run_here(main)


def test_time_is_up(clock: VirtualAlarm) -> None:
    """Both kinds of waiting end in time, out of the queue."""
    gate = Limiter(1, None)
    assert gate.enter_blocking(gate.number())
    blocked = waiting_thread(gate, gate.number(), 30)
    until(lambda: clock.next is not None)

    async def main() -> bool:
        task = asyncio.create_task(gate.enter(gate.number(), 20))
        await settled()
        clock.advance(20)
        return await task

    assert not asyncio.run(main())
    assert not blocked.done()
    clock.advance(10)
    assert not blocked.result(60)
    assert (gate.in_flight, gate.waiting, clock.next) == (1, 0, None)


def test_a_pause_holds_everyone_and_ends_by_itself(run_here: Callable[..., Any], clock: VirtualAlarm) -> None:
    """Nobody has to come by for it to end, for tasks as for threads; a longer pause meanwhile counts."""

    async def main() -> None:
        gate = Limiter(5, None)
        gate.pause_for(5)
        thread = waiting_thread(gate, gate.number())
        tasks = [asyncio.create_task(gate.enter(gate.number())) for _ in range(4)]
        await settled()
        gate.pause_for(20)
        clock.advance(19.9)
        await settled()
        assert not any(each.done() for each in (thread, *tasks))
        assert (gate.in_flight, round(gate.pause, 3)) == (0, 0.1)
        clock.advance(0.2)
        assert all(await asyncio.gather(*tasks))
        assert await asyncio.wrap_future(thread)
        assert (gate.in_flight, gate.pause, clock.next) == (5, 0, None)

    run_here(main)


def test_who_comes_first_may_leave_before_the_pause_is_over(clock: VirtualAlarm) -> None:
    """It is not for those who wait to look again."""

    async def main() -> None:
        gate = Limiter(5, None)
        gate.pause_for(1)
        first, second = (asyncio.create_task(gate.enter(gate.number())) for _ in range(2))
        await settled()
        first.cancel()
        await settled()
        clock.advance(1)
        assert await second

    asyncio.run(main())


def test_rate(clock: VirtualAlarm) -> None:
    """Two at once, then evenly: one in 50 ms."""
    gate, times = Limiter(None, Rate(1200)), []

    async def call() -> None:
        await gate.enter(gate.number())
        times.append(clock.time - 1000)
        gate.leave("success", 0.0)

    async def main() -> None:
        tasks = [asyncio.create_task(call()) for _ in range(12)]
        await settled()
        while clock.next is not None:
            clock.advance(clock.next + 1e-9)
            await settled()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert times == pytest.approx([0, 0, *(60 / 1199 * n for n in range(1, 11))], abs=1e-6)


@pytest.mark.parametrize("per_minute", [1, 2, 7, 60, 100, 3000])
def test_no_minute_sees_more_than_asked(per_minute: int, clock: VirtualAlarm) -> None:
    """In every window of 60 seconds."""
    rate, times = Rate(per_minute), []
    while clock.time < 1000 + 200:
        if wait := rate.take():
            clock.advance(wait + 1e-6)
        else:
            times.append(clock.time)
    windows = [sum(start <= t < start + 60 for t in times) for start in times[:: max(1, len(times) // 200)]]
    assert max(windows) <= per_minute
    assert len(times) >= 0.95 * per_minute * 200 / 60 - 1


def test_a_loop_that_is_gone_holds_nobody_up() -> None:
    """Neither one that was closed with its tasks nor one that has merely stopped."""
    gate = Limiter(1, None)
    assert gate.enter_blocking(gate.number())
    loops = [asyncio.new_event_loop(), asyncio.new_event_loop()]
    tasks = []
    for loop in loops:
        tasks.append(loop.create_task(gate.enter(gate.number())))
        loop.run_until_complete(asyncio.sleep(0))
    closed, stopped = loops
    assert gate.waiting == 2
    closed._ready.clear()  # type: ignore[attr-defined]
    closed.close()
    gate.leave("success", 0.0)
    assert gate.enter_blocking(gate.number(), 5), "held up by a loop that does not run"
    gate.leave("success", 0.0)
    assert stopped.run_until_complete(asyncio.wait_for(tasks[1], 60)), "forgotten when it ran again"
    gate.leave("success", 0.0)
    stopped.close()
    tasks[0].cancel = lambda *_: False  # type: ignore[method-assign]
    tasks[0]._log_destroy_pending = False  # type: ignore[attr-defined]
    del tasks, closed, stopped, loop, loops
    gc.collect()
    assert (gate.in_flight, gate.waiting) == (0, 0)


def test_a_loop_that_has_stopped_holds_up_neither_threads_nor_other_loops(clock: VirtualAlarm) -> None:
    """Its task was the first to wait for the end of the pause, and takes its place when it goes on."""
    gate = Limiter(5, None)
    gate.pause_for(1)
    stopped = asyncio.new_event_loop()
    task = stopped.create_task(gate.enter(gate.number()))
    stopped.run_until_complete(settled())
    threads = [waiting_thread(gate, gate.number(), needs_room=needs_room) for needs_room in (False, True)]

    async def main() -> bool:
        task = asyncio.create_task(gate.enter(gate.number()))
        await settled()
        clock.advance(1)
        return await task

    assert asyncio.run(main())
    assert [each.result(60) for each in threads] == [True, True]
    assert gate.waiting == 1
    assert stopped.run_until_complete(asyncio.wait_for(task, 60))
    stopped.close()


def test_a_blocked_loop_waits_for_no_room(clock: VirtualAlarm) -> None:
    """For pauses and the rate it does; in its turn, as others in theirs."""
    gate = Limiter(1, Rate(600))
    assert gate.enter_blocking(gate.number())
    gate.pause_for(1)
    entered = [waiting_thread(gate, gate.number(), needs_room=False) for _ in range(3)]
    for done in range(3):
        assert [each.done() for each in entered] == [True] * done + [False] * (3 - done)
        assert clock.next is not None
        clock.advance(clock.next + 1e-9)
        assert entered[done].result(60)
    assert clock.time >= 1001.2
    gate.pause_for(3600)
    impatient = waiting_thread(gate, gate.number(), 10, needs_room=False)
    until(lambda: clock.next is not None and clock.next <= 10)
    clock.advance(10)
    assert not impatient.result(60)
    assert (gate.in_flight, gate.waiting) == (4, 0)


def test_a_blocked_loop_lets_those_pass_that_have_come_before(clock: VirtualAlarm) -> None:
    """A call that is refused again and again has ever higher numbers; it keeps nobody out."""
    gate = Limiter(1, None)
    gate.pause_for(1)
    entered = [waiting_thread(gate, 7, needs_room=False), waiting_thread(gate, 3)]
    clock.advance(1)
    assert [each.result(60) for each in entered] == [True, True]
    assert gate.in_flight == 2


def test_to_leave_from_the_middle_costs_no_more_than_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the whole queue each time."""
    rebuilt: list[int] = []
    heapify = heapq.heapify
    monkeypatch.setattr("heapq.heapify", lambda heap: (rebuilt.append(len(heap)), heapify(heap)))
    gate, count = Limiter(1, None), 2000

    async def main() -> None:
        await gate.enter(gate.number())
        waiting = [asyncio.create_task(gate.enter(gate.number())) for _ in range(count)]
        await asyncio.sleep(0)
        assert gate.waiting == count
        for task in waiting[::2] + waiting[1:-1:2]:
            task.cancel()
        await asyncio.wait(waiting[:-1])
        assert gate.waiting == 1
        assert sum(rebuilt) <= 2 * count
        gate.leave("success", 0.0)
        assert await waiting[-1]

    asyncio.run(main())


@pytest.mark.parametrize("answered", [False, True])
def test_who_waits_in_vain_is_turned_away(answered: bool, run_here: Callable[..., Any], clock: VirtualAlarm) -> None:
    """Asked again after a pause, the provider names a far time again, and has answered nobody since the first."""

    async def main() -> None:
        gate, refusal = Limiter(1, None), ValueError("no")

        def refuse(sent_at: float) -> None:
            gate.turn_away(refusal, sent_at, wait=3600, patience=10)
            gate.pause_for(10)

        sent_at = clock.time
        await gate.enter(gate.number())
        waiting = [asyncio.create_task(gate.enter(gate.number())) for _ in range(3)]
        await settled()
        refuse(sent_at)  # the first time
        refuse(sent_at)  # of the same moment: it was sent before the pause
        gate.leave("refused", sent_at)
        clock.advance(10)
        assert await waiting[0]
        assert gate.waiting == 2
        if answered:
            gate.leave("success", clock.time)
            await waiting[1]
        refuse(clock.time)
        gate.leave("refused", clock.time)
        if answered:
            clock.advance(10)
            assert await waiting[2]
        else:
            for each in waiting[1:]:
                with pytest.raises(TurnedAwayError) as caught:
                    await each
                assert caught.value.refusal is refusal
        assert gate.waiting == 0

    run_here(main)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_empty() -> None:
    """The parent's calls will never leave there."""
    gate = Limiter(1, None)
    assert gate.enter_blocking(gate.number())
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if gate.enter_blocking(gate.number(), 5) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert gate.in_flight == 1
