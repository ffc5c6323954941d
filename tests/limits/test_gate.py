"""The queue before an LM: order, threads and loops together, cancellation, and queues that people leave."""

from __future__ import annotations

import asyncio
import gc
import heapq
import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest

from dspy_parallel.limits.gate import Gate, TurnedAwayError
from dspy_parallel.limits.rate import Rate

pytestmark = pytest.mark.usefixtures("no_leaks")


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def test_first_come_first_served(run_here: Callable[..., Any]) -> None:
    """The order in which calls come is the one in which they go in."""

    async def main() -> list[int]:
        gate, order = Gate(3, None), []

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
        gate, order = Gate(1, None), []
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
    """Several loops and plain threads at once: never more inside than allowed, and all come through."""
    gate, inside, most, done = Gate(4, None), 0, 0, 0
    lock = threading.Lock()

    def enter() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)

    def leave() -> None:
        nonlocal inside, done
        with lock:
            inside -= 1
            done += 1
        gate.leave("success", 0.0)

    async def task() -> None:
        await gate.enter(gate.number())
        enter()
        await asyncio.sleep(0.001)
        leave()

    async def many() -> None:
        await asyncio.gather(*(task() for _ in range(100)))

    def thread() -> None:
        for _ in range(20):
            gate.enter_blocking(gate.number())
            enter()
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
        gate = Gate(1, None)
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


def test_time_is_up() -> None:
    """Both kinds of waiting end in time, out of the queue."""
    gate = Gate(1, None)
    assert gate.enter_blocking(gate.number())
    assert not gate.enter_blocking(gate.number(), 0.01)
    assert not asyncio.run(gate.enter(gate.number(), 0.01))
    assert (gate.in_flight, gate.waiting) == (1, 0)


def test_a_pause_holds_everyone_and_ends_by_itself(run_here: Callable[..., Any]) -> None:
    """Nobody has to come by for it to end; a longer pause meanwhile counts."""

    async def main() -> float:
        gate, began = Gate(5, None), time.monotonic()
        gate.pause_for(0.05)
        waiting = [asyncio.create_task(gate.enter(gate.number())) for _ in range(5)]
        await asyncio.sleep(0)
        gate.pause_for(0.2)
        await asyncio.gather(*waiting)
        return time.monotonic() - began

    assert run_here(main) >= 0.19


def test_a_pause_ends_for_threads_too() -> None:
    """A blocked thread looks again by itself."""
    gate, began = Gate(5, None), time.monotonic()
    gate.pause_for(0.1)
    assert gate.enter_blocking(gate.number())
    assert time.monotonic() - began >= 0.09


