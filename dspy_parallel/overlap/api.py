"""Where overlap meets the rest: a `forward()`, or any function, that runs with a scout ahead.

The scout is imported when it is first needed.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

from .. import bridge
from ..errors import check_callable
from ..placement import Engine

__all__ = ["GRAPHS", "EndedRun", "overlapped", "overlapping", "start", "start_sync"]


P = ParamSpec("P")
T = TypeVar("T")


class EndedRun(NamedTuple):
    """A run of which `explain()` reports, with its session, the reasons of its scouts, and what it has raised."""

    session: Any
    reasons: list[Any]
    exception: BaseException | None


GRAPHS: list[Callable[..., EndedRun | None]] = []
"""For `explain()`: each runs a graph of its kind with what it is given, and returns None for anything else."""


async def start(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], engine: Engine) -> Any:
    """`programs.start()`, with a scout ahead."""
    from .runner import run_ahead

    return await run_ahead(fn, args, kwargs, engine)


def start_sync(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], engine: Engine) -> Any:
    """The same for sync code: on the running program's loop, or on the one that serves sync callers."""
    from .runner import is_worth_it

    if is_inside() or not is_worth_it(fn):
        return fn(*args, **kwargs)

    async def program() -> Any:
        return await start(fn, args, kwargs, engine)

    if engine == "auto" and not bridge.is_on_loop():
        engine = "thread"  # the caller's, which waits for it
    return bridge.run_plainly(program)


def overlapped(fn: Callable[P, T], /) -> Callable[P, T]:
    """Make a plain function's independent predictor calls run at once.

    Called from sync code, the function runs on the event loop that serves sync callers, see `run_sync()`; inside a
    bridged program it stays in it. `await run(fn, ..., overlap=True)` is the same for async code.

    Args:
        fn: A sync function that calls predictors.

    Returns:
        A function with the same signature and the same result.

    Raises:
        DecorationError: If `fn` cannot be called.

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
    check_callable(fn, "overlapped")

    @functools.wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        result: T = start_sync(fn, args, kwargs, "auto")
        return result

    call.__overlap_original__ = fn  # type: ignore[attr-defined]
    return call


def overlapping(forward: Callable[..., Any], engine: Engine, is_inherited: bool) -> Callable[..., Any]:
    """A `forward()` that runs with a scout ahead, and leaves its mark for `acall()`."""

    @functools.wraps(forward)
    def overlapped(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return start_sync(functools.partial(forward, self), args, kwargs, engine)

    marks: Any = overlapped
    marks.__overlap_original__ = forward
    marks.__overlap_inherited__ = is_inherited
    marks.__overlap_start__ = start
    return overlapped


_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("dspy_parallel_overlap_inside", default=False)
is_inside = _inside.get
"""Whether the running code is part of a program that has a scout already."""


def enter() -> contextvars.Token[bool]:
    """From here on it has."""
    return _inside.set(True)


leave = _inside.reset
