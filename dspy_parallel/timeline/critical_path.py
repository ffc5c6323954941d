"""The chain of spans that a recording's length comes from: had one of them been shorter, so had the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .spans import Span

__all__ = ["Segment", "children_of", "critical_path"]

SMALL_SECONDS = 1e-6


@dataclass(frozen=True)
class Segment:
    """A part of the critical path: a span in which, from `start` to `end`, none of its own parts was being waited for.

    Attributes:
        span: The span's number.
        start: Seconds since the recording began.
        end: The same.
    """

    span: int
    start: float
    end: float


def children_of(spans: Sequence[Span]) -> dict[int | None, list[Span]]:
    """Each span's parts, by time of start. What blocks a loop is no part of anything."""
    children: dict[int | None, list[Span]] = {}
    for span in spans:
        if span.kind != "blocked":
            children.setdefault(span.parent, []).append(span)
    return children


def _parts(parent: int | None, children: dict[int | None, list[Span]]) -> list[Span]:
    """A span's parts, with those of a thread in its place: where code runs is nothing that one waits for.

    With a scout ahead, a program's thread only waits for calls that are made elsewhere.
    """
    parts: list[Span] = []
    threads: list[Span] = []
    todo = list(children.get(parent, ()))
    while todo:
        part = todo.pop()
        (threads if part.kind == "thread" else parts).append(part)
        if part.kind == "thread":
            todo += children.get(part.id, ())
    return parts or (threads if parent is None else [])


def critical_path(spans: Sequence[Span]) -> list[Segment]:
    """The path, in order of time.

    From the end backwards: what a span waited for last is the part that ended last; before that one began, it waited
    for the part that had ended last by then; and so on, and in each of these parts again. (The method of Jaeger's and
    Uber's tools for traces of services, arXiv 2209.12493 among others.)
    """
    children = children_of(spans)
    if None not in children:
        return []
    path: list[Segment] = []
    begin, finish = min(s.start for s in children[None]), max(s.end for s in children[None])
    todo: list[tuple[int | None, float, float]] = [(None, begin, finish)]
    while todo:
        parent, start, moment = todo.pop()
        end = moment
        for part in sorted(_parts(parent, children), key=lambda part: (min(part.end, end), part.start), reverse=True):
            ended = min(part.end, end)
            if ended > moment + SMALL_SECONDS or part.start >= moment or ended <= start:
                continue
            if parent is not None and moment - ended > SMALL_SECONDS:
                path.append(Segment(parent, ended, moment))
            todo.append((part.id, max(part.start, start), ended))
            moment = part.start
        if parent is not None and moment - start > SMALL_SECONDS:
            path.append(Segment(parent, start, moment))
    return sorted(path, key=lambda segment: segment.start)
