"""Pieces of a program that the scout leaves to fibers of their own, so that what comes after them can go on."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any, Literal

from ...analysis.def_use import facts_of
from ..runtime.fibers import Fiber
from ..runtime.thunks import UNBOUND, Pending
from . import effects
from .frame import Frame, Returned, blockers, reachable

__all__ = ["Completion", "fork", "region"]

Completion = Returned | Literal["break", "continue"] | None


def fork(frame: Frame, node: ast.AST, work: Callable[[Frame], Any], what: str) -> Any:
    """Work on an expression in a fiber of its own, if nothing that comes after it can depend on that."""
    facts = facts_of(node)
    found = effects.of(frame, facts)
    values = frame.values_of(facts.loads)
    if facts.stores or frame.waits_for(found.barrier, values):
        return work(frame)
    if not found.may_call and not any(blockers(frame.fiber, value) for value in values):
        return work(frame)
    reads = reachable(values)
    reads, writes = found.reads(frame, reads), found.writes(frame, reads)
    return frame.fiber.fork(lambda fiber: work(frame.at(fiber)), what, reads, writes)


def region(
    frame: Frame, node: ast.AST | Sequence[ast.stmt], work: Callable[[Frame], Completion], what: str
) -> Completion:
    """Do something in a fiber of its own, if nothing that comes after it can depend on how it is left.

    The names that it assigns are pending until it is done.
    """
    facts = facts_of(node)
    if facts.jumps or (isinstance(node, ast.AST) and facts.continues) or facts.captured & facts.stores:
        return work(frame)
    found = effects.of(frame, facts)
    if frame.waits_for(found.barrier, frame.values_of(facts.loads)):
        return work(frame)
    if not found.may_call and not any(blockers(frame.fiber, value) for value in frame.values_of(facts.loads)):
        return work(frame)
    values = frame.values_of(facts.loads | facts.stores)
    reads = reachable(values)

    # A comprehension's `:=` is seen outside of it.
    outer = _walrus_names(node) if frame.is_comprehension else frozenset[str]()

    def in_fiber(fiber: Fiber) -> dict[str, Any]:
        inner = frame.at(fiber)
        work(inner)
        return {name: (inner.home if name in outer else inner).names.get(name, UNBOUND) for name in facts.stores}

    result = frame.fiber.fork(in_fiber, what, found.reads(frame, reads), found.writes(frame, reads))
    for name in facts.stores:
        names = (frame.home if name in outer else frame).names
        if isinstance(result, Pending):
            names[name] = _name_after(frame, result, name)
        elif result[name] is not UNBOUND:
            names[name] = result[name]
    return None


def _walrus_names(node: ast.AST | Sequence[ast.stmt]) -> frozenset[str]:
    nodes = [node] if isinstance(node, ast.AST) else node
    parts = (part for each in nodes for part in ast.walk(each))
    return frozenset(part.target.id for part in parts if isinstance(part, ast.NamedExpr))


def _name_after(frame: Frame, result: Pending, name: str) -> Any:
    return frame.fiber.fork(lambda fiber: fiber.force(result)[name], f"`{name}`", reachable([result]))
