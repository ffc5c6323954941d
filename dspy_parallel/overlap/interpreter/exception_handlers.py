"""`try`, `raise` and `assert`. How failures reach their `try` is in `runtime.attempts`."""

from __future__ import annotations

import ast
from typing import Any

import dspy

from ...analysis import effect_free
from ...analysis.def_use import facts_of
from ..runtime.attempts import Attempt, Failure, Raised, Unwound
from ..runtime.thunks import BailOut
from .call_targets import call_targets, is_harmless_method
from .forks import Completion, region
from .frame import Frame

__all__ = ["HANDLERS"]

_HANDLED = ".handled"
"""The exception that is being handled, for a bare `raise`: no name of the program's is written like this."""


def _try(frame: Frame, node: ast.Try) -> Completion:
    if not node.handlers:
        return _finally(frame, node, lambda: frame.execute(node.body))

    may_fail = _may_fail(frame, node)

    def work(inner: Frame) -> Completion:
        # Also where it could not be left to a fiber, as in `try: return fn() ...`: left behind with what `fn()` gives
        # still pending, it would not be there to catch what that raises later, and a `try` outside would.
        return _finally(inner, node, lambda: _attempted(inner, node, is_awaited=may_fail))

    if may_fail:
        return region(frame, node, work, f"the `try` on line {node.lineno}")
    return work(frame)


def _finally(frame: Frame, node: ast.Try, body: Any) -> Completion:
    try:
        completion = body()
    except Raised:
        if frame.execute(node.finalbody) is None:
            raise
        raise BailOut("a `finally` swallows an exception") from None
    except Unwound:
        if node.finalbody:
            raise BailOut("what fails around a `finally` is not followed") from None
        raise
    last: Completion = frame.execute(node.finalbody) or completion
    return last


def _attempted(frame: Frame, node: ast.Try, *, is_awaited: bool) -> Completion:
    fiber = frame.fiber
    attempt = fiber.attempt = Attempt(fiber, fiber.attempt)
    completion: Completion = None
    back = fiber.keep()
    try:
        completion = frame.execute(node.body)
        if is_awaited:
            fiber.wait_for_all_in(attempt)
    except Raised as raised:
        attempt.fail(Failure(fiber.here, raised.exc, fiber.place))
    except Unwound as unwound:
        if unwound.attempt is not attempt:
            raise
    attempt.is_unwound = True
    if attempt.failure is not None:
        # What comes before it in program order may fail, too, and then it is that.
        fiber.wait_for_all_in(attempt)
    attempt.end = fiber.here
    fiber.attempt = attempt.outer
    if attempt.failure is None:
        return completion or frame.execute(node.orelse)
    attempt.undo()
    back()
    return _handled(frame, node, attempt.failure.exc)


def _handled(frame: Frame, node: ast.Try, exc: BaseException) -> Completion:
    for handler in node.handlers:
        if handler.type is not None and not _is_caught(exc, frame.ready(frame.evaluate(handler.type))):
            continue
        before = frame.names.get(_HANDLED)
        frame.interpreter.snapshot.own(exc)
        frame.names[_HANDLED] = exc
        if handler.name is not None:
            frame.store(handler.name, exc)
        completion: Completion = frame.execute(handler.body)
        frame.names[_HANDLED] = before
        if handler.name is not None:
            frame.home.names.pop(handler.name, None)
        return completion
    raise Raised(exc)


def _is_caught(exc: BaseException, classes: Any) -> bool:
    if type(classes) is tuple:
        return any(_is_caught(exc, cls) for cls in classes)
    if type(classes) is not type or not issubclass(classes, BaseException):
        raise BailOut("whether an exception is caught is said by code of your own")
    return classes in type(exc).__mro__


_SAFE = frozenset(
    [
        *("str", "repr", "len", "list", "tuple", "dict", "set", "sorted", "range", "enumerate", "zip", "print", "bool"),
        *("isinstance", "reversed", "any", "all", "type", "hasattr"),
    ]
)
_PREDICTORS = (dspy.Predict, dspy.ChainOfThought)
_FAILING = frozenset(["index", "remove", "pop", "popleft", "popitem", "format", "encode", "decode"])


def _may_fail(frame: Frame, node: ast.Try) -> bool:
    """Whether the body may raise by the program's own logic, and not only because an LM fails."""
    facts = facts_of(node.body)
    if any(isinstance(part, (ast.Raise, ast.Assert, ast.Subscript)) for each in node.body for part in ast.walk(each)):
        return True
    for call in facts.calls:
        if isinstance(call.func, ast.Name) and call.func.id in _SAFE:
            continue
        targets = call_targets(frame, call.func, facts)
        if targets is not None and all(type(each) in _PREDICTORS or effect_free.is_silent(each) for each in targets):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if targets is not None or name in _FAILING or not is_harmless_method(frame, name):
            return True
    return False


def _raise(frame: Frame, node: ast.Raise) -> Completion:
    if node.exc is None:
        exc: Any = frame.load(_HANDLED) if frame.knows(_HANDLED) else None
    else:
        exc = frame.ready(frame.evaluate(node.exc))
    if isinstance(exc, type) and effect_free.is_pure_class(exc):
        exc = frame.ready(frame.apply(exc, [], {}))
    if not isinstance(exc, BaseException):
        raise BailOut("the program raises here")
    raise Raised(exc)


def _assert(frame: Frame, node: ast.Assert) -> Completion:
    if __debug__ and not frame.truth(frame.evaluate(node.test)):
        raise Raised(AssertionError(*([] if node.msg is None else [frame.ready(frame.evaluate(node.msg))])))
    return None


HANDLERS: dict[type, Any] = {ast.Try: _try, ast.Raise: _raise, ast.Assert: _assert}
