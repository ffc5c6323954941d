"""Comprehensions: every item that is certain to be asked for is begun at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from . import expressions, guesses, regards, streams, targets
from .facts import facts_of
from .frame import Frame, blockers
from .guesses import Branch
from .strands import UNBOUND

__all__ = ["evaluate"]


def evaluate(frame: Frame, node: Any) -> Any:
    """The value of a comprehension, of whichever kind."""

    def work(inner: Frame) -> Any:
        scope = Frame(inner.scout, inner.strand, {}, outer=inner, is_comprehension=True, depth=inner.depth)
        scope.line = inner.line
        entries = _clauses(scope, node, 0)
        if isinstance(node, ast.DictComp):
            return {_key(scope, key): value for key, value in entries}
        if isinstance(node, ast.SetComp):
            return expressions.lift(scope, "a set", lambda *items: scope.scout.outside.made_set(items), *entries)
        return list(entries)

    return expressions.fork(frame, node, work, "a comprehension")


def _key(scope: Frame, key: Any) -> Any:
    known = scope.ready(key)
    expressions.check_plain(known)
    return known


def _clauses(scope: Frame, node: Any, depth: int) -> Iterator[Any]:
    if depth == len(node.generators):
        if isinstance(node, ast.DictComp):
            yield expressions.evaluate(scope, node.key), expressions.evaluate(scope, node.value)
        else:
            yield expressions.evaluate(scope, node.elt)
        return
    clause = node.generators[depth]
    items = streams.pull(scope, clause.iter)
    if not clause.ifs or _is_order_seen(scope, node, depth):
        for item in items:
            targets.assign(scope, clause.target, item, comprehension=True)
            if all(expressions.truth(scope, expressions.evaluate(scope, condition)) for condition in clause.ifs):
                yield from _clauses(scope, node, depth + 1)
        return
    # All conditions are certain to be asked, whatever the answers. What they assign, the rest of the turn finds.
    home = scope.home
    assigned = {name for condition in clause.ifs for name in facts_of(condition).stores}
    asked: list[tuple[dict[str, Any], dict[str, Any], Any, Branch]] = []
    turn = _parts(node) if depth == len(node.generators) - 1 else []
    for item in items:
        targets.assign(scope, clause.target, item, comprehension=True)
        answer = _all(scope, clause.ifs)
        branch = guesses.explore(scope, turn if blockers(scope.strand, answer) else [])
        asked.append((dict(scope.names), {name: home.names.get(name, UNBOUND) for name in assigned}, answer, branch))
    for names, found, answer, branch in asked:
        scope.names = names
        home.names.update(found)
        is_true = expressions.truth(scope, answer)
        branch.decide(0 if is_true else None)
        if is_true:
            yield from _clauses(scope, node, depth + 1)
    if asked:
        home.names.update(asked[-1][1])


def _is_order_seen(scope: Frame, node: Any, depth: int) -> bool:
    """Whether it makes a difference that one item's condition comes before another one's turn."""
    regard = regards.of(scope, facts_of(node))
    turn = [*_parts(node), *node.generators[depth + 1 :]]
    assigns = any(facts_of(part).stores - _targets(part) for part in turn)
    return assigns or regard.is_opaque or regard.writes_all or bool(regard.written)


def _parts(node: Any) -> list[ast.expr]:
    return [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]


def _targets(part: ast.AST) -> set[str]:
    if not isinstance(part, ast.comprehension):
        return set()
    return {name.id for name in ast.walk(part.target) if isinstance(name, ast.Name)}


def _all(scope: Frame, conditions: list[ast.expr]) -> Any:
    if len(conditions) == 1:
        return expressions.evaluate(scope, conditions[0])
    both = ast.BoolOp(ast.And(), conditions)
    return expressions.evaluate(scope, both)
