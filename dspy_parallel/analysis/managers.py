"""Context managers: which have no effect on LM calls, which can be read, which end a cancel as `except:` does."""

from __future__ import annotations

import ast
import contextlib
import inspect
import threading
import types
from collections.abc import Generator
from typing import Any

import dspy

__all__ = ["LOCKS", "ends_of_cancel", "generator_of", "methods_of_manager", "sets_context"]

LOCKS = (
    type(threading.Lock()),
    type(threading.RLock()),
    threading.Semaphore,
    threading.BoundedSemaphore,
    threading.Condition,
)
"""They make threads wait for each other, which is of no concern to LM calls."""


@contextlib.contextmanager
def _sample() -> Generator[None]:
    yield


_MANAGED = _sample.__code__


def sets_context(callee: Any) -> bool:
    """Whether it is `dspy.context`."""
    return getattr(callee, "__func__", None) is type(dspy.settings).context


def generator_of(callee: Any) -> types.FunctionType | None:
    """The generator function that `@contextmanager` has made this of."""
    function = callee.__func__ if type(callee) is types.MethodType else callee
    if not isinstance(function, types.FunctionType) or function.__code__ is not _MANAGED:
        return None
    generator = getattr(function, "__wrapped__", None)
    return generator if isinstance(generator, types.FunctionType) else None


def methods_of_manager(cls: type) -> tuple[types.FunctionType, types.FunctionType] | None:
    """`__enter__` and `__exit__` of a class, if they can be read."""
    found = [inspect.getattr_static(cls, name, None) for name in ("__enter__", "__exit__")]
    enter, leave = found
    return (enter, leave) if isinstance(enter, types.FunctionType) and isinstance(leave, types.FunctionType) else None


def ends_of_cancel(outer: ast.AST, inner: ast.AST) -> list[ast.AST]:
    """What in a statement around another ends a cancel that is raised there: a clause, a manager, a return."""
    if isinstance(outer, ast.With) and not isinstance(inner, ast.withitem):
        return [item.context_expr for item in outer.items if _suppresses_cancel(item.context_expr)]
    if not isinstance(outer, ast.Try) or inner not in outer.body:
        return []
    clause = next((each for each in outer.handlers if _catches_cancel(each.type)), None)
    goes_on = clause is not None and not any(isinstance(each, ast.Raise) for each in ast.walk(clause))
    last = (node for statement in outer.finalbody for node in ast.walk(statement))
    return [*(node for node in last if isinstance(node, ast.Return)), *([clause] if clause and goes_on else [])]


def _suppresses_cancel(node: ast.expr) -> bool:
    is_suppress = isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "suppress"
    return is_suppress and any(map(_catches_cancel, node.args))  # type: ignore[attr-defined]


def _catches_cancel(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Tuple):
        return any(map(_catches_cancel, node.elts))
    return node is None or ast.unparse(node).rpartition(".")[2] in ("BaseException", "CancelledError")
