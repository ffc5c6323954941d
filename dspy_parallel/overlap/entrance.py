"""Where overlap meets the rest: a `forward()`, or any function, that runs with a scout ahead.

The scout is imported when it is first needed.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .. import bridge
from ..bridge import Engine

__all__ = ["Overlap", "converting", "is_wanted", "overlapping", "start", "start_sync"]


@dataclass(frozen=True)
class Overlap:
    """How far a scout may go.

    Attributes:
        speculate: Whether it may make calls on both sides of an undecided branch.
    """

    speculate: bool = False


async def start(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    engine: Engine,
    known_as: Any = None,
    *,
    how: Overlap = Overlap(),
) -> Any:
    """`bridge.start()`, with a scout ahead."""
    from .running import run_ahead

    return await run_ahead(fn, args, kwargs, engine, known_as, how)


def start_sync(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], engine: Engine, known_as: Any, how: Overlap
) -> Any:
    """The same for sync code: on the running program's loop, or on the one that serves sync callers."""
    from .worth import is_worth_it

    if is_inside() or not is_worth_it(fn):
        return fn(*args, **kwargs)

    async def program() -> Any:
        return await start(fn, args, kwargs, engine, known_as, how=how)

    return bridge.run_sync(program)


def overlapping(forward: Callable[..., Any], engine: Engine, how: Overlap, is_inherited: bool) -> Callable[..., Any]:
    """A `forward()` that runs with a scout ahead, and leaves its mark for `acall()`."""

    @functools.wraps(forward)
    def overlapped(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return start_sync(functools.partial(forward, self), args, kwargs, engine, type(self), how)

    marks: Any = overlapped
    marks.__overlap_original__ = forward
    marks.__overlap_inherited__ = is_inherited
    marks.__overlap_start__ = functools.partial(start, how=how)
    return overlapped


_inside: contextvars.ContextVar[bool] = contextvars.ContextVar("dspy_parallel_overlap_inside", default=False)
is_inside = _inside.get
"""Whether the running code is part of a program that has a scout already."""


def enter() -> contextvars.Token[bool]:
    """From here on it has."""
    return _inside.set(True)


leave = _inside.reset


_wanted: contextvars.ContextVar[bool] = contextvars.ContextVar("dspy_parallel_overlap_wanted", default=False)
is_wanted = _wanted.get
"""Whether what is being converted shall overlap."""


@contextmanager
def converting(*, overlap: bool) -> Generator[None]:
    """What is converted inside shall overlap, or not."""
    token = _wanted.set(overlap)
    try:
        yield
    finally:
        _wanted.reset(token)
