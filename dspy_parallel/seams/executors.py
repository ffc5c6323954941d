"""Waiting for threads that somebody else has started: DSPy's own executor, and `concurrent.futures`.

The items of `dspy.Parallel` run in DSPy's threads, as many as the user asked for, and make their LM calls
there; only the waiting for them must not happen on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..bridge import call_in_thread
from .table import Seam, in_thread, register

__all__: list[str] = []


def _result(original: Callable[..., Any], future: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if future.done():
        return original(*args, **kwargs)
    return call_in_thread(original, args, kwargs, "it waits for a thread")


register(
    Seam("dspy.utils.parallelizer:ParallelExecutor.execute", in_thread("dspy.Parallel waits for its threads")),
    Seam("concurrent.futures._base:Future.result", _result),
    Seam("concurrent.futures._base:Future.exception", _result),
    Seam("concurrent.futures.thread:ThreadPoolExecutor.shutdown", in_thread("it waits for threads")),
)
