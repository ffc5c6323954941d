"""Plain functions that call predictors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from .entrance import Overlap, start_sync

__all__ = ["overlapped"]

P = ParamSpec("P")
T = TypeVar("T")


def overlapped(fn: Callable[P, T], /) -> Callable[P, T]:
    """Make a plain function's independent predictor calls run at once.

    Called from sync code, the function runs on the event loop that serves sync callers, see `run_sync()`; inside a
    bridged program it stays in it. `await run(fn, ..., overlap=True)` is the same for async code.

    Args:
        fn: A sync function that calls predictors.

    Returns:
        A function with the same signature and the same result.

    Example:
        ```python
        import dspy
        from dspy.utils import DummyLM
        from dspy_parallel import overlapped

        answer = dspy.Predict("question -> answer")

        @overlapped
        def both(one, other):
            return [answer(question=one).answer, answer(question=other).answer]

        with dspy.context(lm=DummyLM([{"answer": "yes"}, {"answer": "no"}])):
            assert both("1?", "2?") == ["yes", "no"]
        ```
    """

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        result: T = start_sync(fn, args, kwargs, "auto", fn, Overlap())
        return result

    call.__overlap_original__ = fn  # type: ignore[attr-defined]
    return call
