"""Comprehensions: every item that is certain to be asked for is begun at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from . import expressions, targets
from .frame import Frame

__all__ = ["evaluate"]


def evaluate(frame: Frame, node: Any) -> Any:
    """The value of a comprehension, of whichever kind."""

    def work(inner: Frame) -> Any:
        scope = Frame(inner.scout, inner.strand, {}, outer=inner, is_comprehension=True, depth=inner.depth)
        scope.line = inner.line
        entries = _clauses(scope, node, 0)
        if isinstance(node, ast.DictComp):
            return {scope.ready(key): value for key, value in entries}
        if isinstance(node, ast.SetComp):
            return expressions.lift(scope, "a set", lambda *items: set(items), *entries)
        return list(entries)

    return expressions.fork(frame, node, work, "a comprehension")


def _clauses(scope: Frame, node: Any, depth: int) -> Iterator[Any]:
    if depth == len(node.generators):
        if isinstance(node, ast.DictComp):
            yield expressions.evaluate(scope, node.key), expressions.evaluate(scope, node.value)
        else:
            yield expressions.evaluate(scope, node.elt)
        return
    clause = node.generators[depth]
    items = expressions.iterate(scope, expressions.evaluate(scope, clause.iter))
    if not clause.ifs:
        for item in items:
            targets.assign(scope, clause.target, item, comprehension=True)
            yield from _clauses(scope, node, depth + 1)
        return
    # All conditions are certain to be asked, whatever the answers.
    asked: list[tuple[dict[str, Any], Any]] = []
    for item in items:
        targets.assign(scope, clause.target, item, comprehension=True)
        asked.append((dict(scope.names), _all(scope, clause.ifs)))
    for names, answer in asked:
        scope.names = names
        if expressions.truth(scope, answer):
            yield from _clauses(scope, node, depth + 1)


def _all(scope: Frame, conditions: list[ast.expr]) -> Any:
    if len(conditions) == 1:
        return expressions.evaluate(scope, conditions[0])
    both = ast.BoolOp(ast.And(), conditions)
    return expressions.evaluate(scope, both)
