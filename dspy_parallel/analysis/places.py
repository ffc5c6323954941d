"""Where functions and classes are defined, and whose they are."""

from __future__ import annotations

import functools
import inspect
import os
import sysconfig
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from .source import source_of

__all__ = ["Place", "is_library", "is_users", "package_of", "place_of", "plain_function"]

_LIBRARIES = tuple(
    {os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_EXAMPLE = os.path.join(_OWN, "demo", "level_agent")


@dataclass(frozen=True)
class Place:
    """A line of source.

    Attributes:
        file: Its absolute path.
        line: From 1 on.
        function: The function or class that it is in.
    """

    file: str
    line: int
    function: str = ""

    @property
    def short(self) -> str:
        """File and line, seen from the current directory."""
        relative = os.path.relpath(self.file) if os.path.isabs(self.file) else self.file
        return f"{self.file if relative.startswith('..') else relative}:{self.line}"


@functools.cache
def package_of(defined: Any) -> str:
    """The top-level package that a class or function says to be of; it may say anything, as Cython's types do."""
    return str(defined.__module__).partition(".")[0]


def is_library(file: str) -> bool:
    """Whether a file is the standard library's, an installed package's, or this package's."""
    path = os.path.realpath(file)
    is_own = file.startswith(_OWN) and not file.startswith(_EXAMPLE)
    return is_own or path.startswith(_LIBRARIES) or f"{os.sep}site-packages{os.sep}" in path


def is_users(function: Any) -> bool:
    """Whether it is a function of the user's own."""
    return isinstance(function, FunctionType) and not is_library(function.__code__.co_filename)


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
            is_own = value.__code__.co_filename.startswith(_OWN)
            inner = inner or (None if is_own else getattr(value, "__wrapped__", None))
            if inner is None:
                return value
            value = inner
        else:
            return None
    return None


def place_of(value: Any) -> Place:
    """Where a function or class is defined: the line of its `def` or `class`."""
    function = plain_function(value)
    if function is not None:
        node = source_of(function, any_kind=True).node
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
