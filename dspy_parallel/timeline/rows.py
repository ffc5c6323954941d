"""Where spans are drawn: each below the one that it is a part of, and beside each other only what does not overlap."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from .critical_path import children_of
from .spans import Span

__all__ = ["rows_of"]


def rows_of(spans: Sequence[Span]) -> list[int]:
    """A row for each span, from 0 on. Blocked stretches have the first rows to themselves."""
    rows = [0] * len(spans)
    blocked = [span for span in spans if span.kind == "blocked"]
    first = 0
    for span, track in zip(blocked, _packed([(s.start, s.end) for s in blocked]), strict=True):
        rows[span.id] = track
        first = max(first, track + 1)
    children = children_of(spans)
    ends, heights, offsets = [s.end for s in spans], [1] * len(spans), [0] * len(spans)
    # Parts have higher numbers than what they are parts of: nothing begins before its parent does.
    for parent in [*range(len(spans) - 1, -1, -1), None]:
        parts = children.get(parent)
        if not parts:
            continue
        tracks = _packed([(part.start, ends[part.id]) for part in parts])
        height = [0] * (max(tracks) + 1)
        for part, track in zip(parts, tracks, strict=True):
            height[track] = max(height[track], heights[part.id])
        above = [0] * (len(height) + 1)
        for track, rows_high in enumerate(height):
            above[track + 1] = above[track] + rows_high
        for part, track in zip(parts, tracks, strict=True):
            offsets[part.id] = above[track]
        if parent is not None:
            heights[parent] = 1 + above[-1]
            ends[parent] = max(ends[parent], max(ends[part.id] for part in parts))
    for span in spans:
        if span.kind != "blocked":
            rows[span.id] = offsets[span.id] + (first if span.parent is None else rows[span.parent] + 1)
    return rows


def _packed(intervals: Sequence[tuple[float, float]]) -> list[int]:
    """A track for each interval, in order of start; always the first that is free."""
    free: list[int] = []
    taken: list[tuple[float, int]] = []
    tracks: list[int] = []
    for start, end in intervals:
        while taken and taken[0][0] <= start:
            heapq.heappush(free, heapq.heappop(taken)[1])
        track = heapq.heappop(free) if free else len(taken)
        heapq.heappush(taken, (max(end, start), track))
        tracks.append(track)
    return tracks
