"""Whether the program can be followed past a piece of code before that piece has run.

Only if everything that the piece calls is known, and what it may change is known, too.
"""

from __future__ import annotations

import ast
import functools
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dspy

from . import purity
from .candidates import UNKNOWN, Parameter, candidates, peek
from .facts import MAKERS, MUTATORS, Facts, facts_of, parameters_of
from .frame import Frame, LocalFunction, children, reachable
from .inert import SCALARS
from .sources import source_of
from .strands import OUTSIDE, Pending

__all__ = [
    "Regard",
    "Verdicts",
    "is_harmless_method",
    "is_known_method",
    "of",
    "of_arguments",
    "of_callee",
    "of_function",
]

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
        writes_outside: Whether it may change containers of others: of objects, globals and closures.
        may_call: Whether it may call a predictor, or something that is found out only when it runs.
        parameters: Names of the parameters that it calls.
    """

    is_opaque: bool = False
    written: list[Any] = field(default_factory=list)
    added_to: list[Any] = field(default_factory=list)
    dug_into: list[Any] = field(default_factory=list)
    digs: bool = False
    writes_all: bool = False
    writes_outside: bool = False
    may_call: bool = False
    parameters: set[str] = field(default_factory=set)

    def include(self, other: Regard) -> None:
        """It does what the other one does, too."""
        self.is_opaque |= other.is_opaque
        self.written += other.written
        self.writes_all |= other.writes_all
        self.writes_outside |= other.writes_outside or other.writes_all  # its arguments may be from there
        self.digs |= other.digs
        self.may_call |= other.may_call
        self.parameters |= other.parameters

    def settle(self, frame: Frame, values: Sequence[Any]) -> None:
        """Wait for what it may change: who knows that by another name could not be told to wait for the change."""
        for value in values if self.writes_all else self.written:
            known = frame.force_result(value)
            if self.digs or any(value is each for each in self.dug_into):
                for item in children(known):
                    frame.force_result(item)

    def writes(self, reads: Sequence[Any]) -> list[Any]:
        """Of the containers that it may look into, those that it may change."""
        own = list(reads) if self.writes_all else reachable([*self.written, *self.added_to])
        return [*own, OUTSIDE] if self.writes_outside else own


class Verdicts:
    """What is known of functions in one run.

    Attributes:
        known: The functions with their first arguments, and what they may do.
        open: Those that are being looked into.
        reach: How deep among these is the one that was come to again.
    """

    def __init__(self) -> None:
        self.known: dict[Any, tuple[Any, Any, Regard]] = {}
        self.open: list[Any] = []
        self.reach: int = sys.maxsize


def is_known_method(name: str) -> bool:
    """Whether it is a method of builtin types, or of predictions, by its name."""
    return name in _METHODS or name in MUTATORS


def is_harmless_method(frame: Frame, name: str) -> bool:
    """Whether a method of that name is one of a builtin type's: no class that the program may meet has its own."""
    return is_known_method(name) and name not in frame.scout.outside.method_names(frame.function)


def of(frame: Frame, facts: Facts) -> Regard:
    """For a piece of code in this frame."""
    if facts.unknown or facts.sets_attributes:
        return Regard(is_opaque=True)
    if any(peek(frame, ast.Name(name, ast.Load())) is not MAKERS[name] for name in facts.makers):
        return Regard(is_opaque=True)
    changed = facts.writes | facts.adds
    regard = Regard(
        written=frame.values_of(facts.writes),
        added_to=frame.values_of(facts.adds),
        dug_into=frame.values_of(facts.digs),
    )
    # What a name stands for that is assigned here, or what a call gives, is found out only when it runs.
    is_vague = "" in changed or bool(facts.stores & facts.writes or facts.others & facts.adds)
    is_vague |= any(_is_object(value) for value in (*regard.written, *regard.added_to))
    regard.digs = regard.writes_all = is_vague
    regard.writes_outside = is_vague or not all(frame.knows(name) for name in changed)
    for call in facts.calls:
        inner = _of_call(frame, call, facts)
        if inner.is_opaque:
            return inner
        regard.include(inner)
    return regard


def _is_object(value: Any) -> bool:
    """Whether it has containers that it does not hand over by itself."""
    cls = type(value)
    return cls not in (Parameter, Pending) and cls not in SCALARS and not purity.is_box(cls)


