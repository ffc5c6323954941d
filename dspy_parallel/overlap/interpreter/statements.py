"""What a statement does to the names and containers of a frame."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from ...analysis import effect_free
from ..runtime.thunks import BailOut, Pending
from . import attribute_access, bindings, context_managers, exception_handlers, expressions, iterators, patterns
from .forks import Completion, region
from .frame import Frame, Returned, blockers

__all__ = ["HANDLERS", "turns"]


def _expression(frame: Frame, node: ast.Expr) -> Completion:
    frame.evaluate(node.value)
    return None


def _assign(frame: Frame, node: ast.Assign) -> Completion:
    is_unpacked = len(node.targets) == 1 and isinstance(node.targets[0], (ast.Tuple, ast.List))
    value = (iterators.whole if is_unpacked else Frame.evaluate)(frame, node.value)
    for target in node.targets:
        bindings.assign(frame, target, value)
    return None


def _annotated(frame: Frame, node: ast.AnnAssign) -> Completion:
    if node.value is not None:
        bindings.assign(frame, node.target, frame.evaluate(node.value))
    return None


def _augmented(frame: Frame, node: ast.AugAssign) -> Completion:
    target, kind = node.target, type(node.op)
    if isinstance(target, ast.Name):
        before = frame.load(target.id)
        after = expressions.in_place(frame, kind, before, frame.evaluate(node.value))
        if after is not before:
            frame.store(target.id, after)
    elif isinstance(target, ast.Attribute):
        owner, name = frame.evaluate(target.value), frame.unmangled(target.attr)
        before = attribute_access.attribute(frame, owner, name)
        value = frame.evaluate(node.value)

        def add(inner: Frame) -> None:
            attribute_access.put(
                inner, inner.force(owner), name, expressions.in_place(inner, kind, inner.force(before), value)
            )

        bindings.in_turn(frame, (owner, before), value, add, frame.interpreter.snapshot.location(name))
    else:
        owner, key = frame.evaluate(target.value), frame.evaluate(target.slice)
        before = expressions.item(frame, owner, key)
        value = frame.evaluate(node.value)

        def add_item(inner: Frame) -> None:
            known, index = inner.force(owner), inner.ready(key)
            if type(known) not in effect_free.BOXES:
                raise BailOut(f"an item of {type(known).__name__} is set")
            inner.fiber.touch(known, writing=True)
            known[index] = expressions.in_place(inner, kind, inner.force(before), value)
            inner.put_into(known, known[index])

        is_free = type(owner) is not Pending and frame.fiber.is_free(owner, writing=True)
        bindings.in_turn(frame, (owner, key, before), value, add_item, is_free=is_free)
    return None


def _if(frame: Frame, node: ast.If) -> Completion:
    test = frame.evaluate(node.test)

    def work(inner: Frame) -> Completion:
        completion: Completion = inner.execute(node.body if inner.truth(test) else node.orelse)
        return completion

    return (
        work(frame) if not blockers(frame.fiber, test) else region(frame, node, work, f"the `if` on line {node.lineno}")
    )


def _for(frame: Frame, node: ast.For) -> Completion:
    def work(inner: Frame) -> Completion:
        return turns(inner, node, iterators.pull(inner, node.iter))

    return region(frame, node, work, f"the loop on line {node.lineno}")


def turns(frame: Frame, node: ast.For, items: Iterable[Any]) -> Completion:
    """The turns of a loop for these items, and its `else`."""

    def bound() -> Iterator[None]:
        for item in items:
            bindings.assign(frame, node.target, item, comprehension=frame.is_comprehension)
            yield

    return _turns(frame, node, bound())


def _while(frame: Frame, node: ast.While) -> Completion:
    def work(inner: Frame) -> Completion:
        return _turns(inner, node, iter(lambda: inner.truth(inner.evaluate(node.test)), False))

    return region(frame, node, work, f"the loop on line {node.lineno}")


def _turns(frame: Frame, node: ast.For | ast.While, beginnings: Iterable[object]) -> Completion:
    """A turn after each beginning: a condition that is true, or a target that has been bound."""
    for _ in beginnings:
        outcome = region(
            frame, node.body, lambda frame: frame.execute(node.body), f"a turn of the loop on line {node.lineno}"
        )
        if isinstance(outcome, Returned):
            return outcome
        if outcome == "break":
            return None
    return frame.execute(node.orelse) if node.orelse else None


def _match(frame: Frame, node: ast.Match) -> Completion:
    subject = frame.evaluate(node.subject)
    is_decided = not blockers(frame.fiber, subject)

    def work(inner: Frame) -> Completion:
        value = inner.ready(subject)
        chosen = next((number for number, case in enumerate(node.cases) if _fits(inner, case, value)), None)
        return None if chosen is None else inner.execute(node.cases[chosen].body)

    return work(frame) if is_decided else region(frame, node, work, "the `match`")


def _fits(frame: Frame, case: ast.match_case, value: Any) -> bool:
    if not patterns.fits(frame, case.pattern, value):
        return False
    return case.guard is None or frame.truth(frame.evaluate(case.guard))


def _return(frame: Frame, node: ast.Return) -> Completion:
    return Returned(None if node.value is None else frame.evaluate(node.value))


def _function(frame: Frame, node: ast.FunctionDef) -> Completion:
    if node.decorator_list:
        raise BailOut("a decorator is not understood")
    frame.store(node.name, expressions.function(frame, node))
    return None


def _import(frame: Frame, node: ast.Import | ast.ImportFrom) -> Completion:
    for alias in node.names:
        name = alias.name if isinstance(node, ast.Import) else node.module or ""
        module = sys.modules.get(name)
        if module is None or (isinstance(node, ast.ImportFrom) and (node.level or not hasattr(module, alias.name))):
            raise BailOut(f"`import {name}` runs code")
        if isinstance(node, ast.ImportFrom):
            frame.store(alias.asname or alias.name, getattr(module, alias.name))
        else:
            frame.store(
                alias.asname or name.partition(".")[0], module if alias.asname else sys.modules[name.partition(".")[0]]
            )
    return None


def _leave(outcome: Literal["break", "continue"]) -> Callable[[Frame, ast.stmt], Completion]:
    return lambda frame, node: outcome


HANDLERS: dict[type, Callable[[Frame, Any], Completion]] = {
    ast.Expr: _expression,
    ast.Assign: _assign,
    ast.AnnAssign: _annotated,
    ast.AugAssign: _augmented,
    ast.If: _if,
    ast.For: _for,
    ast.While: _while,
    ast.With: context_managers.HANDLERS[ast.With],
    ast.Match: _match,
    ast.Return: _return,
    **exception_handlers.HANDLERS,
    ast.FunctionDef: _function,
    ast.Import: _import,
    ast.ImportFrom: _import,
    ast.Global: lambda frame, node: None,
    ast.Nonlocal: lambda frame, node: None,
    ast.Pass: lambda frame, node: None,
    ast.Break: _leave("break"),
    ast.Continue: _leave("continue"),
}
