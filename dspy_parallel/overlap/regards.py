"""Whether the program can be followed past a piece of code before that piece has run.

Only if everything that the piece calls is known, and what it may change is known, too.
"""

from __future__ import annotations

import ast
import functools
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy

from . import purity
from .facts import MUTATORS, Facts, facts_of, parameters_of
from .frame import Frame, LocalFunction, children, reachable
from .outside import MISSING
from .sources import source_of
from .strands import Halted, Pending

__all__ = ["Regard", "is_known_method", "of", "of_callee", "of_function"]

_UNKNOWN = object()
_METHODS = frozenset(
    name
    for cls in (str, bytes, int, float, list, dict, set, tuple, frozenset, dspy.Prediction, dspy.Example)
    for name in dir(cls)
) | {"most_common", "model_dump", "model_dump_json", "group", "groups", "search", "match", "findall", "total_seconds"}


@dataclass
class Regard:
    """What a piece of code may do.

    Attributes:
        is_opaque: Whether it must have run before anything after it may be looked at.
        written: What it may change: containers that are to be got at from these.
        added_to: What it may change if it is a list; numbers and texts are replaced.
        dug_into: Those of them of which it may change what is in them.
        digs: Whether it may change what is in anything.
        writes_all: Whether it may change whatever it can get at.
        may_call: Whether it may call a predictor, or something that is found out only when it runs.
    """

    is_opaque: bool = False
    written: list[Any] = field(default_factory=list)
    added_to: list[Any] = field(default_factory=list)
    dug_into: list[Any] = field(default_factory=list)
    digs: bool = False
    writes_all: bool = False
    may_call: bool = False

    def settle(self, frame: Frame, values: Sequence[Any]) -> None:
        """Wait for what it may change: who knows that by another name could not be told to wait for the change."""
        for value in values if self.writes_all else self.written:
            known = frame.force_result(value)
            if self.digs or any(value is each for each in self.dug_into):
                for item in children(known):
                    frame.force_result(item)

    def writes(self, reads: Sequence[Any]) -> list[Any]:
        """Of the containers that it may look into, those that it may change."""
        return list(reads) if self.writes_all else reachable([*self.written, *self.added_to])


def is_known_method(name: str) -> bool:
    """Whether it is a method of builtin types, or of predictions, by its name."""
    return name in _METHODS or name in MUTATORS


def of(frame: Frame, facts: Facts) -> Regard:
    """For a piece of code in this frame."""
    if facts.unknown or facts.sets_attributes:
        return Regard(is_opaque=True)
    # What a name stands for that is assigned here is found out only when it runs.
    is_vague = bool(facts.writes & facts.stores)
    regard = Regard(
        written=frame.values_of(facts.writes),
        added_to=frame.values_of(facts.adds),
        dug_into=frame.values_of(facts.digs),
        digs=is_vague,
        writes_all=is_vague,
    )
    for call in facts.calls:
        inner = _of_call(frame, call)
        if inner.is_opaque:
            return inner
        regard.writes_all |= inner.writes_all
        regard.digs |= inner.digs
        regard.may_call |= inner.may_call
    return regard


def of_function(frame: Frame, function: Any, first: Any = _UNKNOWN) -> Regard:
    """For a function whose first argument, if it is a method, is known."""
    function = getattr(function, "__overlap_original__", function)
    if isinstance(function, LocalFunction):
        body = function.node.body
        facts = facts_of(body)
        inner = of(function.frame, facts)
        return _from_outside(inner, facts)
    memo, key = frame.scout.regards, (id(function.__code__), id(first))
    known = memo.get(key)
    if known is None:
        memo[key] = Regard(may_call=True)  # should it call itself
        known = memo[key] = _look_into(frame, function, first)
    return known


def _look_into(frame: Frame, function: types.FunctionType, first: Any) -> Regard:
    source = source_of(function)
    if source.node is None:
        return Regard(is_opaque=True)
    names = parameters_of(source.node.args)
    known = {names[0]: first} if names and first is not _UNKNOWN else {}
    facts = facts_of(source.node.body)
    inner = of(Frame(frame.scout, frame.strand, known, function=function), facts)
    return _from_outside(inner, facts)


