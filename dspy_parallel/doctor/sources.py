"""The syntax tree of a function, found by the line at which its code begins."""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import os
import sysconfig
from types import FunctionType
from typing import Any

from .findings import Place

__all__ = ["FunctionNode", "is_library", "is_own_code", "is_readable", "place_of", "plain_function", "tree_of"]

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_LIBRARIES = tuple(
    {os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_EXAMPLE = os.path.join(_OWN, "demo", "level_agent")


def is_readable(function: FunctionType) -> bool:
    """Whether it is the user's own code: neither a library's, nor this package's, nor made from a string."""
    file = function.__code__.co_filename
    if file.startswith("<") and not linecache.getlines(file):
        return False
    return not is_library(file) and not is_own_code(function)


def is_library(file: str) -> bool:
    """Whether a file is the standard library's or an installed package's."""
    return os.path.realpath(file).startswith(_LIBRARIES)


def is_own_code(function: FunctionType) -> bool:
    """Whether it is this package's."""
    file = function.__code__.co_filename
    return file.startswith(_OWN) and not file.startswith(_EXAMPLE)


def plain_function(value: Any) -> FunctionType | None:
    """The function under decorators, partials, patches and bindings; None if there is none written in Python.

    What this package wraps around a function (`offload`, a generated `aforward`) is not looked through: it changes
    where the function runs.
    """
    for _ in range(32):
        if isinstance(value, functools.partial):
            value = value.func
        elif inspect.ismethod(value) or isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        elif isinstance(value, FunctionType):
            inner = getattr(value, "__overlap_original__", None)
            inner = inner or (None if is_own_code(value) else getattr(value, "__wrapped__", None))
            if inner is None:
                return value
            value = inner
        else:
            return None
    return None


@functools.cache
def _functions(file: str) -> dict[tuple[int, str], FunctionNode]:
    """All functions of a file, by the line at which their code begins (that of the first decorator) and name."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return {}
    found: dict[tuple[int, str], FunctionNode] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[first, node.name] = node
        elif isinstance(node, ast.Lambda):
            found.setdefault((node.lineno, "<lambda>"), node)
    return found


def tree_of(function: FunctionType) -> FunctionNode | None:
    """The function's syntax tree, with line numbers as in the file; None if its source is not to be had."""
    code = function.__code__
    return _functions(code.co_filename).get((code.co_firstlineno, code.co_name))


def place_of(value: Any) -> Place:
    """Where a function or class is defined: the line of its `def` or `class`."""
    function = plain_function(value)
    if function is not None:
        node = tree_of(function)
        line = node.lineno if node is not None else function.__code__.co_firstlineno
        return Place(function.__code__.co_filename, line, function.__qualname__)
    cls = value if isinstance(value, type) else type(value)
    try:
        lines, first = inspect.getsourcelines(cls)
        file = inspect.getsourcefile(cls) or ""
    except (OSError, TypeError):
        return Place(str(getattr(inspect.getmodule(cls), "__file__", "?")), 1, cls.__qualname__)
    # With decorators, the source begins above the word `class`.
    offset = next((n for n, line in enumerate(lines) if line.lstrip().startswith("class ")), 0)
    return Place(os.path.abspath(file), first + offset, cls.__qualname__)
