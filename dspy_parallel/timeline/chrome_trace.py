"""A timeline in Chrome's trace event format, for https://ui.perfetto.dev and chrome://tracing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .rows import tracks_of
from .spans import Span

__all__ = ["chrome_trace"]


def chrome_trace(spans: Sequence[Span]) -> str:
    """The trace, as JSON. Its tracks are not threads: on one track, spans are either apart or one within the other."""
    tracks = tracks_of(spans)
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": "dspy_parallel"}},
        *(
            {"ph": "M", "pid": 1, "tid": track, "name": "thread_name", "args": {"name": f"track {track}"}}
            for track in sorted(set(tracks))
        ),
        *(
            {
                "ph": "X",
                "pid": 1,
                "tid": track,
                "cat": span.kind,
                "name": span.name,
                "ts": round(span.start * 1e6, 3),
                "dur": round(span.seconds * 1e6, 3),
                "args": {"thread": span.thread, **span.facts},
            }
            for span, track in zip(spans, tracks, strict=True)
        ),
    ]
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, separators=(",", ":"), default=str)
