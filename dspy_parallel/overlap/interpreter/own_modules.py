"""Modules of DSPy's own: made as the program makes them; agents are run as they are."""

from __future__ import annotations

import copy
import types
from typing import Any

import dspy

from ...analysis.trusted_types import SCALARS
from ..runtime.fibers import Fiber
from ..runtime.thunks import OUTSIDE, BailOut
from . import effects
from .frame import Frame, reachable

__all__ = ["called", "made"]


def made(frame: Frame, cls: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """A new one."""
    known, named = frame.ready(list(args)), frame.ready(dict(kwargs))
    _check(frame, known, named)
    return frame.interpreter.construct(cls, known, named)


def _check(frame: Frame, *values: Any) -> None:
    """Refuse what is not the program's own, or cannot be given to two sides."""
    for value in values:
        if type(value) in (list, tuple, dict):
            _check(frame, *(value.values() if isinstance(value, dict) else value))
            continue
        is_known_kind = type(value) in SCALARS or isinstance(
            value, (type, types.FunctionType, types.MethodType, dspy.Module, dspy.Tool)
        )
        if not is_known_kind or frame.interpreter.snapshot.is_blank(getattr(value, "__self__", value)):
            raise BailOut(f"a module is made of a {type(value).__qualname__}")


def called(frame: Frame, module: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """What it returns: its calls are made by its own code, and paired with those of the program."""
    found = effects.of_whole(frame, module)
    if found.barrier:
        raise BailOut(found.barrier)
    snapshot = frame.interpreter.snapshot
    read = [snapshot.location(name) for name in found.attributes_read]

    def work(fiber: Fiber) -> Any:
        for box in (*read, OUTSIDE):
            fiber.touch(box)
        if snapshot.has_changed(found.attributes_read):
            raise BailOut(f"the program changes what a {type(module).__name__} may read")
        inner = frame.at(fiber)
        # A `BestOfN` counts its failures.
        return inner.interpreter.issue(inner, copy.copy(module), args, kwargs)

    what = f"what a {type(module).__name__} returns"
    return frame.fiber.fork(work, what, [*reachable([*args, *kwargs.values()]), *read, OUTSIDE], is_new=True)
