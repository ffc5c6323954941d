"""The pool of worker threads grows with what is asked for, up to the ceiling if there is one, and shrinks when idle."""

from __future__ import annotations

import asyncio
import gc
import queue
import threading
import weakref
from collections.abc import Callable

import pytest

from dspy_parallel import thread_pool
from dspy_parallel.bridge import await_, caller_thread
from dspy_parallel.thread_pool import LoopExecutor, WorkerPool
from tests.bridge.programs import run


class Job:
    """Is at work until it is released."""

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()
        self.thread: threading.Thread | None = None

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        self.begun.set()
        assert self.released.wait(100)

    def runs(self) -> bool:
        return self.begun.wait(100)


def own_pool(monkeypatch: pytest.MonkeyPatch, most: int | None = None) -> WorkerPool:
    """A new one in the place of the process's."""
    made = WorkerPool(most)
    monkeypatch.setattr(caller_thread, "pool", made)
    return made


def test_a_thousand_programs_at_once_from_the_first_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them must be waiting before any returns."""
    own_pool(monkeypatch)
    together = threading.Barrier(1000, timeout=100)

    async def main() -> None:
        await asyncio.gather(*(run(together.wait, engine="thread") for _ in range(1000)))

    asyncio.run(main())


def test_at_the_ceiling_jobs_wait_in_order() -> None:
    pool, ran = WorkerPool(2), []
    first, second = Job(), Job()
    pool.submit(first)
    pool.submit(second)
    assert first.runs()
    assert second.runs()
    done = threading.Event()
    for number in range(5):
        pool.submit(lambda number=number: ran.append((number, threading.current_thread())))
    pool.submit(done.set)
    assert ran == []
    first.released.set()
    assert done.wait(100)
    assert ran == [(number, first.thread) for number in range(5)]
    second.released.set()


def test_programs_inside_each_other_are_not_held_up_by_the_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would wait for a thread that waits for them."""
    own_pool(monkeypatch, most=1)

    def program(depth: int) -> int:
        if depth == 0:
            return 1

        async def both() -> list[int]:
            return await asyncio.gather(*(run(program, depth - 1, engine="thread") for _ in range(2)))

        return sum(await_(both()))

    async def main() -> list[int]:
        return await asyncio.gather(*(run(program, 3, engine="thread") for _ in range(3)))

    assert asyncio.run(asyncio.wait_for(main(), 100)) == [8, 8, 8]


def test_an_idle_thread_has_the_next_job_and_keeps_nothing_of_the_last() -> None:
    pool = WorkerPool()
    threads: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()

    class Watched:
        def __call__(self) -> None:
            threads.put(threading.current_thread())

    job = Watched()
    reference = weakref.ref(job)
    pool.submit(job)
    thread = threads.get(timeout=100)
    del job
    while not pool._idle:
        pass
    gc.collect()
    assert reference() is None
    pool.submit(Watched())
    assert threads.get(timeout=100) is thread


def test_idle_threads_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_pool, "IDLE_SECONDS", 0.0)
    pool, jobs = WorkerPool(), [Job() for _ in range(10)]
    for job in jobs:
        pool.submit(job)
    for job in jobs:
        assert job.runs()
        job.released.set()
    for job in jobs:
        assert job.thread is not None
        job.thread.join(100)
        assert not job.thread.is_alive()
    assert (pool._alive, pool._idle) == (0, [])


def test_a_thread_that_is_taken_as_it_leaves_does_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that come all the time, to threads that leave at once: each is done."""
    monkeypatch.setattr(thread_pool, "IDLE_SECONDS", 0.0)
    pool, done = WorkerPool(3), threading.Semaphore(0)
    for _ in range(2000):
        pool.submit(done.release)
    for _ in range(2000):
        assert done.acquire(timeout=100)


def no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


def test_if_the_system_gives_no_more_threads_jobs_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, first, second = WorkerPool(), Job(), Job()
    pool.submit(first)
    assert first.runs()
    no_more_threads(monkeypatch)
    pool.submit(second)
    with pytest.raises(RuntimeError, match="can't start"):
        pool.submit(second, may_wait=False)
    first.released.set()
    assert second.runs()
    assert second.thread is first.thread
    second.released.set()


def test_without_any_thread_work_is_done_where_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is in Python 3.12 once the main thread has ended."""
    pool = own_pool(monkeypatch)
    executor = LoopExecutor()
    no_more_threads(monkeypatch)
    with pytest.raises(RuntimeError, match="can't start"):
        pool.submit(Job())
    here: Callable[[], threading.Thread] = threading.current_thread
    assert executor.submit(here).result() is here()
    assert asyncio.run(run(here, engine="thread")) is here()


def test_the_executor_of_a_loop() -> None:
    executor = LoopExecutor()
    assert [executor.submit(divmod, n, 3).result(100) for n in range(9)] == [divmod(n, 3) for n in range(9)]
    with pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 1, 0).result(100)
    executor.shutdown()
    assert executor.submit(int, "3").result(100) == 3
