"""Code interpreters, which wait for a subprocess.

`PythonInterpreter` accepts calls from one thread only, the first that used it. Each gets a thread of its own,
whatever threads its callers run in; two programs that share an interpreter take turns there.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any

from ..bridge import await_, run_in_thread
from .table import Seam, in_thread, register

__all__: list[str] = []


class _OwnThread:
    """Runs an interpreter's jobs one after the other; ends with the interpreter."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._work, args=(self._jobs,), name="dspy-parallel-interpreter", daemon=True
        )
        self._thread.start()

    @staticmethod
    def _work(jobs: queue.SimpleQueue[Callable[[], None] | None]) -> None:
        while (job := jobs.get()) is not None:
            job()
            del job

    def submit(self, job: Callable[[], None]) -> None:
        self._jobs.put(job)

    @property
    def is_mine(self) -> bool:
        return threading.current_thread() is self._thread

    def __del__(self) -> None:
        self._jobs.put(None)


_threads: weakref.WeakKeyDictionary[Any, _OwnThread] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _on_own_thread(original: Callable[..., Any], interpreter: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _lock:
        thread = _threads.get(interpreter)
        if thread is None:
            thread = _threads[interpreter] = _OwnThread()
    if thread.is_mine:  # called by a tool that the interpreter called
        return original(*args, **kwargs)
    return await_(run_in_thread(original, args, kwargs, submit=thread.submit))


register(
    *(
        Seam(f"dspy.primitives.python_interpreter:PythonInterpreter.{method}", _on_own_thread, optional=True)
        for method in ("execute", "start", "shutdown")
    ),
    *(
        Seam(
            f"dspy.primitives.local_interpreter:LocalInterpreter.{method}",
            in_thread("the interpreter waits for its subprocess"),
            optional=True,
        )
        for method in ("execute", "start", "shutdown")
    ),
)
