"""Classes of modules that `engine="auto"` takes for known, so that they run on the loop without being pinned to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

from dspy_parallel import programs
from dspy_parallel.placement import Placement

__all__ = ["known"]

_known: Counter[type] = Counter()
_decide: Any = vars(programs)["placement_for"]


def _placement_for(program: Callable[..., Any], *others: Any) -> Placement:
    fn: Any = program
    while isinstance(fn, partial):
        fn = type(fn.args[0]) if fn.args else fn.func
    owner = fn if isinstance(fn, type) else type(getattr(fn, "__self__", fn))
    return Placement("known", "loop") if _known[owner] else _decide(program, *others)


setattr(programs, "placement_for", _placement_for)  # noqa: B010


@contextmanager
def known(*classes: type) -> Generator[None]:
    """While the block runs, these belong on the loop."""
    _known.update(classes)
    try:
        yield
    finally:
        _known.subtract(classes)
