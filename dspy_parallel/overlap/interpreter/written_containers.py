"""Which containers a piece of code may change, as far as that is known before it runs."""

from __future__ import annotations

import ast
import types
from typing import Any

import dspy

from ...analysis import effect_free
from ...analysis.def_use import MADE, Facts, Item, facts_of, parameters_of, root_of
from ...analysis.source import source_of
from ...analysis.trusted_types import is_made_plainly
from .call_targets import UNKNOWN, Parameter, call_targets, is_harmless_method, is_object, peek
from .frame import Frame, LocalFunction
from .summaries import Effects

__all__ = ["add_attribute", "add_named", "is_object_of"]


def add_named(frame: Frame, found: Effects, name: str, facts: Facts) -> None:
    """Note the container that goes by a name."""
    if name in facts.bindings:
        is_used = name in facts.exposed
        if not is_used and are_fresh(frame, name, facts, of_classes=name not in facts.writes_deep):
            return
        sources = [source for binding in facts.bindings[name] for source in _sources(binding)]
        values = [value for source in sources for value in _values_of(frame, source, facts)]
        values += frame.values_of([name]) if is_used else []
        if not sources or any(value is UNKNOWN or is_object(value) for value in values):
            # What a name stands for that is assigned here, or what a call gives, is found out only when it runs.
            found.writes_all = found.writes_outside = True
        found.written += [value for value in values if value is not UNKNOWN]
        return
    values = _values_of(frame, ast.Name(name, ast.Load()), facts)
    if any(value is UNKNOWN or is_object(value) for value in values):
        found.writes_all = found.writes_outside = True
    known = found.written if name in facts.writes_deep else found.touched
    known += [value for value in values if value is not UNKNOWN]


def _values_of(frame: Frame, node: ast.expr, facts: Facts) -> list[Any]:
    """What a name or an attribute stands for, or will; `UNKNOWN` if that is not known."""
    is_variable = isinstance(node, ast.Name) and node.id not in facts.stores
    return (frame.values_of([node.id]) if is_variable else []) or [peek(frame, node, facts)]  # type: ignore[attr-defined]


def add_attribute(frame: Frame, found: Effects, node: ast.Attribute, facts: Facts) -> None:
    """Note the container that is an attribute."""
    root = root_of(node)
    value = UNKNOWN if node.attr in found.attributes_set else peek(frame, node, facts)
    if isinstance(node.ctx, ast.Store):  # `+=`
        owner = peek(frame, node.value, facts)
        if frame.interpreter.snapshot.is_number(owner, frame.unmangled(node.attr)):
            return
    around = frame.values_of([root]) if isinstance(node.value, ast.Name) and root not in facts.stores else []
    if value is not UNKNOWN:
        found.written += [] if is_object(value) else [value]
    elif around and not any(map(is_object, around)):
        found.written += around
    elif not (isinstance(node.value, ast.Name) and _is_reply(frame, root, facts)):
        found.writes_outside = True
        if not is_object_of(frame, root, facts):
            found.writes_all = True


def _is_reply(frame: Frame, name: str, facts: Facts) -> bool:
    return name in facts.bindings and name not in facts.exposed and are_fresh(frame, name, facts, of_classes=False)


def are_fresh(frame: Frame, name: str, facts: Facts, *, of_classes: bool = True) -> bool:
    """Whether all that a name is bound to here is new: what it stood for before is another matter."""
    return bool(name) and all(
        _is_fresh(frame, each, facts, of_classes=of_classes) for each in facts.bindings.get(name, ())
    )


def _is_fresh(frame: Frame, node: ast.AST | None, facts: Facts, *, of_classes: bool = True, depth: int = 0) -> bool:
    """Whether an expression gives what nobody else knows: the reply to a call, a new container or instance, a text."""
    if isinstance(node, (*MADE, ast.AugAssign)):  # `+=` gives what was there, or something new
        return of_classes
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MAKING_TEXTS:
        return is_harmless_method(frame, node.func.attr)
    targets = call_targets(frame, node.func, facts) if isinstance(node, ast.Call) else None
    return bool(targets) and all(
        type(each) in (dspy.Predict, dspy.ChainOfThought)
        or (of_classes and isinstance(each, type) and (effect_free.is_pure_class(each) or is_made_plainly(each)))
        or (of_classes and effect_free.is_maker(each))
        or (of_classes and _gives_new(frame, each, depth + 1))
        for each in targets or ()
    )


def _gives_new(frame: Frame, callee: Any, depth: int) -> bool:
    """Whether a function makes what it returns where it returns it, so that nobody else can have it."""
    function: Any = effect_free.original(getattr(callee, "__func__", callee))
    outer, node = None, None
    if isinstance(function, LocalFunction):
        outer, node, function = function.frame, function.node, None
    elif isinstance(function, types.FunctionType):
        node = source_of(function).node
    if not isinstance(node, ast.FunctionDef) or depth > 4:
        return False
    facts = facts_of(node.body)
    names = {name: Parameter(name) for name in parameters_of(node.args)}
    scope = Frame(frame.interpreter, frame.fiber, names, function=function, node=node, outer=outer)
    return all(_is_fresh(scope, each, facts, depth=depth) for each in facts.returns)


_MAKING_TEXTS = frozenset(["join", "strip", "lower", "upper", "title", "replace", "format", "split", "splitlines"])
_ARRANGING = frozenset(["enumerate", "zip", "reversed", "sorted", "list", "tuple", "islice", "items", "values"])


def _sources(node: ast.AST | None) -> list[ast.expr]:
    """What a loop goes over, if its items are those of names or attributes."""
    if isinstance(node, Item):
        return _sources(node.source)
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        owner = [node.func.value] if isinstance(node.func, ast.Attribute) and not node.args else []
        return [each for arg in (*node.args, *owner) for each in _sources(arg)] if name in _ARRANGING else []
    return [node] if isinstance(node, (ast.Name, ast.Attribute)) else []


def is_object_of(frame: Frame, name: str, facts: Facts) -> bool:
    """Whether a name stands for an object, in which nothing is but by way of its attributes."""
    values = [] if name in facts.stores else frame.values_of([name])
    return bool(values) and all(is_object(value) for value in values)
