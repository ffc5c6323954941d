"""`engine="auto"` and locks held across an await."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest
import wrapt

from dspy_parallel.bridge import await_, placement_of, run
from dspy_parallel.bridge import placement as placements
from dspy_parallel.bridge.locks import held_locks
from dspy_parallel.bridge.placement import Placement

from .placing import answer, on_loop, recorded

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


class Proxy:
    """Hands all questions on, as wrapt's proxies do; one that it stands for has no attributes."""

    @property
    def __class__(self) -> Any:
        return type(self.wrapped)

    wrapped = len

    def __getattribute__(self, name: str) -> Any:
        return getattr(len, name)


def test_objects_that_lie_about_themselves_do_no_harm():
    proxy, patched = Proxy(), wrapt.FunctionWrapper(len, lambda wrapped, instance, args, kwargs: wrapped(*args))

    def program() -> Any:
        with LOCK:
            assert patched([proxy]) == 1
            return await_(answer())

    async def main() -> None:
        for _ in range(3):
            await run(program)

    _, seen = recorded(main)
    assert placement_of(program).state == "thread"
    assert "LOCK" in str(seen[0].message)


def test_held_lock_looks_at_the_frames_given():
    lock = threading.Lock()

    def outer():
        with lock:
            return inner()

    def inner():
        frame = sys._getframe()
        return held_locks(frame, None), held_locks(frame, frame.f_back)

    found, not_found = outer()
    assert {(held.lock, held.is_held) for held in found} == {(lock, False)}
    assert found[0].where.startswith("lock at ")
    assert found[0].where.endswith("in outer")
    assert not not_found


def test_how_often_it_is_looked_for_locks():
    """Of a crowd at one place, at a few; at each place so many times, and anew after a sign; on the loop, never."""
    placement = Placement("program")
    at_once = [placement.looks_at(1) for _ in range(2 * placements.LOOKS_AT_ONCE)]
    assert sum(at_once) == placements.LOOKS_AT_ONCE
    assert placement.looks_at(2)
    placement.no_longer_looks_at(2)
    for _ in range(placements.LOOKS_AT_ONCE):
        placement.no_longer_looks_at(1)
    for _ in range(placements.LOOKS - placements.LOOKS_AT_ONCE):
        assert placement.looks_at(1)
        placement.no_longer_looks_at(1)
    assert not placement.looks_at(1)
    placement.blocked(0, "blocks")
    assert placement.looks_at(1)
    placement.no_longer_looks_at(1)
    for place in range(3 * placements.MOST_PLACES):
        assert placement.looks_at(place)
        placement.no_longer_looks_at(place)
    assert len(placement._looks) <= placements.MOST_PLACES
    placement.state = "loop"
    assert not placement.looks_at(3)
