"""`with`: what is known to have no effect on LM calls is passed, and what can be read is followed."""

from __future__ import annotations

import ast
import contextlib
import types
from collections.abc import Callable, Sequence
from typing import Any

import dspy

from ...analysis.managers import LOCKS, generator_of, methods_of_manager, sets_context
from ..runtime.attempts import Raised, Unwound
from ..runtime.thunks import BailOut
from . import bindings, calls
from .forks import Completion
from .frame import Frame

__all__ = ["HANDLERS"]


def _with(frame: Frame, node: ast.With) -> Completion:
    return _entered(frame, node, node.items)


def _entered(frame: Frame, node: ast.With, items: Sequence[ast.withitem]) -> Completion:
    if not items:
        completion: Completion = frame.execute(node.body)
        return completion
    made, target = items[0].context_expr, items[0].optional_vars

    def body(value: Any) -> Completion:
        if target is not None:
            bindings.assign(frame, target, value)
        return _entered(frame, node, items[1:])

    if not isinstance(made, ast.Call):
        return _managed(frame, frame.force(frame.evaluate(made)), body)
    callee = frame.force(frame.evaluate(made.func))
    if callee is contextlib.suppress:
        return _suppressing(frame, node, items)
    if sets_context(callee):
        return _in_context(frame, calls.arguments(frame, made)[1], body)
    if callee is dspy.track_usage:
        return body(frame.interpreter.unknown("what `dspy.track_usage()` counts", is_plain=False))
    if callee is contextlib.nullcontext:
        return body(next(iter(calls.arguments(frame, made)[0]), None))
    generator = generator_of(callee)
    if generator is None:
        return _managed(frame, frame.force(frame.evaluate(made)), body)
    args, kwargs = calls.arguments(frame, made)
    owner = [callee.__self__] if type(callee) is types.MethodType else []
    return _around_yield(calls.frame_of(frame, generator, [*owner, *args], kwargs), body)


def _in_context(frame: Frame, settings: dict[str, Any], body: Callable[[Any], Completion]) -> Completion:
    before = frame.fiber.overrides
    frame.fiber.overrides = {**before, **{name: frame.ready(value) for name, value in settings.items()}}
    try:
        return body(None)
    finally:
        frame.fiber.overrides = before


def _suppressing(frame: Frame, node: ast.With, items: Sequence[ast.withitem]) -> Completion:
    """The `try` that `with suppress(...)` stands for. The call's node keeps it."""
    made: Any = items[0].context_expr
    known: ast.Try | None = getattr(made, "_overlap_try", None)
    if known is None:
        handler = ast.ExceptHandler(ast.Tuple(made.args, ast.Load()), None, [ast.Pass()])
        body = [ast.With([*items[1:]], node.body)] if items[1:] else node.body
        known = ast.copy_location(ast.Try(body, [handler], [], []), node)  # type: ignore[arg-type]
        made._overlap_try = ast.fix_missing_locations(known)
    completion: Completion = frame.execute([known])
    return completion


def _around_yield(inner: Frame, body: Callable[[Any], Completion]) -> Completion:
    """Run the body where the generator yields, as if it stood there: what it raises is raised there."""
    completions: list[Completion] = []

    def at_yield(value: Any) -> None:
        if completions:
            raise BailOut("a context manager yields more than once")
        completions.append(None)
        completions[0] = body(value)

    inner.at_yield = at_yield
    inner.execute(inner.node.body)
    if not completions:
        raise BailOut("a context manager does not yield")
    return completions[0]


def _managed(frame: Frame, manager: Any, body: Callable[[Any], Completion]) -> Completion:
    if type(manager) in LOCKS:
        return body(True)
    methods = methods_of_manager(type(manager))
    if methods is None:
        raise BailOut(f"`with` of a {type(manager).__qualname__} may have effects")
    enter, leave = methods
    value = frame.enter(enter, [manager], {})
    try:
        completion = body(value)
    except Raised as raised:
        traceback = frame.interpreter.unknown("a traceback", is_plain=False)
        if frame.truth(frame.enter(leave, [manager, type(raised.exc), raised.exc, traceback], {})):
            return None
        raise
    except Unwound:
        raise BailOut("what fails inside a `with` is not followed") from None
    frame.enter(leave, [manager, None, None, None], {})
    return completion


def _yield(frame: Frame, node: ast.Yield) -> Any:
    if frame.at_yield is None:
        raise BailOut("`yield` is not understood")
    frame.at_yield(None if node.value is None else frame.evaluate(node.value))
    return None


HANDLERS: dict[type, Callable[[Frame, Any], Any]] = {ast.With: _with, ast.Yield: _yield}
