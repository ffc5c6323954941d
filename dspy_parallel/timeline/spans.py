"""One thing that took time, and how what was recorded becomes a list of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
            `reply` or `equal call`), `"tool"`, `"graph"`, `"node"`, `"chain"` (LangChain), `"thread"` (a program in a
            worker thread), `"stop"` (a line at which overlap had to stop) or `"blocked"` (an event loop that one piece
            of code held up).
        name: What ran: an attribute or class, a model, a tool, a node, a file and line.
        start: Seconds since the recording began.
        end: The same.
        thread: The thread that it began in.
        facts: What else is known: `type` of a module; `cached`, `requests`, `retries`, `tokens` of an LM call; `status`
            of a reply; `step` of a node; `file`, `line`, `function` of what blocked; `error`, the type of the exception
            it ended with; `unfinished`. With `include_text=True` also `inputs` and `outputs`.
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
    """Spans of a recording, with the numbers of requests that follow from them.

    Args:
        recorded: What was opened, in any order.
        began: When the recording did; `time.perf_counter()` seconds.
        now: The end of what is still open; the same.
        threads: Names by identifier.
        with_text: Whether to keep inputs and outputs; a recording inside this one may have asked for them.
    """
    ordered = sorted(recorded, key=lambda span: span.start)
    opened = _without_joined(ordered)
    names = _names_of_early(ordered, opened)
    numbers = {id(span): number for number, span in enumerate(opened)}
    left_out = () if with_text else ("inputs", "outputs")
    facts = [{name: value for name, value in span.facts.items() if name not in left_out} for span in opened]
    for number, span in enumerate(opened):
        if span.end is None:
            facts[number]["unfinished"] = True
    _count_requests(opened, numbers, facts)
    return [
        Span(
            number,
            _number(number, span.parent, numbers),
            span.kind,
            names.get(id(span), span.name),
            span.start - began,
            (now if span.end is None else span.end) - began,
            threads.get(span.thread, str(span.thread)),
            facts[number],
        )
        for number, span in enumerate(opened)
    ]


def _without_joined(opened: list[OpenSpan]) -> list[OpenSpan]:
    """Without calls that took the reply to another one, made ahead of them by overlap: each request is seen once.

    Nor calls that overlap gave up before they had asked anything, and predictors and modules in which nothing else
    happens.
    """
    asking = {id(call): call.name for span in opened if (call := _asking(span)) is not None}
    names = {*asking.values()}  # of LMs whose requests are seen

    def is_nothing(call: OpenSpan) -> bool:
        if call.facts.get("joined"):
            return True
        return call.facts.get("error") == "CancelledError" and id(call) not in asking and call.name in names

    gone = {id(span) for span in opened if span.kind == "lm" and is_nothing(span)}
    if not gone:
        return opened
    emptied: set[int] = set()
    in_use: set[int] = set()
    for span in reversed(opened):  # parts begin after what they are parts of
        is_empty = span.kind in ("module", "predictor") and id(span) in emptied and id(span) not in in_use
        if is_empty:
            gone.add(id(span))
        if span.parent is not None and span.kind not in ("wait", "thread", "stop"):
            (emptied if id(span) in gone else in_use).add(id(span.parent))
    return [span for span in opened if id(span) not in gone and not (span.kind == "wait" and id(span.parent) in gone)]


def _asking(span: OpenSpan) -> OpenSpan | None:
    """The call that waited for this reply."""
    if span.kind != "wait" or span.name != "reply":
        return None
    return next((above for above in _above(span) if above.kind == "lm"), None)


def _names_of_early(recorded: list[OpenSpan], kept: list[OpenSpan]) -> dict[int, str]:
    """Names of predictors that overlap called ahead of their turn, from outside of the modules that know their names.

    They are the names by which the program came to them in the end, in spans that are left out for that.
    """
    if len(kept) == len(recorded):
        return {}
    here = {id(span) for span in kept}
    later: dict[int, OpenSpan] = {}
    for span in recorded:
        if span.kind == "predictor" and id(span) not in here:
            later.setdefault(span.subject, span)
    return {
        id(span): _path(later[span.subject], {id(above) for above in _above(span)})
        for span in kept
        if span.kind == "predictor" and span.name == span.facts.get("type") and span.subject in later
    }


def _above(span: OpenSpan) -> Iterator[OpenSpan]:
    while span.parent is not None:
        span = span.parent
        yield span


def _path(span: OpenSpan, common: set[int]) -> str:
    """A predictor's name with those of the modules that it is in, up to one of these spans."""
    names = [span.name]
    for above in _above(span):
        if id(above) in common:
            break
        if above.kind in ("module", "predictor"):
            names.insert(0, above.name)
    return ".".join(names).removesuffix(".predict")


def _number(number: int, parent: OpenSpan | None, numbers: Mapping[int, int]) -> int | None:
    """The parent's number, or that of the next one above it that was recorded, and began before it."""
    while parent is not None and numbers.get(id(parent), number) >= number:
        parent = parent.parent
    return None if parent is None else numbers[id(parent)]


def _count_requests(opened: Sequence[OpenSpan], numbers: Mapping[int, int], facts: list[dict[str, Any]]) -> None:
    """Each reply that was waited for is a request; one that failed and was followed by another, a retry."""
    failed: set[int] = set()
    for number, span in enumerate(opened):
        call = _asking(span)
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
