"""What overlap gains in a program that waits for its calls in turn, and what stops it: from one run with a scout."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..analysis.places import Place
from ..events import OpenSpan
from ..overlap.explanation import OverlapReport, report_of
from ..overlap.prefetcher import Reason
from ..overlap.runner import run_ahead
from ..timeline import Span
from .findings import Finding, found
from .parts import Program

__all__ = ["Ahead", "GraphAhead", "gains", "run_with_scout", "told"]

WORTH = 1.1
"""A program that gets faster by less is left alone."""


@dataclass(frozen=True)
class Ahead:
    """A run with a scout ahead.

    Attributes:
        report: As `explain()` gives it.
        reasons: Where the scout had to stop, with whole paths.
        steps: For a graph, how long its nodes would have taken, by step and name, if each had made its calls itself.
    """

    report: OverlapReport
    reasons: list[Reason]
    steps: Mapping[tuple[int, str], float] = field(default_factory=dict[tuple[int, str], float])

    @property
    def stops(self) -> list[str]:
        """Where the scout had to stop, and why, for people."""
        return [f"{Place(*reason.place).short}: {reason.text}" for reason in self.reasons if reason.place is not None]

    @property
    def before(self) -> float:
        """Seconds without overlap: of calls one after the other, of a graph's steps, each with its slowest node."""
        slowest: dict[int, float] = {}
        for (step, _), seconds in self.steps.items():
            slowest[step] = max(slowest.get(step, 0.0), seconds)
        return sum(slowest.values()) if self.steps else self.report.sequential_seconds


async def run_with_scout(program: Any, inputs: Mapping[str, Any]) -> Ahead:
    """Run a sync program as `explain()` does, but on the running loop, which is watched.

    Raises:
        Exception: Whatever the program raises.
    """
    seen: list[Any] = []

    def watch(session: Any, scout: Any) -> None:
        session.notes_places = True
        seen.append((session, scout))

    await run_ahead(program, (), dict(inputs), "auto", watch)
    session, scout = seen[0]
    return Ahead(report_of(session, scout.reasons, program, None), [r for r in scout.reasons if r.place is not None])


class GraphAhead:
    """A run of a stock graph whose nodes are sync, parallelised and with a scout ahead."""

    def __init__(self, graph: Any) -> None:
        from ..langgraph import parallelize_graph

        self._graph = parallelize_graph(copy.copy(graph), overlap=True)
        self._seen: list[Any] = []

    async def stream(self, state: Mapping[str, Any], config: Any) -> AsyncIterator[Any]:
        """Its events, as `astream` gives them for debugging."""
        from ..langgraph.graph_scout import watcher

        def watch(run: Any) -> None:
            run.session.notes_places = True
            self._seen.append(run)

        token = watcher.set(watch)
        try:
            async for event in self._graph.astream(dict(state), config, stream_mode="debug"):
                yield event
        finally:
            watcher.reset(token)

    def seen(self, spans: Sequence[Span]) -> Ahead | None:
        """What the run showed; None if the scout could not follow the graph."""
        if not self._seen or not self._seen[0].scouts:
            return None
        run = self._seen[0]
        saved: defaultdict[tuple[int, str], float] = defaultdict(float)
        for call, span in run.made_in:
            maker = call.partner if call.partner is not None and call.partner.is_issued else call
            node = _node_of(span)
            if node is not None and not call.has_diverged:
                saved[node.facts["step"], node.name] += (maker.ended - maker.began) - (call.ended - call.began)
        steps: dict[tuple[int, str], float] = {}
        for span in spans:
            if span.kind == "node" and not _is_in_node(span, spans):
                key = int(span.facts["step"]), span.name
                steps[key] = max(steps.get(key, 0.0), span.seconds + saved[key])
        reasons = [reason for scout in run.scouts for reason in scout.reasons if reason.place is not None]
        return Ahead(report_of(run.session, run.scouts[-1].reasons, self._graph, None), reasons, steps=steps)


def _node_of(span: OpenSpan | None) -> OpenSpan | None:
    """The outermost node that a span is in."""
    found: OpenSpan | None = None
    while span is not None:
        found = span if span.kind == "node" and "step" in span.facts else found
        span = span.parent
    return found


def _is_in_node(span: Span, spans: Sequence[Span]) -> bool:
    while span.parent is not None:
        span = spans[span.parent]
        if span.kind == "node":
            return True
    return False


def told(ahead: Ahead) -> Iterator[str]:
    """The report as sentences."""
    report = ahead.report
    asked = [call for call in report.calls if call.is_predictor]
    if asked:
        seconds = sum(call.seconds for call in asked)
        calls = f"{len(asked)} predictor call{'s' if len(asked) > 1 else ''} of {seconds:.2f} s in all"
        steps = f", {ahead.before:.2f} s in LangGraph's steps" if ahead.steps else ""
        yield f"{calls}{steps}; with a scout ahead (overlap=True) the run took {report.overlapped_seconds:.2f} s."
    if ahead.steps:
        nodes = ", ".join(f"{name} {seconds:.2f} s" for (_, name), seconds in ahead.steps.items())
        yield f"Each node blocks a thread of LangGraph's: {nodes}."


def gains(ahead: Ahead, program: Program) -> Iterator[Finding]:
    """What `overlap=True` would gain, and the lines that keep it from gaining more."""
    report = ahead.report
    asked = [call for call in report.calls if call.is_predictor]
    ratio = ahead.before / report.overlapped_seconds if report.overlapped_seconds else 1.0
    if report.joined and ratio >= WORTH and not _overlaps(program):
        instead = "@async_module(overlap=True) above the class."
        if program.kind == "function":
            instead = f"await run({program.name}, ..., overlap=True), or @overlapped above it."
        words = {
            "calls": len(asked),
            "joined": sum(call.is_early for call in asked),
            "before": ahead.before,
            "as_it_is": "in LangGraph's steps" if ahead.steps else "one after the other",
            "after": report.overlapped_seconds,
            "ratio": ratio,
            "instead": "parallelize_graph(builder, overlap=True)." if ahead.steps else instead,
        }
        yield found("overlap", program.place, program.name, words)
    waiting = sum("in sequence since" in call.waited_for for call in asked)
    calls = f"{waiting} predictor call{'s' if waiting > 1 else ''}"
    for reason in ahead.reasons if waiting else ():
        assert reason.place is not None
        yield found("in-sequence", Place(*reason.place), program.name, {"reason": reason.text, "calls": calls})


def _overlaps(program: Program) -> bool:
    function = getattr(type(program.subject), "forward", None) if program.kind == "module" else program.subject
    if isinstance(program.subject, type):
        function = getattr(program.subject, "forward", None)
    return hasattr(function, "__overlap_original__")
