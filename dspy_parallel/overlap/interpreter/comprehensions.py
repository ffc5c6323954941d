"""Comprehensions are the loops that they stand for, with names of their own."""

from __future__ import annotations

import ast
from typing import Any

from ...analysis.desugar import RESULT, loop_of
from .forks import fork
from .frame import Frame

__all__ = ["comprehension"]


def comprehension(frame: Frame, node: Any) -> Any:
    """The value of a comprehension, of whichever kind."""
    loop = loop_of(node)

    def work(inner: Frame) -> Any:
        scope = Frame(inner.interpreter, inner.fiber, {}, outer=inner, is_comprehension=True, depth=inner.depth)
        result: Any
        scope.names[RESULT] = result = {} if isinstance(node, ast.DictComp) else []
        scope.execute([loop])
        if isinstance(node, ast.SetComp):
            return scope.operate("a set", lambda items: scope.interpreter.snapshot.made_set(items), result)
        return result

    return fork(frame, node, work, "a comprehension")