def _from_outside(inner: Regard, facts: Facts) -> Regard:
    # Names that are neither parameters nor made here may stand for anything.
    return Regard(
        inner.is_opaque,
        digs=inner.digs or bool(facts.digs),
        writes_all=inner.writes_all or bool(facts.writes or facts.adds),
        may_call=inner.may_call,
    )


def _of_call(frame: Frame, call: ast.Call) -> Regard:
    callee = _peek(frame, call.func)
    if callee is not _UNKNOWN:
        return of_callee(frame, callee)
    if isinstance(call.func, ast.Attribute):
        return Regard(is_opaque=not is_known_method(call.func.attr))
    return Regard(may_call=True)  # a name of the piece's own: found out when it runs


def of_callee(frame: Frame, callee: Any) -> Regard:
    """For calling something."""
    callee = getattr(callee, "__overlap_original__", callee) if isinstance(callee, types.FunctionType) else callee
    while isinstance(callee, functools.partial):
        callee = callee.func
    declaration = purity.declared(callee)
    if declaration is not None:
        return Regard(is_opaque=declaration == "ordered", may_call=True)
    if isinstance(callee, LocalFunction):
        return of_function(frame, callee)
    if isinstance(callee, dspy.Module):
        if type(callee) is dspy.Predict:
            return Regard(may_call=True)
        forward: Any = vars(callee).get("forward") or getattr(type(callee), "forward", None)
        if isinstance(forward, types.MethodType):
            forward = forward.__func__
        return of_function(frame, forward, callee) if isinstance(forward, types.FunctionType) else Regard(True)
    if callee is map or callee is filter:
        return Regard(may_call=True)
    if purity.is_structural(callee) or purity.is_pure_function(callee) or purity.is_silent(callee):
        return Regard()
    if purity.is_harmless(callee):
        return Regard(may_call=True)
    if isinstance(callee, type) and purity.is_pure_class(callee):
        return Regard()
    if isinstance(callee, types.MethodType) and isinstance(callee.__func__, types.FunctionType):
        if callee.__func__.__module__.startswith("dspy."):
            return Regard(is_opaque=callee.__name__ not in purity.MODULE_READERS)
        return of_function(frame, callee.__func__, callee.__self__)
    if isinstance(callee, types.FunctionType):
        return of_function(frame, callee)
    if isinstance(callee, types.BuiltinMethodType) and purity.is_builtin(type(callee.__self__)):
        return Regard()
    return Regard(is_opaque=True)


def _peek(frame: Frame, node: ast.expr) -> Any:
    """The value of a callee, if it is known without running anything."""
    if isinstance(node, ast.Name):
        try:
            value = frame.load(node.id)
        except Halted:
            return _UNKNOWN
        return _UNKNOWN if type(value) is Pending else value
    if isinstance(node, ast.Attribute):
        return _peek_attribute(frame, _peek(frame, node.value), frame.unmangled(node.attr))
    if isinstance(node, ast.Subscript):
        owner = _peek(frame, node.value)
        items = list(owner.values()) if type(owner) is dict else owner if type(owner) in (list, tuple) else []
        return items[0] if items and all(type(item) is dspy.Predict for item in items) else _UNKNOWN
    return _UNKNOWN


def _peek_attribute(frame: Frame, owner: Any, name: str) -> Any:
    if owner is _UNKNOWN or type(owner) in purity.RECORDS or purity.is_builtin(type(owner)):
        return _UNKNOWN
    if isinstance(owner, (types.ModuleType, type)):
        return getattr(owner, name, _UNKNOWN)
    try:
        value = frame.scout.outside.read(owner, name)
    except (Halted, TypeError):
        return _UNKNOWN
    if value is not MISSING:
        return value
    static = next((vars(base)[name] for base in type(owner).__mro__ if name in vars(base)), None)
    if isinstance(static, types.FunctionType):
        return types.MethodType(static, owner)
    return static.__func__ if isinstance(static, staticmethod) else _UNKNOWN
