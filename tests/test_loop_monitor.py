"""What holds up a loop is found with its line; what runs on time, or only seems late, is not. No clock here is real."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from dspy_parallel.loop_monitor import LONG_SECONDS, LOOK_SECONDS, BlockedSlice, LoopMonitor


class Clock:
    """Stands still unless it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Held:
    """A loop in a thread of its own, which stops in each of the functions, and a monitor that looks when it is told."""

    def __init__(self, *functions: Callable[[Held], None]) -> None:
        self.clock = Clock()
        self.found: list[tuple[str, int, float]] = []
        self.monitor = LoopMonitor(self._found, clock=self.clock)
        self.entered, self.released = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main(functions)))
        self._thread.start()

    def _found(self, found: BlockedSlice, frame: FrameType) -> None:
        self.found.append((frame.f_code.co_name, found.line, round(found.end - found.start, 3)))

    async def _main(self, functions: Any) -> None:
        self.monitor.add(asyncio.get_running_loop())
        for function in functions:
            function(self)

    def reached(self) -> None:
        """Wait until the loop has stopped."""
        assert self.entered.acquire(timeout=100)

    def release(self) -> None:
        self.released.release()

    def look(self, *after: float) -> None:
        for seconds in after:
            self.clock.now += seconds
            self.monitor.look()

    def look_each_time(self, times: int) -> None:
        """Look once whenever it holds up the loop, so often, and wait until it does so again."""
        for _ in range(times):
            self.reached()
            self.look(LOOK_SECONDS)
            self.release()
        self.reached()

    def ended(self) -> list[tuple[str, int, float]]:
        self.release()
        self._thread.join()
        self.look(LOOK_SECONDS)
        return self.found


def hold(held: Held) -> None:
    held.entered.release()
    assert held.released.acquire(timeout=100)  # the line that is to be named


def hold_elsewhere(held: Held) -> None:
    held.entered.release()
    assert held.released.acquire(timeout=100)


LINE = inspect.getsourcelines(hold)[1] + 2


def test_one_call_that_holds_up_the_loop_is_named() -> None:
    held = Held(lambda held: (hold(held), hold_elsewhere(held)))
    held.reached()
    held.look(*[LOOK_SECONDS] * 5)
    (probe,) = held.monitor._probes.values()
    assert held.monitor.where(probe.loop) == (__file__, LINE)
    held.release()
    held.reached()
    held.look(LOOK_SECONDS)
    assert held.found == [("hold", LINE, 0.125)]  # asked in the first look; over in the sixth, where another is seen
    assert held.ended() == [("hold", LINE, 0.125)]


def test_less_than_the_threshold_is_left_alone() -> None:
    held = Held(hold)
    held.reached()
    held.look(LOOK_SECONDS, LOOK_SECONDS)
    assert held.monitor._probes
    assert LONG_SECONDS <= 2 * LOOK_SECONDS
    assert held.ended() == []  # seen once


def test_many_short_calls_are_not_one() -> None:
    held = Held(*[hold, hold_elsewhere] * 3)
    held.look_each_time(5)
    assert held.ended() == []


def test_a_look_that_comes_late_says_nothing() -> None:
    """The machine is busy, or suspended: the monitor itself got no CPU."""
    held = Held(hold)
    held.reached()
    held.look(*[1.0] * 5)
    assert held.ended() == []


def test_it_says_something_if_the_loop_was_at_work_meanwhile() -> None:
    """Code that holds the GIL keeps the monitor from looking in time."""

    def compute(held: Held) -> None:
        for _ in range(4):
            held.entered.release()
            held.released.acquire()
            until = time.thread_time() + LOOK_SECONDS
            while time.thread_time() < until:
                pass
        held.entered.release()
        held.released.acquire()

    if not hasattr(time, "pthread_getcpuclockid"):
        pytest.skip("threads cannot be asked for their CPU time")
    held = Held(compute)
    for _ in range(4):
        held.reached()
        held.look(1.0)
        held.release()
    held.reached()
    held.look(1.0)
    (found,) = held.ended()
    assert found[0] == "compute"


def test_a_loop_that_answers_is_not_held_up() -> None:
    """The same function at each look, but the loop had its turn in between."""
    held: Any = None

    async def main() -> None:
        held.monitor.add(asyncio.get_running_loop())
        for _ in range(6):
            held.entered.release()
            held.released.acquire()
            await asyncio.sleep(0)

    class Turning(Held):
        _main = staticmethod(lambda functions: main())  # type: ignore[assignment]

        def __init__(self) -> None:
            nonlocal held
            held = self
            super().__init__()

    Turning()
    held.look_each_time(5)
    assert held.ended() == []


def test_its_thread_ends_with_it() -> None:
    def threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "dspy-parallel-monitor"} - before

    async def main() -> None:
        monitor = LoopMonitor()
        monitor.watch(asyncio.get_running_loop())
        assert len(threads()) == 1
        monitor.stop()
        monitor.stop()

    before: set[threading.Thread] = set()
    before = threads()
    asyncio.run(main())
    assert threads() == set()
