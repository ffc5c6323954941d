"""Timelines as JSON, ours and that of trace viewers; files for their owner only: what ran is nobody else's business."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from ..errors import TargetError, TimelineError
from ..escapes import escaped
from .rows import rows_of
from .spans import Span

__all__ = ["as_json", "check_writable", "chrome_trace", "from_json", "write_private"]

FORMAT = "dspy_parallel timeline"
VERSION = 1

MAX_SECONDS = 1e9
"""From a recording's beginning; 30 years."""
MAX_COUNT = 10**9
"""Of retries and the like."""
MAX_DEPTH = 2000
"""Parts within parts; Python's own calls go half as deep."""


def write_private(path: str | os.PathLike[str], content: str) -> None:
    """Write a file that is made for its owner only (0600); one that is there keeps the rights that it was given."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(content)


def check_writable(path: str | os.PathLike[str], *endings: str) -> None:
    """Find out before anything is called.

    Args:
        path: The file.
        *endings: How its name may end.

    Raises:
        TimelineError: If it ends otherwise.
        TargetError: If the file cannot be written.
    """
    if endings and not os.fspath(path).endswith(endings):
        raise TimelineError(
            f"{path} is no kind of file that a timeline can be saved as. Its name ends in {', '.join(endings)}; "
            "*.trace.json is for https://ui.perfetto.dev."
        )
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise TargetError(f"The file {path} cannot be written: {error.strerror or error}.") from error


def as_json(spans: Sequence[Span], program: str = "", began: datetime | None = None) -> str:
    """All that is known of the spans, and what ran, and when."""
    rows = [
        [span.parent, span.kind, span.name, round(span.start, 7), round(span.end, 7), span.thread, dict(span.facts)]
        for span in spans
    ]
    about = {"format": FORMAT, "version": VERSION, "program": program, "began": began and began.isoformat()}
    return json.dumps({**about, "spans": rows}, separators=(",", ":"), default=str)


def chrome_trace(spans: Sequence[Span]) -> str:
    """Chrome's trace event format, for https://ui.perfetto.dev; its tracks are not threads, but rows of the page."""
    events = [
        {
            "ph": "X",
            "pid": 1,
            "tid": row + 1,
            "cat": span.kind,
            "name": escaped(span.name),
            "ts": round(span.start * 1e6, 3),
            "dur": round(span.seconds * 1e6, 3),
            "args": {"thread": span.thread, **span.facts},
        }
        for span, row in zip(spans, rows_of(spans), strict=True)
    ]
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, separators=(",", ":"), default=str)


def from_json(content: bytes, where: str) -> tuple[list[Span], str, datetime | None]:
    """The spans of a file, what ran, and when; it may come from anybody, so nothing in it is believed.

    Raises:
        TimelineError: If it is none of ours.
    """
    try:
        data: Any = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise TimelineError(f"{where} is not JSON: {error}. Timeline.save() writes what this reads.") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise TimelineError(f"{where} is not a timeline. Timeline.save('name.json') writes what this reads.")
    if data.get("version") != VERSION:
        raise TimelineError(f"{where} has another version than {VERSION}. Read it with the release that wrote it.")
    rows = data.get("spans")
    spans: list[Span] = []
    depths: list[int] = []
    for row in rows if isinstance(rows, list) else [None]:
        span = _span(row, spans)
        depth = 0 if span is None or span.parent is None else depths[span.parent] + 1
        if span is None or depth > MAX_DEPTH:
            raise TimelineError(f"{where}: span {len(spans)} is not what Timeline.save() writes. The file is damaged.")
        spans.append(span)
        depths.append(depth)
    try:
        began = datetime.fromisoformat(str(data.get("began")))
    except ValueError:
        began = None
    return spans, str(data.get("program") or ""), began


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
