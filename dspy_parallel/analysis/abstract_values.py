"""What a value may be, as far as can be told without running anything: a set of atoms.

A container is the set of what may be in it, and `DATA`. So an item of a value is the value itself; nothing is lost by
that but precision, as data cannot be called, and what is no data is known one by one.
"""

from __future__ import annotations

import ast
from typing import Any

__all__ = ["DATA", "NOTHING", "ONLY_DATA", "UNKNOWN", "Bound", "Closure", "Instance", "Partial", "SuperOf", "Value"]


class Plain:
    """An atom of which nothing more is known than its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


DATA = Plain("DATA")
"""Plain data, and all that comes of it: its methods and what they return."""
UNKNOWN = Plain("UNKNOWN")
"""Anything at all."""


class Instance:
    """All instances of a class that the code makes, or gets from an LM. There is one for each class."""

    def __init__(self, cls: type) -> None:
        self.cls = cls


class Bound:
    """A method with what it is bound to, and the class in which it was found."""

    def __init__(self, function: Any, owner: Any, definer: type | None) -> None:
        self.function = function
        self.owner = owner
        self.definer = definer
        self._key = function, owner, definer

    def __eq__(self, other: object) -> bool:
        return type(other) is Bound and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)


class Closure:
    """A function that the code defines. There is one for each place."""

    def __init__(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, frame: Any, scopes: Any) -> None:
        self.node = node
        self.frame = frame
        self.scopes = scopes


class Partial:
    """A `functools.partial` that the code makes. There is one for each place."""

    def __init__(self) -> None:
        self.functions: set[Any] = set()
        self.arguments: set[Any] = set()


class SuperOf:
    """`super()` in a method of `cls`."""

    def __init__(self, cls: type, owner: Any) -> None:
        self.cls = cls
        self.owner = owner
        self._key = cls, owner

    def __eq__(self, other: object) -> bool:
        return type(other) is SuperOf and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)


Value = frozenset[Any]
"""A set of atoms: of the kinds above, or `Held`, of which the value is known."""

NOTHING: Value = frozenset()
ONLY_DATA: Value = frozenset([DATA])
