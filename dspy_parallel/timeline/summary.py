"""A timeline's figures in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from ..escapes import escaped
from .critical_path import critical_path
from .figures import figures_of
from .spans import Span

__all__ = ["summary"]


def summary(spans: Sequence[Span], *, whole: bool = False) -> Iterator[tuple[str, str]]:
    """Lines of text with a style each.

    Args:
        spans: Of a timeline.
        whole: Whether the critical path has all that is on it, however long it gets.
    """
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
    path = _path(spans, len(spans) if whole else 6)
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


def _path(spans: Sequence[Span], most: int) -> str:
    """The LM calls, tools and what else takes time on the critical path, in order."""
    seconds: dict[int, float] = {}
    for segment in critical_path(spans):
        span = spans[segment.span]
        while span.kind in ("wait", "thread") and span.parent is not None:
            span = spans[span.parent]
        seconds[span.id] = seconds.get(span.id, 0.0) + segment.end - segment.start
    total = sum(seconds.values())
    modules = [span for span in spans if span.kind == "module" and _owner(span, spans) is None]
    program = modules[0].id if len(modules) == 1 else None
    steps = [spans[number] for number, taken in seconds.items() if taken >= 0.01 * total]
    # A predictor and its LM call, one after the other, are one.
    names = [name for name, _ in groupby(escaped(_name(span, spans, program)) for span in steps)]
    return " → ".join(names if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} more"])


def _owner(span: Span, spans: Sequence[Span]) -> Span | None:
    """The module, predictor or node that a span is a part of."""
    while span.parent is not None:
        span = spans[span.parent]
        if span.kind in ("module", "predictor", "node"):
            return span
    return None


def _name(span: Span, spans: Sequence[Span], program: int | None) -> str:
    """What a reader knows a call by: the predictor that makes it, with the modules that hold it and its node."""
    names: list[str] = []
    if span.kind not in ("lm", "module", "predictor"):
        names.append(span.name)
    owner = span if span.kind in ("module", "predictor") else _owner(span, spans) if span.kind == "lm" else None
    while owner is not None:
        above = _owner(owner, spans)
        # Where there is a better name: neither DSPy's own predictor in a ChainOfThought, nor the program as a
        # whole, nor the class of a module that is all that a node does.
        is_class = owner.name == owner.facts.get("type") and above is not None and above.kind == "node"
        if not (owner.name == "predict" or (names and (is_class or owner.id == program))):
            names.insert(0, owner.name)
        owner = above
    return ".".join(names) or span.name


def _worst(spans: Sequence[Span]) -> str:
    lost: dict[str, float] = {}
    for span in spans:
        if span.kind == "blocked":
            place = f"{span.facts.get('file', '')}:{span.facts.get('line', '')}"
            lost[place] = lost.get(place, 0.0) + span.seconds
    return escaped(max(lost, key=lambda place: lost[place]))
