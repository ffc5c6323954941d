"""What a timeline comes to, in numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .critical_path import critical_path
from .spans import Span

__all__ = ["Figures", "busy_pieces", "call_pieces", "figures_of", "lm_calls_above", "waits_by_call"]

LIMIT_WAITS = ("limit", "connection", "equal call")
"""Waits that are not for the LM."""


@dataclass(frozen=True)
class Figures:
    """Numbers about a timeline; times in seconds.

    Attributes:
        makespan: From the first start to the last end.
        lm_calls: LM calls, cached ones too.
        cached: Those that the cache answered.
        retries: Requests that were made again.
        lm_seconds: Sum of all LM calls' time, without what they waited for a limit or a connection.
        parallelism: `lm_seconds / makespan`: how many LM calls were under way on average.
        peak_in_flight: LM calls under way at one moment, at most.
        critical_seconds: The part of the critical path that is LM calls: no parallel run of them is faster.
        blocked_seconds: Time in which code that blocks held up an event loop.
        limit_seconds: Sum of waits for limits.
        connection_seconds: Sum of waits for a free connection, or for a new one.
    """

    makespan: float = 0.0
    lm_calls: int = 0
    cached: int = 0
    retries: int = 0
    lm_seconds: float = 0.0
    parallelism: float = 0.0
    peak_in_flight: int = 0
    critical_seconds: float = 0.0
    blocked_seconds: float = 0.0
    limit_seconds: float = 0.0
    connection_seconds: float = 0.0


def figures_of(spans: Sequence[Span]) -> Figures:
    """The figures of these spans."""
    if not spans:
        return Figures()
    makespan = max(s.end for s in spans) - min(s.start for s in spans)
    above = lm_calls_above(spans)
    calls = [s for s in spans if s.kind == "lm" and above[s.id] is None]
    busy = busy_pieces(spans)
    seconds = sum(end - start for start, end in busy)
    return Figures(
        makespan=makespan,
        lm_calls=len(calls),
        cached=sum(bool(call.facts.get("cached")) for call in calls),
        retries=sum(call.facts.get("retries", 0) for call in calls),
        lm_seconds=seconds,
        parallelism=seconds / makespan if makespan else 0.0,
        peak_in_flight=_peak(busy),
        critical_seconds=_critical(spans, above),
        blocked_seconds=_union((s.start, s.end) for s in spans if s.kind == "blocked"),
        limit_seconds=sum(s.seconds for s in spans if s.kind == "wait" and s.name == "limit"),
        connection_seconds=sum(s.seconds for s in spans if s.kind == "wait" and s.name == "connection"),
    )


def lm_calls_above(spans: Sequence[Span]) -> list[Span | None]:
    """For each span the innermost LM call that it is a part of."""
    found: list[Span | None] = []
    for span in spans:
        parent = None if span.parent is None else spans[span.parent]
        found.append(parent if parent is None or parent.kind == "lm" else found[parent.id])
    return found


def _critical(spans: Sequence[Span], above: Sequence[Span | None]) -> float:
    waits, total = waits_by_call(spans), 0.0
    for segment in critical_path(spans):
        span = spans[segment.span]
        call = span if span.kind == "lm" else above[span.id]
        pieces = [] if call is None else call_pieces(call, waits)
        total += sum(max(0.0, min(end, segment.end) - max(start, segment.start)) for start, end in pieces)
    return total


def waits_by_call(spans: Sequence[Span]) -> dict[int, list[Span]]:
    """What LM calls waited for, by the calls' numbers."""
    waits: dict[int, list[Span]] = {}
    for span in spans:
        if span.kind == "wait" and span.parent is not None:
            waits.setdefault(span.parent, []).append(span)
    return waits


def call_pieces(call: Span, waits: dict[int, list[Span]]) -> list[tuple[float, float]]:
    """The times at which the call was under way at the LM, as far as is known.

    Not while it waits for a limit or a connection, nor before that, unless it had a reply by then.
    """
    pieces: list[tuple[float, float]] = []
    start, replied = call.start, False
    for wait in waits.get(call.id, ()):
        if wait.name not in LIMIT_WAITS:
            replied = True
            continue
        if replied and wait.start > start:
            pieces.append((start, min(wait.start, call.end)))
        start, replied = max(start, wait.end), False
    if call.end > start:
        pieces.append((start, call.end))
    return pieces


def busy_pieces(spans: Sequence[Span]) -> list[tuple[float, float]]:
    """When an LM call is under way; one that another LM makes is not a second one."""
    above, waits = lm_calls_above(spans), waits_by_call(spans)
    calls = (span for span in spans if span.kind == "lm" and above[span.id] is None)
    return [piece for call in calls for piece in call_pieces(call, waits)]


def _peak(pieces: Iterable[tuple[float, float]]) -> int:
    peak = now = 0
    # Ends come before starts: calls in a row are not two at once.
    changes = sorted(change for start, end in pieces for change in ((start, 1), (end, -1)))
    for _, change in changes:
        now += change
        peak = max(peak, now)
    return peak


def _union(pieces: Iterable[tuple[float, float]]) -> float:
    total, until = 0.0, float("-inf")
    for start, end in sorted(pieces):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total
