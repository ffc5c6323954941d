"""A private pool of threads that grows with demand and shrinks when idle.

Not the event loop's default executor: DSPy's `LM.acall` itself hops through that one four times, so programs
that filled it while waiting for their LM would wait for themselves. Not a bounded pool either: programs nest,
and nested work in one bounded pool starves.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable

__all__ = ["WorkerPool", "pool"]

IDLE_SECONDS = 5.0
"""How long a thread without work is kept."""


class _Worker:
    def __init__(self, owner: WorkerPool, number: int) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._owner = owner
        self.thread = threading.Thread(target=self._work, name=f"dspy-parallel-{number}", daemon=True)

    def _work(self) -> None:
        while True:
            try:
                job = self.jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                if self._owner.retire(self):
                    return
                continue  # somebody took this worker at the last moment: its job is in the queue
            job()
            del job  # an idle thread must not keep a finished program alive
            self._owner.put_back(self)


class WorkerPool:
    """Hands each job to an idle thread, or to a new one. Jobs must not raise."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._idle: deque[_Worker] = deque()
        self._lock = threading.Lock()
        self._started = 0

    def submit(self, job: Callable[[], None]) -> None:
        """Run the job in a thread of its own, at once.

        Raises:
            RuntimeError: If the system gives no more threads.
        """
        with self._lock:
            worker = self._idle.pop() if self._idle else None  # the most recently used, so that others can retire
            self._started += worker is None
            number = self._started
        if worker is not None:
            worker.jobs.put(job)
        else:
            worker = _Worker(self, number)
            worker.jobs.put(job)  # first, so that the thread has no need to wait for it
            worker.thread.start()

    def put_back(self, worker: _Worker) -> None:
        """Have the worker ready for the next job."""
        with self._lock:
            self._idle.append(worker)

    def retire(self, worker: _Worker) -> bool:
        """Whether the idle worker may end, as nobody has taken it meanwhile."""
        with self._lock:
            try:
                self._idle.remove(worker)
            except ValueError:
                return False
            return True

    def after_fork(self) -> None:
        """Forget threads that exist only in the parent process."""
        self._reset()


pool = WorkerPool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.after_fork)
