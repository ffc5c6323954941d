"""What an expression in a piece of code that has not run yet may stand for, when it is called."""

from __future__ import annotations

import ast
import datetime
import inspect
import os
import re
import types
import typing
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import dspy
from dspy.dsp.utils.settings import Settings

from ...analysis import effect_free
from ...analysis.def_use import MUTATORS, Facts, Item
from ...analysis.log_listeners import is_stream_known
from ...analysis.third_party_loggers import is_logger, logger_made, method_of
from ...analysis.trusted_types import SCALARS, is_known, unpatched
from ..runtime.snapshot import LOGGERS, MISSING
from ..runtime.thunks import BailOut, Pending
from .frame import Frame, LocalFunction

__all__ = [
    "UNKNOWN",
    "Parameter",
    "argument_for",
    "call_of_object",
    "call_targets",
    "first_argument",
    "is_harmless_method",
    "is_known_method",
    "is_object",
    "name_of",
    "peek",
    "why_not_called",
    "why_not_with",
]

UNKNOWN: Any = object()
"""What is not known."""


@dataclass(frozen=True)
class Parameter:
    """Stands for what a parameter will be: whoever calls the function knows."""

    name: str


def call_targets(frame: Frame, node: ast.AST, facts: Facts, depth: int = 0) -> list[Any] | None:
    """All values that an expression may have; None if that is not known.

    A function that is defined in the piece is none of them: what it does is done by the piece.
    """
    if depth > 4:
        return None
    if isinstance(node, Item):
        return _items(frame, node, facts, depth)
    if isinstance(node, (ast.Lambda, ast.FunctionDef, ast.Constant, ast.JoinedStr)):
        return []
    if isinstance(node, ast.IfExp):
        return _union(frame, (node.body, node.orelse), facts, depth)
    if isinstance(node, ast.BoolOp):
        return _union(frame, node.values, facts, depth)
    if isinstance(node, ast.Name) and node.id in facts.stores:
        bound = facts.bindings.get(node.id, [None])
        if None in bound:
            return None
        # In a loop's turn, what the name stood for in the one before is of no concern if it is bound before it is used.
        is_used = node.id in facts.exposed and frame.knows(node.id)
        before = _known(peek(frame, node)) if is_used else []
        found = _union(frame, bound, facts, depth)  # type: ignore[arg-type]
        return None if before is None or found is None else [*before, *found]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
        table = peek(frame, node.func.value, facts)
        found = _union(frame, node.args[1:], facts, depth) if isinstance(table, dict) else None
        inside = None if found is None else _contents(frame, table)
        return None if found is None or inside is None else [*found, *inside]
    if isinstance(node, ast.Call) and peek(frame, node.func) is getattr and len(node.args) == 2:
        owner = peek(frame, node.args[0], facts)
        values = [_peek_attribute(frame, owner, name) for name in _literals(frame, node.args[1], facts)]
        return None if not values or any(value is UNKNOWN for value in values) else values
    if isinstance(node, ast.Subscript):
        return _contents(frame, peek(frame, node.value, facts))
    return _known(peek(frame, node, facts))


def _literals(frame: Frame, node: ast.expr, facts: Facts) -> list[str]:
    """All texts that a field of a reply may be, by its type; none if that is not known.

    DSPy refuses other replies. A field that the program itself sets may be anything.
    """
    assigned = facts.attributes_assigned | frame.interpreter.snapshot.assigned
    if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)) or node.attr in assigned:
        return []
    name, found = node.value.id, list[str]()
    makers: list[Any] = [
        value.call and value.call.target for value in frame.values_of([name]) if type(value) is Pending
    ]
    if name in facts.stores:
        bound = facts.bindings.get(name, [None])
        is_asked = all(isinstance(each, ast.Call) for each in bound)
        makers = (is_asked and _union(frame, [each.func for each in bound], facts, 1)) or []  # type: ignore[union-attr]
    for maker in makers:
        signature = getattr(maker, "signature", None) if type(maker) is dspy.Predict else None
        field = None if signature is None else signature.output_fields.get(node.attr)
        texts = typing.get_args(field.annotation) if field and typing.get_origin(field.annotation) is Literal else ()
        if not texts or not all(isinstance(each, str) for each in texts):
            return []
        found += texts
    return found


