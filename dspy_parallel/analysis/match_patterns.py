"""What `case` asks of the value that is matched, and what it binds to names."""

from __future__ import annotations

import ast
from typing import Any, Protocol

from .abstract_values import DATA, NOTHING, ONLY_DATA, Value
from .harmless_calls import is_a, read
from .reach import Arguments, Frame, Reach
from .reached_attributes import ask_class, attribute
from .reached_calls import call_method

__all__ = ["match"]


class Reader(Protocol):
    """Whoever looks at the function in which the pattern stands."""

    reach: Reach
    frame: Frame

    def value(self, node: ast.expr | None) -> Value: ...
    def items(self, node: ast.AST, value: Value) -> Value: ...


def match(reader: Reader, pattern: ast.pattern, subject: Value) -> None:
    """A value is matched with a pattern, and what is in it with the patterns in that."""
    name = getattr(pattern, "name", None) or getattr(pattern, "rest", None)
    if isinstance(name, str):
        reader.reach.assign(reader.frame, name, subject | ONLY_DATA)
    if isinstance(pattern, ast.MatchValue):
        reader.value(pattern.value)
    elif isinstance(pattern, ast.MatchClass):
        _match_class(reader, pattern, subject)
    elif isinstance(pattern, (ast.MatchSequence, ast.MatchMapping)):
        inner = reader.items(pattern, subject)
        if isinstance(pattern, ast.MatchMapping):
            objects, keys = subject - ONLY_DATA, NOTHING.union(*map(reader.value, pattern.keys))
            for method in ("keys", "get"):
                given = Arguments([keys, ONLY_DATA] if method == "get" else [])
                inner |= call_method(reader.reach, reader.frame, objects, method, given, pattern, method)
        for part in pattern.patterns:
            match(reader, part, inner)
    else:
        for part in getattr(pattern, "patterns", [getattr(pattern, "pattern", None)]):
            if part is not None:
                match(reader, part, subject)


def _match_class(reader: Reader, pattern: ast.MatchClass, subject: Value) -> None:
    classes = reader.value(pattern.cls)
    ask_class(reader.reach, reader.frame, classes, subject, pattern)
    for number, part in enumerate(pattern.patterns):
        found = subject
        for name in {_name_of(getattr(atom, "value", None), number) for atom in classes} - {""}:
            found |= _attribute(reader, pattern, subject, name)
        match(reader, part, found)
    for name, part in zip(pattern.kwd_attrs, pattern.kwd_patterns, strict=True):
        match(reader, part, _attribute(reader, pattern, subject, name))


def _name_of(cls: Any, number: int) -> str:
    """The attribute that a class has matched at this position; none of `str(...)` and its like."""
    names = read(cls, "__match_args__") if is_a(cls, type) else None
    return str(names[number]) if is_a(names, tuple) and number < len(names) else ""


def _attribute(reader: Reader, pattern: ast.pattern, subject: Value, name: str) -> Value:
    found = subject if DATA in subject else NOTHING  # what is in a record
    for atom in subject:
        found |= attribute(reader.reach, reader.frame, atom, name, pattern, name)
    return found
