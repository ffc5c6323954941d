"""Timelines as JSON files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from ..errors import TimelineError
from .spans import Span

__all__ = ["as_json", "from_json"]

FORMAT = "dspy_parallel timeline"
VERSION = 1

MAX_SECONDS = 1e9
"""From a recording's beginning; 30 years."""
MAX_COUNT = 10**9
"""Of retries and the like."""
MAX_DEPTH = 2000
"""Parts within parts; Python's own calls go half as deep."""


def as_json(spans: Sequence[Span]) -> str:
    """All that is known of the spans."""
    rows = [
        [span.parent, span.kind, span.name, round(span.start, 7), round(span.end, 7), span.thread, dict(span.facts)]
        for span in spans
    ]
    return json.dumps({"format": FORMAT, "version": VERSION, "spans": rows}, separators=(",", ":"), default=str)


def from_json(content: bytes, where: str) -> list[Span]:
    """The spans of a file; it may come from anybody, so nothing in it is believed.

    Raises:
        TimelineError: If it is none of ours.
    """
    try:
        data = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TimelineError(f"{where} is not JSON: {error}. Timeline.save() writes what this reads.") from None
    if not isinstance(data, dict) or cast("Any", data).get("format") != FORMAT:
        raise TimelineError(f"{where} is not a timeline. Timeline.save('name.json') writes what this reads.")
    if cast("Any", data).get("version") != VERSION:
        raise TimelineError(f"{where} has another version than {VERSION}. Read it with the release that wrote it.")
    rows = cast("Any", data).get("spans")
    spans: list[Span] = []
    depths: list[int] = []
    for row in rows if isinstance(rows, list) else [None]:
        span = _span(row, spans)
        depth = 0 if span is None or span.parent is None else depths[span.parent] + 1
        if span is None or depth > MAX_DEPTH:
            raise TimelineError(f"{where}: span {len(spans)} is not what Timeline.save() writes. The file is damaged.")
        spans.append(span)
        depths.append(depth)
    return spans


def _span(row: Any, before: Sequence[Span]) -> Span | None:
    """The span of a row that comes after these spans; None if there is anything wrong with it."""
    if not isinstance(row, list) or len(cast("Any", row)) != 7:
        return None
    parent, kind, name, start, end, thread, facts = row
    is_parent = parent is None or (type(parent) is int and 0 <= parent < len(before))
    are_texts = all(isinstance(text, str) for text in (kind, name, thread))
    if not (is_parent and are_texts and _is_time(start) and _is_time(end) and isinstance(facts, dict)):
        return None
    if not (before[-1].start if before else start) <= start <= end or not all(
        _is_fact(*item) for item in facts.items()
    ):
        return None
    return Span(len(before), parent, kind, name, float(start), float(end), thread, cast("dict[str, Any]", facts))


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and -MAX_SECONDS <= value <= MAX_SECONDS


def _is_fact(name: str, value: Any) -> bool:
    if name in ("requests", "retries"):
        return type(value) is int and 0 <= value <= MAX_COUNT
    return value is None or isinstance(value, (str, bool)) or _is_time(value)