def _union(frame: Frame, nodes: Iterable[ast.AST], facts: Facts, depth: int) -> list[Any] | None:
    found: list[Any] = []
    for node in nodes:
        more = call_targets(frame, node, facts, depth + 1)
        if more is None:
            return None
        found += more
    return found


def _known(value: Any) -> list[Any] | None:
    return None if value is UNKNOWN else [value]


def _items(frame: Frame, item: Item, facts: Facts, depth: int) -> list[Any] | None:
    """What a loop's target may be bound to."""
    source, position = item.source, item.position
    if isinstance(source, (ast.List, ast.Tuple)) and position is None:
        return _union(frame, source.elts, facts, depth)
    if isinstance(source, ast.Call) and not any(isinstance(arg, ast.Starred) for arg in source.args):
        name = source.func.id if isinstance(source.func, ast.Name) else getattr(source.func, "attr", "")
        if name == "zip" and position is not None and position < len(source.args):
            return _items(frame, Item(source.args[position], None), facts, depth + 1)
        if name == "range" or (name == "enumerate" and position == 0):
            return []
        if (name in ("enumerate", "list", "tuple", "reversed", "sorted")) and source.args:
            inner = None if name == "enumerate" else position
            return _items(frame, Item(source.args[0], inner), facts, depth + 1)
        if name in effect_free.VIEWS and isinstance(source.func, ast.Attribute):
            table = peek(frame, source.func.value, facts)
            return _contents(frame, table) if isinstance(table, dict) else None
        return None
    found = peek(frame, source, facts)
    return None if position is not None or isinstance(found, dict) else _contents(frame, found)


def _contents(frame: Frame, box: Any) -> list[Any] | None:
    """What is in a container that nobody is going to change."""
    if type(box) not in (list, tuple, dict, deque) or not frame.fiber.is_free(box):
        return None
    found = list(box.values() if isinstance(box, dict) else box)
    return None if any(type(each) is Pending for each in found) else found


def peek(frame: Frame, node: ast.AST, facts: Facts | None = None) -> Any:
    """The value of an expression, if it is known without running anything."""
    if isinstance(node, ast.Name):
        if facts is not None and node.id in facts.stores:
            return UNKNOWN
        try:
            value = frame.load(node.id)
        except BailOut:
            return UNKNOWN
        return UNKNOWN if type(value) is Pending else value
    if isinstance(node, ast.Attribute):
        return _peek_attribute(frame, peek(frame, node.value, facts), frame.unmangled(node.attr))
    if isinstance(node, ast.Call):
        return logger_made(peek(frame, node.func, facts), [], {}) or UNKNOWN
    return UNKNOWN


def _peek_attribute(frame: Frame, owner: Any, name: str) -> Any:
    cls = type(owner)
    if owner is UNKNOWN or cls is Parameter or cls in effect_free.RECORDS or effect_free.is_builtin(cls):
        return UNKNOWN
    if isinstance(owner, (types.ModuleType, type)):
        return _peek_static(owner, name)
    if is_logger(cls):
        return method_of(owner, name) or UNKNOWN
    if cls in LOGGERS or cls is Settings:
        return attribute_of_class(owner, name)
    if effect_free.is_box(cls):  # a field may be set until it is called
        return UNKNOWN if name in vars(owner) else attribute_of_class(owner, name)
    if not frame.fiber.is_free(frame.interpreter.snapshot.location(name)):
        return UNKNOWN
    try:
        value = frame.interpreter.snapshot.read(owner, name)
    except (BailOut, TypeError):
        return UNKNOWN
    if value is not MISSING:
        return value
    return attribute_of_class(owner, name)


def attribute_of_class(owner: Any, name: str) -> Any:
    """A method of an object, if it is a plain one."""
    static = next((vars(base)[name] for base in type(owner).__mro__ if name in vars(base)), None)
    if isinstance(static, types.FunctionType):
        return types.MethodType(static, owner)
    return static.__func__ if isinstance(static, staticmethod) else UNKNOWN


