"""The patterns of `match`, against values that are there."""

from __future__ import annotations

import ast
from typing import Any

from . import expressions
from .frame import Frame
from .strands import Halted

__all__ = ["fits"]


def fits(frame: Frame, pattern: ast.pattern, value: Any) -> bool:
    """Whether the value matches; binds the pattern's names."""
    if isinstance(pattern, ast.MatchValue):
        other = frame.ready(expressions.evaluate(frame, pattern.value))
        expressions.check_plain(value, other)
        return bool(value == other)
    if isinstance(pattern, ast.MatchSingleton):
        return value is pattern.value
    if isinstance(pattern, ast.MatchOr):
        return any(fits(frame, option, value) for option in pattern.patterns)
    if isinstance(pattern, ast.MatchAs):
        if pattern.pattern is not None and not fits(frame, pattern.pattern, value):
            return False
        if pattern.name is not None:
            frame.store(pattern.name, value)
        return True
    if isinstance(pattern, ast.MatchSequence):
        return _sequence(frame, pattern, value)
    if isinstance(pattern, ast.MatchMapping):
        return _mapping(frame, pattern, value)
    if isinstance(pattern, ast.MatchClass):
        return _class(frame, pattern, value)
    raise Halted("a pattern is not understood")


def _sequence(frame: Frame, pattern: ast.MatchSequence, value: Any) -> bool:
    if type(value) not in (list, tuple):
        return False
    star = next((i for i, inner in enumerate(pattern.patterns) if isinstance(inner, ast.MatchStar)), None)
    if star is None:
        if len(value) != len(pattern.patterns):
            return False
        return all(fits(frame, inner, item) for inner, item in zip(pattern.patterns, value, strict=True))
    after = len(pattern.patterns) - star - 1
    if len(value) < star + after:
        return False
    middle = pattern.patterns[star]
    assert isinstance(middle, ast.MatchStar)
    if middle.name is not None:
        frame.store(middle.name, list(value[star : len(value) - after]))
    before = zip(pattern.patterns[:star], value[:star], strict=True)
    behind = zip(pattern.patterns[star + 1 :], value[len(value) - after :], strict=True)
    return all(fits(frame, inner, item) for inner, item in (*before, *behind))


def _mapping(frame: Frame, pattern: ast.MatchMapping, value: Any) -> bool:
    if type(value) is not dict:
        return False
    keys = [frame.ready(expressions.evaluate(frame, key)) for key in pattern.keys]
    if not all(
        key in value and fits(frame, inner, value[key]) for key, inner in zip(keys, pattern.patterns, strict=True)
    ):
        return False
    if pattern.rest is not None:
        frame.store(pattern.rest, {key: item for key, item in value.items() if key not in keys})
    return True


def _class(frame: Frame, pattern: ast.MatchClass, value: Any) -> bool:
    cls = frame.ready(expressions.evaluate(frame, pattern.cls))
    if cls not in (str, int, float, bool, bytes, list, tuple, dict, set) or pattern.kwd_patterns:
        raise Halted("a class pattern is not understood")
    if not isinstance(value, cls) or len(pattern.patterns) > 1:
        return False
    return all(fits(frame, inner, value) for inner in pattern.patterns)
