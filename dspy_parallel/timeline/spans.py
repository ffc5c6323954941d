"""One thing that took time, and how what was recorded becomes a list of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..events import OpenSpan

__all__ = ["Span", "frozen"]


@dataclass(frozen=True)
class Span:
    """Something that took time.

    Attributes:
        id: Its number in its timeline, by time of start.
        parent: The number of the span that it was a part of; None at the top.
        kind: `"module"`, `"predictor"`, `"lm"` (a call), `"wait"` (inside an LM call, named `limit`, `connection`,
            `reply` or `equal call`), `"tool"`, `"graph"`, `"step"`, `"node"`, `"chain"` (LangChain), `"thread"` (a
            program in a worker thread) or `"blocked"` (an event loop that one piece of code held up).
        name: What ran: an attribute or class, a model, a tool, a node, a file and line.
        start: Seconds since the recording began.
        end: The same.
        thread: The thread that it began in.
        facts: What else is known: `type` of a module; `cached`, `requests`, `retries` of an LM call; `status` of a
            reply; `step` of a node; `file`, `line`, `function` of what blocked; `error`, the type of the exception it
            ended with; `unfinished`. With `include_text=True` also `inputs` and `outputs`.
    """

    id: int
    parent: int | None
    kind: str
    name: str
    start: float
    end: float
    thread: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start


def frozen(
    recorded: Iterable[OpenSpan], began: float, now: float, threads: Mapping[int, str], *, with_text: bool = False
) -> list[Span]:
    """Spans of a recording, with the graph steps and the numbers of requests that follow from them.

    Args:
        recorded: What was opened, in any order.
        began: When the recording did; `time.perf_counter()` seconds.
        now: The end of what is still open; the same.
        threads: Names by identifier.
        with_text: Whether to keep inputs and outputs; a recording inside this one may have asked for them.
    """
    opened = _without_joined(sorted(recorded, key=lambda span: span.start))
    numbers = {id(span): number for number, span in enumerate(opened)}
    left_out = () if with_text else ("inputs", "outputs")
    facts = [{name: value for name, value in span.facts.items() if name not in left_out} for span in opened]
    for number, span in enumerate(opened):
        if span.end is None:
            facts[number]["unfinished"] = True
    _count_requests(opened, numbers, facts)
    spans = [
        Span(
            number,
            _number(number, span.parent, numbers),
            span.kind,
            span.name,
            span.start - began,
            (now if span.end is None else span.end) - began,
            threads.get(span.thread, str(span.thread)),
            facts[number],
        )
        for number, span in enumerate(opened)
    ]
    return _with_steps(spans)


def _without_joined(opened: list[OpenSpan]) -> list[OpenSpan]:
    """Without calls that took the reply to another one, made ahead of them by overlap: each request is seen once.

    Nor predictors and modules in which nothing else happens.
    """
    gone = {id(span) for span in opened if span.kind == "lm" and span.facts.get("joined")}
    if not gone:
        return opened
    emptied: set[int] = set()
    in_use: set[int] = set()
    for span in reversed(opened):  # parts begin after what they are parts of
        is_empty = span.kind in ("module", "predictor") and id(span) in emptied and id(span) not in in_use
        if is_empty:
            gone.add(id(span))
        if span.parent is not None and span.kind not in ("wait", "thread"):
            (emptied if id(span) in gone else in_use).add(id(span.parent))
    return [span for span in opened if id(span) not in gone and not (span.kind == "wait" and id(span.parent) in gone)]


def _number(number: int, parent: OpenSpan | None, numbers: Mapping[int, int]) -> int | None:
    """The parent's number, or that of the next one above it that was recorded, and began before it."""
    while parent is not None and numbers.get(id(parent), number) >= number:
        parent = parent.parent
    return None if parent is None else numbers[id(parent)]


def _count_requests(opened: Sequence[OpenSpan], numbers: Mapping[int, int], facts: list[dict[str, Any]]) -> None:
    """Each reply that was waited for is a request; one that failed and was followed by another, a retry."""
    failed: set[int] = set()
    for number, span in enumerate(opened):
        if span.kind != "wait" or span.name != "reply":
            continue
        call = span.parent
        while call is not None and call.kind != "lm":
            call = call.parent
        owner = None if call is None else numbers.get(id(call))
        if owner is None:
            continue
        about = facts[owner]
        about["requests"] = about.get("requests", 0) + 1
        if owner in failed:
            about["retries"] = about.get("retries", 0) + 1
            failed.discard(owner)
        if "error" in facts[number] or facts[number].get("status", 200) >= 400:
            failed.add(owner)


def _with_steps(spans: list[Span]) -> list[Span]:
    """Put the nodes of each step of a graph's run under a span of their own."""
    steps: dict[tuple[int, int], list[Span]] = {}
    for span in spans:
        if span.kind == "node" and span.parent is not None and "step" in span.facts:
            steps.setdefault((span.parent, span.facts["step"]), []).append(span)
    if not steps:
        return spans
    step_of: dict[int, int] = {}
    made: list[Span] = []
    for (graph, step), nodes in steps.items():
        number = len(spans) + len(made)
        start, end = min(node.start for node in nodes), max(node.end for node in nodes)
        made.append(Span(number, graph, "step", f"step {step}", start, end, nodes[0].thread))
        step_of.update((node.id, number) for node in nodes)
    # A step begins with its first node, and comes before it.
    ordered = sorted([*made, *spans], key=lambda span: span.start)
    numbers = {span.id: number for number, span in enumerate(ordered)}

    def renumbered(span: Span) -> Span:
        parent = step_of.get(span.id, span.parent)
        new = None if parent is None else numbers[parent]
        return Span(numbers[span.id], new, span.kind, span.name, span.start, span.end, span.thread, span.facts)

    return [renumbered(span) for span in ordered]
