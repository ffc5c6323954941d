"""Overlap: independent predictor calls inside one sequential `forward()` run at once.

The *main line* is the program itself, unchanged. The *scout* interprets its syntax tree ahead of it and makes the LM
calls that it is certain to make, as soon as their inputs are known. Where to read on: `session` (what the two share),
`wire` (where the main line takes a reply), `scout`, `strands` (how the scout waits), `expressions`, `statements` and
`calls` (the interpreter), `outside`, `regards` and `analysis` (what it may rely on).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import overlapped
    from .declarations import ordered, pure
    from .explanation import CallReport, OverlapReport, explain

__all__ = ["CallReport", "OverlapReport", "explain", "ordered", "overlapped", "pure"]

# Imported when first used: only programs that overlap need the scout.
_NAMES = {"api": "overlapped", "declarations": "ordered pure", "explanation": "CallReport OverlapReport explain"}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    return value
