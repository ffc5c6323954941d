"""The result of the demo's graphs, as lines for people and as data for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .graph import GraphRuns, threads_of_langgraph
from .measure import Call, Run
from .report import Line, axis, bar

__all__ = ["graph_as_data", "graph_lines"]

DRAWN = 8
"""Calls that are drawn of a wide fan-out."""


def graph_lines(runs: GraphRuns, width: int, *, unicode: bool = True) -> Iterator[Line]:
    """The timelines of all ways, and what is to be learned from them."""
    yield [("The same as a LangGraph: three extraction nodes side by side, and a merge", "bold")]
    yield []
    yield from _timelines(runs.three, width, unicode)
    threads = threads_of_langgraph()
    yield [("(a) overlaps three nodes as well as (c): LangGraph runs sync nodes in threads. (b) blocks the event ", "")]
    yield [("loop in every call, and whatever else runs there. (c) is the graph of (b) after one line.", "")]
    yield []
    if runs.wide:
        count = len(next(iter(runs.wide.values())).calls)
        yield [
            (f"One extraction node for {count} questions at once; {min(DRAWN, count)} of the calls are drawn", "bold")
        ]
        yield []
        yield from _timelines(runs.wide, width, unicode)
        yield [
            (f"Here (a) stops overlapping: under ainvoke, LangGraph has {threads} threads on this machine. Under ", "")
        ]
        yield [
            (f"invoke, max_concurrency={count} would give it enough. (c) holds no threads, and needs no setting.", "")
        ]
        yield []
    if not runs.same:
        yield [("The answers of the graphs differ.", "bad")]


def _timelines(runs: dict[str, Run], width: int, unicode: bool) -> Iterator[Line]:
    span = max(run.seconds for run in runs.values())
    columns = width - 22
    for name, run in runs.items():
        yield [(f"{name:<{width - 8}}", "bold"), (f"{run.seconds:6.2f} s", "bold")]
        style = "after" if "parallelize_graph" in name else "before"
        for call in _drawn(run.calls):
            drawn = bar(call.start, call.end, span, columns, unicode=unicode)
            yield [
                (f"  {call.extractor:<10}", ""),
                (f"{drawn:<{columns + 1}}", style),
                (f"{call.seconds:6.2f} s", "dim"),
            ]
    yield [(" " * 12 + axis(span, columns), "dim")]
    yield []


def _drawn(calls: list[Call]) -> list[Call]:
    """All calls of a few; of many, some from the first to the last."""
    calls = sorted(calls, key=lambda call: call.start) if len(calls) > DRAWN else calls
    if len(calls) <= DRAWN:
        return calls
    return [calls[number * (len(calls) - 1) // (DRAWN - 1)] for number in range(DRAWN)]


def graph_as_data(runs: GraphRuns) -> dict[str, Any]:
    """The same as plain data; times in seconds."""
    return {
        "same": runs.same,
        "threads_of_langgraph": threads_of_langgraph(),
        "three_nodes": {name: _as_data(run) for name, run in runs.three.items()},
        "wide": {name: _as_data(run) for name, run in runs.wide.items()},
    }


def _as_data(run: Run) -> dict[str, Any]:
    calls = [{"extractor": call.extractor, "start": call.start, "end": call.end} for call in run.calls]
    return {"seconds": run.seconds, "calls": calls}
