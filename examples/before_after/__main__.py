"""Draws the README's picture: one program as it stands, and with `@async_module(overlap=True)`, on one axis.

With `graph`, that of docs/langgraph.md: the level agent as a LangGraph of four nodes in a row.

python -m examples.before_after [FILE.svg [graph]]
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy

from dspy_parallel import Span, Timeline, async_module, record
from dspy_parallel.testing import LMServer

LATENCIES = {"summary": 1.1, "tags": 0.6, "rating": 0.8, "verdict": 0.5}
"""Seconds, by the output field that is asked for."""


class Review(dspy.Module):
    def __init__(self):
        super().__init__()
        self.summarize = dspy.Predict("text -> summary")
        self.tag = dspy.Predict("text -> tags: list[str]")
        self.rate = dspy.Predict("text -> rating: int")
        self.judge = dspy.Predict("summary, tags: list[str], rating: int -> verdict")

    def forward(self, text):
        summary = self.summarize(text=text).summary
        tags = self.tag(text=text).tags
        rating = self.rate(text=text).rating
        return self.judge(summary=summary, tags=tags, rating=rating)


@async_module(overlap=True)
class Overlapped(Review):
    def forward(self, text):
        return super().forward(text)


def recorded(run):
    run("first uses are not drawn")
    with record() as timeline:
        result = run("a text")
    return timeline.spans, result


def review():
    """One `forward()`, both ways."""
    rules = [{"match": f"starting with the field `.. ## {field}", "latency": s} for field, s in LATENCIES.items()]
    with LMServer(replies=rules) as server:
        with dspy.context(lm=dspy.LM("openai/any", cache=False, **server.lm_kwargs())):
            before, after = Review(), Overlapped()
            yield recorded(lambda text: before(text=text).verdict)
            yield recorded(lambda text: after(text=text).verdict)


def graph():
    """One LangGraph, both ways."""
    from dspy_parallel import parallelize_graph

    from ..level_agent import recorded as recording
    from ..level_agent.agent import LevelAgent
    from ..level_agent_graph.graphs import one_question

    log = recording.load()
    with LMServer(replies=log.rules(1.0)) as server:
        lm = dspy.LM("openai/any", cache=False, **server.lm_kwargs())
        builder = one_question(LevelAgent(lm, lm), in_a_row=True)
        for compiled in (builder.compile(), parallelize_graph(builder, overlap=True).compile()):
            yield recorded(lambda _, compiled=compiled: compiled.invoke({"question": log.questions[0]})["query"])


def side_by_side(runs: dict[str, list[Span]]) -> Timeline:
    """One timeline in which all runs begin at zero, each under its title."""
    spans: list[Span] = []
    for title, run in runs.items():
        run = [span for span in run if span.kind != "blocked"]  # what held up a loop is this machine's load, as a rule
        begin, numbers = run[0].start, {span.id: len(spans) + place for place, span in enumerate(run)}
        for span in run:
            spans.append(
                replace(
                    span,
                    id=numbers[span.id],
                    parent=None if span.parent is None else numbers[span.parent],
                    name=title if span is run[0] else span.name,
                    start=span.start - begin,
                    end=span.end - begin,
                )
            )
    return Timeline.of(spans)


def main(path: Path | None, runs: Any) -> None:
    (before, one), (after, other) = runs()
    assert one == other
    both = side_by_side({"before": before, "after": after})
    print(both)
    if path is not None:
        path.write_text(both.svg(width=860, figures=False), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None, graph if "graph" in sys.argv[2:] else review)
