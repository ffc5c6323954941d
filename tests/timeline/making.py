"""Timelines made by hand."""

from __future__ import annotations

from typing import Any

from dspy_parallel import Span, Timeline


def timeline(*rows: tuple[Any, ...]) -> Timeline:
    """A timeline of rows `(start, end, parent, kind, name)` or `(..., facts)`, in order of start."""
    spans = []
    for number, (start, end, parent, kind, name, *facts) in enumerate(rows):
        spans.append(Span(number, parent, kind, name, float(start), float(end), "MainThread", *facts))
    return Timeline.of(spans)


def large(count: int = 100_000) -> Timeline:
    """So many spans: programs of two predictors with an LM call each, about 130 at a time."""
    rows: list[tuple[Any, ...]] = []
    for number in range(count // 5):
        at, first = number * 0.03, len(rows)
        rows += [
            (at, at + 3, None, "module", "Program"),
            (at + 0.01, at + 1.4, first, "predictor", "summarize"),
            (at + 0.02, at + 1.39, first + 1, "lm", "openai/any", {"requests": 1}),
            (at + 1.5, at + 2.9, first, "predictor", "classify"),
            (at + 1.51, at + 2.89, first + 3, "lm", "openai/any", {"requests": 1}),
        ]
    order = sorted(range(len(rows)), key=lambda number: rows[number][0])
    new = {old: number for number, old in enumerate(order)}
    return timeline(*((*rows[o][:2], None if rows[o][2] is None else new[rows[o][2]], *rows[o][3:]) for o in order))
