"""Timelines as JSON files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, cast

from ..errors import TimelineError
from .spans import Span

__all__ = ["as_json", "from_json"]

FORMAT = "dspy_parallel timeline"
VERSION = 1


def as_json(spans: Sequence[Span]) -> str:
    """All that is known of the spans."""
    rows = [
        [span.parent, span.kind, span.name, round(span.start, 7), round(span.end, 7), span.thread, dict(span.facts)]
        for span in spans
    ]
    return json.dumps({"format": FORMAT, "version": VERSION, "spans": rows}, separators=(",", ":"), default=str)


def from_json(text: str, where: str) -> list[Span]:
    """The spans of a file; it may come from anybody, so nothing in it is believed.

    Raises:
        TimelineError: If it is none of ours.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TimelineError(f"{where} is not JSON: {error}. Timeline.save() writes what this reads.") from None
    if not isinstance(data, dict) or cast("Any", data).get("format") != FORMAT:
        raise TimelineError(f"{where} is not a timeline. Timeline.save('name.json') writes what this reads.")
    if cast("Any", data).get("version") != VERSION:
        raise TimelineError(f"{where} has another version than {VERSION}. Read it with the release that wrote it.")
    rows = cast("Any", data).get("spans")
    spans: list[Span] = []
    for number, row in enumerate(rows if isinstance(rows, list) else [None]):
        span = _span(number, row)
        if span is None:
            raise TimelineError(f"{where}: span {number} is not what Timeline.save() writes. The file is damaged.")
        spans.append(span)
    return spans


def _span(number: int, row: Any) -> Span | None:
    if not isinstance(row, list) or len(cast("Any", row)) != 7:
        return None
    parent, kind, name, start, end, thread, facts = row
    is_parent = parent is None or (type(parent) is int and 0 <= parent < number)
    are_times = all(type(time) in (int, float) and math.isfinite(time) for time in (start, end)) and start <= end
    are_texts = all(isinstance(text, str) for text in (kind, name, thread))
    if not (is_parent and are_times and are_texts and isinstance(facts, dict)):
        return None
    return Span(number, parent, kind, name, float(start), float(end), thread, cast("dict[str, Any]", facts))
