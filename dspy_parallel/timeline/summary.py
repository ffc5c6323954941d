"""A timeline's figures in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from .critical_path import critical_path
from .escaping import printable
from .figures import figures_of
from .spans import Span

__all__ = ["summary"]


def summary(spans: Sequence[Span]) -> Iterator[tuple[str, str]]:
    """Lines of text with a style each."""
    figures = figures_of(spans)
    calls = f"{figures.lm_calls:,} call{'s' if figures.lm_calls != 1 else ''}"
    about = [f"{figures.cached:,} cached"] if figures.cached else []
    about += [f"{figures.retries:,} retries"] if figures.retries else []
    calls += f" ({', '.join(about)})" if about else ""
    yield (
        f"{figures.makespan:,.2f} s for {figures.lm_seconds:,.2f} s of LM time in {calls}: "
        f"parallelism {figures.parallelism:,.2f}, peak {figures.peak_in_flight:,} in flight",
        "bold",
    )
    path = _path(spans)
    if path and figures.makespan:
        share = figures.critical_seconds / figures.makespan
        yield f"critical path: {figures.critical_seconds:,.2f} s of LM calls ({share:.0%}): {path}", ""
    if figures.blocked_seconds:
        yield (
            f"lost: {figures.blocked_seconds:,.2f} s while code blocked the event loop, most at {_worst(spans)}",
            "blocked",
        )
    if figures.limit_seconds >= 0.01:
        yield f"lost: {figures.limit_seconds:,.2f} s of waiting for limits, all calls together", ""
    if figures.connection_seconds >= 0.01:
        yield f"lost: {figures.connection_seconds:,.2f} s of waiting for connections, all calls together", ""


def _path(spans: Sequence[Span], most: int = 6) -> str:
    """The LM calls, tools and what else takes time on the critical path, in order."""
    seconds: dict[int, float] = {}
    for segment in critical_path(spans):
        span = spans[segment.span]
        while span.kind in ("wait", "thread") and span.parent is not None:
            span = spans[span.parent]
        seconds[span.id] = seconds.get(span.id, 0.0) + segment.end - segment.start
    total = sum(seconds.values())
    steps = [spans[number] for number, taken in seconds.items() if taken >= 0.01 * total]
    # A predictor and its LM call, one after the other, are one.
    names = [name for name, _ in groupby(printable(_caller(span, spans)) for span in steps)]
    return " → ".join(names if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} more"])


def _caller(span: Span, spans: Sequence[Span]) -> str:
    """What a reader knows a call by: the predictor that makes it."""
    named = span
    while named.kind in ("lm", "predictor") and named.parent is not None:
        if named.kind == "predictor" and named.name != "predict":
            return named.name
        named = spans[named.parent]
    return span.name if named.kind in ("thread", "step") else named.name


def _worst(spans: Sequence[Span]) -> str:
    lost: dict[str, float] = {}
    for span in spans:
        if span.kind == "blocked":
            place = f"{span.facts.get('file', '')}:{span.facts.get('line', '')}"
            lost[place] = lost.get(place, 0.0) + span.seconds
    return printable(max(lost, key=lambda place: lost[place]))