def test_the_first_who_leaves_hands_on_the_bell() -> None:
    """If the one who was to look again is cancelled, the next does."""

    async def main() -> None:
        gate = Gate(5, None)
        gate.pause_for(0.1)
        first, second = (asyncio.create_task(gate.enter(gate.number())) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        assert await asyncio.wait_for(second, 5)

    asyncio.run(main())


def test_rate() -> None:
    """Two at once, then evenly: one in 50 ms."""
    gate = Gate(None, Rate(1200))

    async def main() -> list[float]:
        times = []

        async def call() -> None:
            await gate.enter(gate.number())
            times.append(time.monotonic())
            gate.leave("success", 0.0)

        await asyncio.gather(*(call() for _ in range(12)))
        return times

    times = asyncio.run(main())
    assert times[1] - times[0] < 0.04
    assert 0.45 < times[11] - times[1] < 1.5


@pytest.mark.parametrize("per_minute", [1, 2, 7, 60, 100, 3000])
def test_no_minute_sees_more_than_asked(per_minute: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock of the test's own: in every window of 60 seconds."""
    now = 1000.0
    monkeypatch.setattr("throttled.utils.now_mono_f", lambda: now)
    rate, times = Rate(per_minute), []
    while now < 1000 + 200:
        wait = rate.take()
        if wait:
            now += wait + 1e-6
        else:
            times.append(now)
    windows = [sum(start <= t < start + 60 for t in times) for start in times[:: max(1, len(times) // 200)]]
    assert max(windows) <= per_minute
    assert len(times) >= 0.95 * per_minute * 200 / 60 - 1


def test_a_loop_that_is_gone_holds_nobody_up() -> None:
    """Neither one that was closed with its tasks nor one that has merely stopped."""
    gate = Gate(1, None)
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
    assert stopped.run_until_complete(asyncio.wait_for(tasks[1], 5)), "forgotten when it ran again"
    gate.leave("success", 0.0)
    stopped.close()
    tasks[0].cancel = lambda *_: False  # type: ignore[method-assign]
    tasks[0]._log_destroy_pending = False  # type: ignore[attr-defined]
    del tasks, closed, stopped, loop, loops
    gc.collect()
    assert (gate.in_flight, gate.waiting) == (0, 0)


@pytest.mark.parametrize("needs_room", [False, True])
def test_a_thread_looks_again_by_itself(needs_room: bool) -> None:
    """The loop whose task was to look at the end of the pause stops before that."""
    gate = Gate(5, None)
    gate.pause_for(0.2)
    with stopped_loop_with_the_bell(gate):
        assert gate.enter_blocking(gate.number(), 20, needs_room=needs_room)


def test_a_loop_looks_again_by_itself() -> None:
    """The same for the tasks of another loop."""
    gate = Gate(5, None)
    gate.pause_for(0.2)
    with stopped_loop_with_the_bell(gate):
        assert asyncio.run(gate.enter(gate.number(), 20))


@contextmanager
def stopped_loop_with_the_bell(gate: Gate) -> Generator[None]:
    """A loop that stops when somebody has come after its task."""
    loop, started = asyncio.new_event_loop(), threading.Event()

    async def main() -> None:
        tasks.append(asyncio.create_task(gate.enter(gate.number())))
        await asyncio.sleep(0)
        started.set()
        while gate.waiting < 2:
            await asyncio.sleep(0.001)

    tasks: list[asyncio.Task[bool]] = []
    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    started.wait(20)
    yield
    thread.join()
    loop.run_until_complete(asyncio.wait_for(tasks[0], 20))
    loop.close()


def test_a_blocked_loop_waits_for_no_room() -> None:
    """For pauses and the rate it does; in its turn, as others in theirs."""
    gate, began = Gate(1, Rate(600)), time.monotonic()
    assert gate.enter_blocking(gate.number())
    gate.pause_for(0.1)
    for _ in range(3):
        assert gate.enter_blocking(gate.number(), needs_room=False)
    assert time.monotonic() - began >= 0.29
    gate.pause_for(3600)
    assert not gate.enter_blocking(gate.number(), 0.001, needs_room=False)
    assert (gate.in_flight, gate.waiting) == (4, 0)


def test_a_blocked_loop_lets_those_pass_that_have_come_before() -> None:
    """A call that is refused again and again has ever higher numbers; it keeps nobody out."""
    gate = Gate(1, None)
    gate.pause_for(0.1)
    threads = [
        threading.Thread(target=gate.enter_blocking, args=(7,), kwargs={"needs_room": False}),
        threading.Thread(target=gate.enter_blocking, args=(3,)),
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    assert gate.in_flight == 2


def test_to_leave_from_the_middle_costs_no_more_than_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the whole queue each time."""
    rebuilt: list[int] = []
    heapify = heapq.heapify
    monkeypatch.setattr("heapq.heapify", lambda heap: (rebuilt.append(len(heap)), heapify(heap)))
    gate, count = Gate(1, None), 2000

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
def test_who_waits_in_vain_is_turned_away(answered: bool, run_here: Callable[..., Any]) -> None:
    """Asked again after a pause, the provider names a far time again, and has answered nobody since the first."""

    async def main() -> None:
        gate, refusal = Gate(1, None), ValueError("no")

        def refuse(sent_at: float) -> None:
            gate.turn_away(refusal, sent_at, wait=3600, patience=0.1)
            gate.pause_for(0.1)

        sent_at = time.monotonic()
        await gate.enter(gate.number())
        waiting = [asyncio.create_task(gate.enter(gate.number())) for _ in range(3)]
        await asyncio.sleep(0)
        refuse(sent_at)  # the first time
        refuse(sent_at)  # of the same moment: it was sent before the pause
        gate.leave("refused", sent_at)
        assert await waiting[0]
        assert gate.waiting == 2
        if answered:
            gate.leave("success", time.monotonic())
            await waiting[1]
        refuse(time.monotonic())
        gate.leave("refused", time.monotonic())
        if answered:
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
    gate = Gate(1, None)
    assert gate.enter_blocking(gate.number())
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if gate.enter_blocking(gate.number(), 5) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert gate.in_flight == 1
