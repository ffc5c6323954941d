"""Which keys of the state a node reads and writes, as far as its source says."""

from __future__ import annotations

import ast
import functools
import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dspy

from ..analysis.def_use import parameters_of
from ..analysis.source import ByCode, source_of
from ..overlap.runner import may_lead_to_lm

__all__ = ["NOTHING_KNOWN", "Keys", "code_of", "keys_of"]


@dataclass(frozen=True)
class Keys:
    """What the source of a node's function says.

    Attributes:
        reads: The keys of its first argument that it looks at; None if that cannot be said.
        may: The keys that it may return; None if that cannot be said, and it may return a `Command` as well.
        must: Those that it returns in any case.
        is_pure: Whether it sets nothing but its own variables.
        may_ask: Whether it may come to an LM call that the scout can make.
    """

    reads: frozenset[str] | None = None
    may: frozenset[str] | None = None
    must: frozenset[str] = frozenset()
    is_pure: bool = False
    may_ask: bool = False


NOTHING_KNOWN = Keys()
_known: ByCode[Keys] = ByCode()


def keys_of(function: Any) -> Keys:
    """For what a node calls."""
    function, is_method = code_of(function)
    if function is None:
        return NOTHING_KNOWN
    function = getattr(function, "__overlap_original__", function)
    known = _known.get(function.__code__)
    return known if known is not None else _known.set(function.__code__, _read(function, is_method))


def code_of(called: Any) -> tuple[types.FunctionType | None, bool]:
    """The function that is run by a call of a function, method, module, object or partial; whether it has a `self`."""
    while isinstance(called, functools.partial) and not called.args:
        called = called.func
    if isinstance(called, types.FunctionType):
        return called, False
    if isinstance(called, types.MethodType):
        found: Any = called.__func__
    elif isinstance(called, dspy.Module):
        found = vars(called).get("forward") or inspect.getattr_static(type(called), "forward", None)
    else:
        found = inspect.getattr_static(type(called), "__call__", None)
    return (found if isinstance(found, types.FunctionType) else None), True


def _read(function: types.FunctionType, is_method: bool) -> Keys:
    node = source_of(function, any_kind=True).node
    if node is None:
        return NOTHING_KNOWN
    own = list(_own(node))
    returns = [_returned(part.value) for part in own if isinstance(part, ast.Return)]
    if not isinstance(node.body[-1], (ast.Return, ast.Raise)):
        returns.append(frozenset())
    sets = (ast.Global, ast.Nonlocal)
    is_pure = not any(
        isinstance(part, sets) or (isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store))
        for part in ast.walk(node)
    )
    names = parameters_of(node.args)[is_method:]
    reads = _looked_at(node, names[0]) if names else None
    known = [each for each in returns if each is not None]
    may_ask = any(isinstance(part, ast.Call) and may_lead_to_lm(part) for part in ast.walk(node))
    if len(known) < len(returns):
        return Keys(reads, is_pure=is_pure, may_ask=may_ask)
    must = frozenset.intersection(*known) if known else frozenset[str]()  # nothing is returned by what only raises
    return Keys(reads, frozenset().union(*known), must, is_pure, may_ask)


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """What is in a function, without the functions in it."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield from _own(child)


def _returned(value: ast.expr | None) -> frozenset[str] | None:
    if value is None or (isinstance(value, ast.Constant) and value.value is None):
        return frozenset()
    keys = value.keys if isinstance(value, ast.Dict) else [None]
    names = [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    return frozenset(names) if len(names) == len(keys) else None


def _looked_at(node: ast.AST, name: str) -> frozenset[str] | None:
    """The keys or attributes of a variable that are read, if nothing else is done with it."""
    found: set[str] = set()
    uses = sum(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node))
    for part in ast.walk(node):
        key: Any = None
        match part:
            case ast.Subscript(value=ast.Name(id=used), slice=ast.Constant(value=str(key)), ctx=ast.Load()):
                pass
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=used), attr="get"), args=[ast.Constant(value=str(key)), *_]
            ):
                pass
            case ast.Compare(
                left=ast.Constant(value=str(key)), ops=[ast.In() | ast.NotIn()], comparators=[ast.Name(id=used)]
            ):
                pass
            case ast.Attribute(value=ast.Name(id=used), attr=key, ctx=ast.Load()) if not hasattr(dict, key):
                pass
            case _:
                continue
        if used == name:
            found.add(key)
            uses -= 1
    return None if uses else frozenset(found)