def of_function(frame: Frame, function: Any, first: Any = UNKNOWN) -> Regard:
    """For a function whose first argument, if it is a method, is known."""
    function = getattr(function, "__overlap_original__", function)
    key = (id(function.node), None) if isinstance(function, LocalFunction) else (id(function), id(first))
    verdicts: Verdicts = frame.scout.verdicts
    if key in verdicts.known:
        return verdicts.known[key][-1]
    if key in verdicts.open:  # it calls itself: what it does is seen where it began
        verdicts.reach = min(verdicts.reach, verdicts.open.index(key))
        return Regard(may_call=True)
    depth = len(verdicts.open)
    verdicts.open.append(key)
    try:
        found = _look_into(frame, function, first)
    finally:
        verdicts.open.pop()
    if verdicts.reach < depth:
        return found  # not all of it, as it is part of one that calls itself
    verdicts.reach = sys.maxsize
    if not isinstance(function, LocalFunction):  # which depends on the names around it
        verdicts.known[key] = function, first, found
    return found


def _look_into(frame: Frame, function: Any, first: Any) -> Regard:
    if isinstance(function, LocalFunction):
        node: Any = function.node
        outer, inside = function.frame, None
    else:
        source = source_of(function)
        if source.node is None:
            return Regard(is_opaque=True)
        node, outer, inside = source.node, None, function
    parameters = parameters_of(node.args)
    names: dict[str, Any] = {name: Parameter(name) for name in parameters}
    if parameters and inside is not None and first is not UNKNOWN:
        names[parameters[0]] = first
    facts = facts_of(node.body)
    scope = Frame(frame.scout, frame.strand, names, function=inside, node=node, outer=outer)
    return _from_outside(of(scope, facts), facts)


def _from_outside(inner: Regard, facts: Facts) -> Regard:
    # Names that are neither made here nor known may stand for anything.
    return Regard(
        inner.is_opaque,
        digs=inner.digs or bool(facts.digs),
        writes_all=inner.writes_all or bool(inner.written or facts.writes or facts.adds),
        writes_outside=inner.writes_outside,
        may_call=inner.may_call,
        parameters=inner.parameters,
    )


def _of_call(frame: Frame, call: ast.Call, facts: Facts) -> Regard:
    callees = candidates(frame, call.func, facts)
    if callees is None:
        is_harmless = isinstance(call.func, ast.Attribute) and is_harmless_method(frame, call.func.attr)
        regard = Regard(is_opaque=not is_harmless)
    else:
        regard = Regard(may_call=not callees)
        for callee in callees:
            inner = of_callee(frame, callee)
            regard.include(replace(inner, parameters=set()))
            for name in inner.parameters:
                regard.include(_of_given(frame, _given(callee, call, name), facts))
    for keyword in call.keywords:
        if keyword.arg == "key":
            regard.include(_of_given(frame, keyword.value, facts))
    return regard


def _of_given(frame: Frame, node: ast.expr | None, facts: Facts) -> Regard:
    """For an argument, which is going to be called."""
    regard = Regard(may_call=True)
    given = None if node is None else candidates(frame, node, facts)
    if given is None:
        return Regard(is_opaque=True)
    for each in given:
        inner = of_callee(frame, each)
        if inner.parameters:
            return Regard(is_opaque=True)
        regard.include(inner)
    return regard


def _given(callee: Any, call: ast.Call, name: str) -> ast.expr | None:
    """The argument for a parameter."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    names, skipped = _parameters(callee)
    if name not in names or any(isinstance(arg, ast.Starred) for arg in call.args):
        return None
    index = names.index(name) - skipped
    return call.args[index] if 0 <= index < len(call.args) else None


def _parameters(callee: Any) -> tuple[list[str], int]:
    """Names of the parameters, and how many of them are given already."""
    if callee is map or callee is filter:
        return ["function"], 0
    if isinstance(callee, LocalFunction):
        return [argument.arg for argument in (*callee.node.args.posonlyargs, *callee.node.args.args)], 0
    is_method = isinstance(callee, types.MethodType)
    function: Any = callee.__func__ if isinstance(callee, types.MethodType) else callee
    code = getattr(getattr(function, "__overlap_original__", function), "__code__", None)
    return ([], 0) if code is None else (list(code.co_varnames[: code.co_argcount]), int(is_method))


def of_callee(frame: Frame, callee: Any) -> Regard:
    """For calling something."""
    if type(callee) is Parameter:
        return Regard(may_call=True, parameters={callee.name})
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
        return Regard(may_call=True, parameters={"function"})
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
        return Regard(written=[callee.__self__] if callee.__name__ in MUTATORS else [])
    return Regard(is_opaque=True)


def of_arguments(frame: Frame, regard: Regard, names: dict[str, Any]) -> Regard:
    """For a function that is called with these arguments."""
    if not regard.parameters:
        return regard
    whole = replace(regard, written=list(regard.written), parameters=set())
    for name in regard.parameters:
        value = names.get(name, UNKNOWN)
        inner = Regard(is_opaque=True) if value is UNKNOWN or type(value) is Pending else of_callee(frame, value)
        whole.include(inner)
        whole.is_opaque |= bool(inner.parameters)
    return whole
