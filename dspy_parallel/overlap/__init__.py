"""Overlap: independent predictor calls inside one sequential `forward()` run at once.

The *main line* is the program itself, unchanged. The *scout* interprets its syntax tree ahead of it and makes the LM
calls that it is certain to make, as soon as their inputs are known. Where to read on: `session` (what the two share),
`wire` (where the main line takes a reply), `scout`, `strands` (how the scout waits), `expressions`, `statements` and
`calls` (the interpreter), `outside`, `purity` and `regards` (what it may rely on).
"""

from __future__ import annotations

from .declarations import ordered, pure
from .plain import overlapped
from .report import CallReport, OverlapReport, explain

__all__ = ["CallReport", "OverlapReport", "explain", "ordered", "overlapped", "pure"]
