"""A private pool of threads that grows with demand and shrinks when idle.

Not the event loop's default executor: DSPy's `LM.acall` itself hops through that one four times, so programs
that filled it while waiting for their LM would wait for themselves.

Stacks have the size that Python gives them. `threading.stack_size()` is the whole process's: between setting it and
setting it back, a thread of the user's may start, and crash in a deep recursion. What a thread does not use of its
stack costs address space only.

Threads wait without a time of the `time` module and without polling: a test of the user's may have patched it.

They are daemons, so that threading does not wait for idle ones, but at exit what they are at is waited for, as by a
`ThreadPoolExecutor`: a thread that is stopped in an import keeps the import lock, and a finalizer that imports waits
for it for good.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

__all__ = ["LoopExecutor", "WorkerPool", "job_of", "join_workers", "pool"]

IDLE_SECONDS = 5.0
"""How long a thread without work is kept."""
MOST_THREADS = "DSPY_PARALLEL_MAX_THREADS"
"""The environment variable with the ceiling; without it there is none."""

Job = Callable[[], None]


class _Worker(threading.Thread):
    def __init__(self, pool: WorkerPool, job: Job, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.pool = pool
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()  # None: no more
        self.jobs.put(job)

    def run(self) -> None:
        pool, job = self.pool, self.jobs.get()
        while True:
            if job is None:
                with pool._lock:
                    if self in pool._idle:
                        pool._idle.remove(self)
                        pool._alive -= 1
                        return
                job = self.jobs.get()  # somebody took this thread at the last moment
                continue
            job()
            job = None  # an idle thread must not keep a finished program alive
            with pool._lock:
                if pool._waiting:
                    job = pool._waiting.popleft()
                    continue
                pool._idle.append(self)
            with contextlib.suppress(queue.Empty):
                job = self.jobs.get(timeout=IDLE_SECONDS)


def join_workers() -> None:
    """Wait until the workers have done what they have been given; idle ones leave."""
    workers = [thread for thread in threading.enumerate() if type(thread) is _Worker]
    for worker in workers:
        worker.jobs.put(None)
    for worker in workers:
        worker.join()


class WorkerPool:
    """Hands each job to an idle thread, or to a new one. Jobs must not raise.

    At the ceiling, jobs wait for a thread in the order in which they came. Those that programs in threads have started,
    and wait for, do not wait: if all threads were held by such programs, none would ever be free. So the ceiling is for
    programs side by side, not for those inside each other. (Programs that wait for each other at a barrier need as many
    threads as they are, as with any pool.)
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.forget()

    def forget(self) -> None:
        """Start anew, in a forked process: threads exist only in its parent."""
        self._idle: list[_Worker] = []
        self._waiting: deque[Job] = deque()
        self._lock = threading.Lock()
        self._alive = self._started = 0

    def submit(self, job: Job, *, may_wait: bool = True) -> None:
        """Run the job in a thread of its own, at once if the ceiling allows, or if it must not wait.

        Raises:
            RuntimeError: If the system gives no thread, and there is none whose end could be waited for.
        """
        with self._lock:
            if self._idle:
                self._idle.pop().jobs.put(job)  # the most recently used, so that others can leave
                return
            if may_wait and self.most is not None and self._alive >= self.most:
                self._waiting.append(job)
                return
            self._alive += 1
            self._started += 1
            name = f"dspy-parallel-{self._started}"
        try:
            _Worker(self, job, name).start()
        except RuntimeError:  # that is a ceiling, too
            with self._lock:
                self._alive -= 1
                if not may_wait or self._alive == 0:
                    raise
                if self._idle:  # since a moment ago
                    self._idle.pop().jobs.put(job)
                else:
                    self._waiting.append(job)


pool = WorkerPool(int(os.environ.get(MOST_THREADS) or 0) or None)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.forget)


def job_of(future: Future[Any], call: Callable[[], Any]) -> Job:
    """A job that makes a call and has the future say what came of it."""

    def job() -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except BaseException as exc:
                future.set_exception(exc)

    return job


class LoopExecutor(ThreadPoolExecutor):
    """The default executor of the loop that serves sync callers.

    asyncio's own refuses work as soon as the main thread has ended (`threading._register_atexit`), while threads that
    outlive it, and functions registered with `atexit`, still make LM calls. A subclass, because
    `set_default_executor()` takes no other class.
    """

    def __init__(self) -> None:
        super().__init__(1)  # which starts no thread
        self._pool = WorkerPool(min(32, (os.cpu_count() or 1) + 4))  # as many as asyncio's

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have the call made."""
        future: Future[Any] = Future()
        job = job_of(future, lambda: fn(*args, **kwargs))
        try:
            self._pool.submit(job)
        except RuntimeError:  # Python 3.12 starts no thread once the main thread has ended
            job()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """It ends with the process."""
