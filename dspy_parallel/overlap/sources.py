"""The syntax tree of a function, parsed once."""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
import types
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["ByCode", "Source", "source_of"]

T = TypeVar("T")

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True, eq=False)
class Source:
    """What is known of a function's source.

    Attributes:
        node: Its syntax tree, with line numbers as in the file; None if there is none to be had.
        problem: Why there is none, in words.
        mangling: The class whose private names (`__name`) the function may use.
    """

    node: ast.FunctionDef | None
    problem: str = ""
    mangling: str = ""


class ByCode(Generic[T]):
    """What is known of code objects, each of its own: equal ones may be from different files."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[types.CodeType], T]] = {}

    def get(self, code: types.CodeType) -> T | None:
        """What is known of it."""
        known = self._known.get(id(code))
        return known[1] if known is not None else None

    def set(self, code: types.CodeType, value: T) -> T:
        """Remember something for as long as the code exists; return it."""
        key = id(code)
        self._known[key] = weakref.ref(code, lambda _: self._known.pop(key, None)), value
        return value


_sources: ByCode[Source] = ByCode()


def source_of(function: types.FunctionType) -> Source:
    """The source of a function, from a file, a notebook cell, or whatever else linecache knows."""
    code = function.__code__
    module = str(function.__globals__.get("__name__", ""))
    if module.partition(".")[0] in sys.stdlib_module_names:
        return Source(None, f"{function.__qualname__} may have effects")
    source = _sources.get(code)
    return source if source is not None else _sources.set(code, _read(code, function.__qualname__))


def _read(code: types.CodeType, qualname: str) -> Source:
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return Source(None, f"{code.co_name} is a generator or coroutine function")
    lines = linecache.getlines(code.co_filename)
    if not lines:
        return Source(None, f"there is no source of {code.co_name}")
    try:
        block = inspect.getblock(lines[code.co_firstlineno - 1 :])
        # Not dedented, which would change strings that go over several lines.
        tree = ast.parse("if 1:\n" + "".join(block) if block[0][:1].isspace() else "\n" + "".join(block))
    except (SyntaxError, IndexError, ValueError):
        return Source(None, f"the source of {code.co_name} cannot be read")
    ast.increment_lineno(tree, code.co_firstlineno - 2)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            if not _fits(node, code):
                return Source(None, f"the source of {code.co_name} has changed since it was imported")
            parts = qualname.split(".")
            return Source(node, mangling=parts[-2].lstrip("_") if len(parts) > 1 and parts[-2] != "<locals>" else "")
    return Source(None, f"the source of {code.co_name} cannot be found")


def _fits(node: ast.FunctionDef, code: types.CodeType) -> bool:
    """Whether the tree is that of the code: a file may have changed since it was imported."""
    arguments = node.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    count = code.co_argcount + code.co_kwonlyargcount
    if list(code.co_varnames[:count]) != names:
        return False
    known = {*code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars} | _inner_names(code)
    annotations = {id(part) for annotation in _annotations(node) for part in ast.walk(annotation)}
    for part in (part for statement in node.body for part in ast.walk(statement)):
        name = part.id if isinstance(part, ast.Name) else part.attr if isinstance(part, ast.Attribute) else "__debug__"
        if name not in known and not name.startswith("__") and id(part) not in annotations:
            return False
    return True


def _annotations(node: ast.FunctionDef) -> Iterator[ast.expr]:
    """They may have left no trace in the code."""
    for part in ast.walk(node):
        found = part.returns if isinstance(part, ast.FunctionDef) else getattr(part, "annotation", None)
        if found is not None:
            yield found


def _inner_names(code: types.CodeType) -> set[str]:
    names: set[str] = set()
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= {*constant.co_names, *constant.co_varnames, *constant.co_freevars, *constant.co_cellvars}
            names |= _inner_names(constant)
    return names