def why_not_called(module: dspy.Module) -> str:
    """Why calling a module is more than its `forward()`; empty if it is not."""
    if type(module) is dspy.Predict:
        return "its `forward` was replaced" if "forward" in vars(module) else ""
    # Not `cls.__call__`: a seam in its place is another object each time it is looked up.
    is_own = inspect.getattr_static(module, "__call__") is not inspect.getattr_static(dspy.Module, "__call__")
    return f"{type(module).__qualname__} has a `__call__` of its own" if is_own else ""


def why_not_with(frame: Frame, callee: Any, call: ast.Call, facts: Facts) -> str:
    """Why the keywords of a call make more of it than it is without them; empty if they don't."""
    if call.keywords and type(callee) is types.MethodType and effect_free.is_validator_of_model(callee):
        return f"`{ast.unparse(call.func)}()` with options may read attributes"
    files = [peek(frame, each.value, facts) for each in call.keywords if each.arg == "file"]
    is_told = callee is print or effect_free.is_progress_bar(callee)
    return "it is told to something of your own" if is_told and not all(map(is_stream_known, files)) else ""


def call_of_object(callee: Any) -> types.FunctionType | None:
    """What runs if an object of a class of the user's is called."""
    definer = next((base for base in type(callee).__mro__ if "__call__" in vars(base)), object)
    static = None if is_known(definer) or issubclass(type(callee), dspy.BaseLM) else vars(definer)["__call__"]
    return static if type(static) is types.FunctionType else None


def _peek_static(owner: Any, name: str) -> Any:
    if isinstance(owner, types.ModuleType):
        value = unpatched(vars(owner).get(name, UNKNOWN))
        return {} if value is os.environ else value  # as the scout sees it
    static = inspect.getattr_static(owner, name, UNKNOWN)
    is_plain = is_known(type(owner)) and isinstance(static, (types.FunctionType, staticmethod, classmethod, type))
    return getattr(owner, name) if is_plain else UNKNOWN


# What a call is given


def first_argument(frame: Frame, call: ast.Call, facts: Facts) -> Any:
    """What a function is given first, if that is an object: its methods are known then."""
    if not call.args:
        return UNKNOWN
    given = call.args[0]
    value = peek(frame, given.value if isinstance(given, ast.Starred) else given, facts)
    if isinstance(given, ast.Starred):
        value = value[0] if type(value) is tuple and value else UNKNOWN
    return value if value is not UNKNOWN and is_object(value) else UNKNOWN


def argument_for(callee: Any, call: ast.Call, name: str) -> ast.expr | None:
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


def name_of(callee: Any) -> str:
    """What a function or class is called."""
    if isinstance(callee, (types.FunctionType, types.BuiltinFunctionType, types.MethodType, type)):
        return str(callee.__qualname__)
    return type(callee).__qualname__


def is_object(value: Any) -> bool:
    """Whether it has containers that it does not hand over by itself."""
    cls = type(value)
    return cls not in (Parameter, Pending) and cls not in SCALARS and not effect_free.is_box(cls)


# Methods, by their names

_OF_VALUES = (str, bytes, int, float, re.Pattern, re.Match, datetime.datetime, datetime.timedelta)
_OF_CONTAINERS = (list, dict, set, tuple, frozenset, dspy.Prediction, dspy.Example)
_METHODS = frozenset(name for cls in (*_OF_VALUES, *_OF_CONTAINERS) for name in dir(cls)) | frozenset(
    ["most_common", "model_copy", "model_dump", "model_dump_json", "errors", "error_count", "hexdigest", "digest"]
)


def is_known_method(name: str) -> bool:
    """Whether it is a method of builtin types, or of predictions, by its name."""
    return name in _METHODS or name in MUTATORS


def is_harmless_method(frame: Frame, name: str) -> bool:
    """Whether a method of that name is one of a builtin type's: no class that the program may meet has its own."""
    return is_known_method(name) and name not in frame.interpreter.snapshot.methods(frame.function)
