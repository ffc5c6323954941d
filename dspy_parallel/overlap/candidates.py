"""What an expression in a piece of code that has not run yet may stand for, when it is called."""

from __future__ import annotations

import ast
import inspect
import types
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from . import purity
from .facts import Facts, Item
from .frame import Frame
from .inert import is_known, unpatched
from .outside import MISSING
from .strands import Halted, Pending

__all__ = ["UNKNOWN", "Parameter", "candidates", "peek"]

UNKNOWN: Any = object()
"""What is not known."""


@dataclass(frozen=True)
class Parameter:
    """Stands for what a parameter will be: whoever calls the function knows."""

    name: str


def candidates(frame: Frame, node: ast.AST, facts: Facts, depth: int = 0) -> list[Any] | None:
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
        before = [] if not frame.knows(node.id) else _known(peek(frame, node))
        found = _union(frame, bound, facts, depth)  # type: ignore[arg-type]
        return None if before is None or found is None else [*before, *found]
    if isinstance(node, ast.Subscript):
        return _contents(frame, peek(frame, node.value, facts))
    return _known(peek(frame, node, facts))


def _union(frame: Frame, nodes: Iterable[ast.AST], facts: Facts, depth: int) -> list[Any] | None:
    found: list[Any] = []
    for node in nodes:
        more = candidates(frame, node, facts, depth + 1)
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
        if name in purity.VIEWS and isinstance(source.func, ast.Attribute):
            table = peek(frame, source.func.value, facts)
            return _contents(frame, table) if isinstance(table, dict) else None
        return None
    found = peek(frame, source, facts)
    return None if position is not None or isinstance(found, dict) else _contents(frame, found)


def _contents(frame: Frame, box: Any) -> list[Any] | None:
    """What is in a container that nobody is going to change."""
    if type(box) not in (list, tuple, dict, deque) or not frame.strand.is_free(box):
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
        except Halted:
            return UNKNOWN
        return UNKNOWN if type(value) is Pending else value
    if isinstance(node, ast.Attribute):
        return _peek_attribute(frame, peek(frame, node.value, facts), frame.unmangled(node.attr))
    return UNKNOWN


def _peek_attribute(frame: Frame, owner: Any, name: str) -> Any:
    cls = type(owner)
    if owner is UNKNOWN or cls is Parameter or cls in purity.RECORDS or purity.is_builtin(cls):
        return UNKNOWN
    if isinstance(owner, (types.ModuleType, type)):
        return _peek_static(owner, name)
    try:
        value = frame.scout.outside.read(owner, name)
    except (Halted, TypeError):
        return UNKNOWN
    if value is not MISSING:
        return value
    static = next((vars(base)[name] for base in type(owner).__mro__ if name in vars(base)), None)
    if isinstance(static, types.FunctionType):
        return types.MethodType(static, owner)
    return static.__func__ if isinstance(static, staticmethod) else UNKNOWN


def _peek_static(owner: Any, name: str) -> Any:
    if isinstance(owner, types.ModuleType):
        return unpatched(vars(owner).get(name, UNKNOWN))
    static = inspect.getattr_static(owner, name, UNKNOWN)
    is_plain = is_known(type(owner)) and isinstance(static, (types.FunctionType, staticmethod, classmethod, type))
    return getattr(owner, name) if is_plain else UNKNOWN
