"""The patterns of `match`, against values that are there."""

from __future__ import annotations

import ast
from collections import deque
from typing import Any

from ..runtime.thunks import BailOut
from .frame import Frame, check_plain

__all__ = ["fits"]


def fits(frame: Frame, pattern: ast.pattern, value: Any) -> bool:
    """Whether the value matches; if so, binds the pattern's names."""
    check_plain(value)
    found: dict[str, Any] = {}
    if not _fits(frame, pattern, value, found):
        return False
    for name, captured in found.items():
        frame.store(name, captured)
    return True


def _fits(frame: Frame, pattern: ast.pattern, value: Any, found: dict[str, Any]) -> bool:
    if isinstance(pattern, ast.MatchValue):
        other = frame.ready(frame.evaluate(pattern.value))
        check_plain(value, other)
        return bool(value == other)
    if isinstance(pattern, ast.MatchSingleton):
        return value is pattern.value
    if isinstance(pattern, ast.MatchOr):
        return any(_fits(frame, option, value, found) for option in pattern.patterns)
    if isinstance(pattern, ast.MatchAs):
        if pattern.pattern is not None and not _fits(frame, pattern.pattern, value, found):
            return False
        if pattern.name is not None:
            found[pattern.name] = value
        return True
    if isinstance(pattern, ast.MatchSequence):
        return _sequence(frame, pattern, value, found)
    if isinstance(pattern, ast.MatchMapping):
        return _mapping(frame, pattern, value, found)
    if isinstance(pattern, ast.MatchClass):
        return _class(frame, pattern, value, found)
    raise BailOut("a pattern is not understood")


def _sequence(frame: Frame, pattern: ast.MatchSequence, value: Any, found: dict[str, Any]) -> bool:
    if not isinstance(value, (list, tuple, deque, range)):
        return False
    value = list(value)
    star = next((i for i, inner in enumerate(pattern.patterns) if isinstance(inner, ast.MatchStar)), None)
    if star is None:
        if len(value) != len(pattern.patterns):
            return False
        return all(_fits(frame, inner, item, found) for inner, item in zip(pattern.patterns, value, strict=True))
    after = len(pattern.patterns) - star - 1
    if len(value) < star + after:
        return False
    middle = pattern.patterns[star]
    assert isinstance(middle, ast.MatchStar)
    if middle.name is not None:
        found[middle.name] = list(value[star : len(value) - after])
    before = zip(pattern.patterns[:star], value[:star], strict=True)
    behind = zip(pattern.patterns[star + 1 :], value[len(value) - after :], strict=True)
    return all(_fits(frame, inner, item, found) for inner, item in (*before, *behind))


def _mapping(frame: Frame, pattern: ast.MatchMapping, value: Any, found: dict[str, Any]) -> bool:
    if not isinstance(value, dict):
        return False
    keys = [frame.ready(frame.evaluate(key)) for key in pattern.keys]
    if not all(
        key in value and _fits(frame, inner, value[key], found)
        for key, inner in zip(keys, pattern.patterns, strict=True)
    ):
        return False
    if pattern.rest is not None:
        found[pattern.rest] = {key: item for key, item in value.items() if key not in keys}
    return True


def _class(frame: Frame, pattern: ast.MatchClass, value: Any, found: dict[str, Any]) -> bool:
    cls = frame.ready(frame.evaluate(pattern.cls))
    if cls not in (str, int, float, bool, bytes, list, tuple, dict, set) or pattern.kwd_patterns:
        raise BailOut("a class pattern is not understood")
    if not isinstance(value, cls) or len(pattern.patterns) > 1:
        return False
    return all(_fits(frame, inner, value, found) for inner in pattern.patterns)
