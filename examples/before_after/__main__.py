"""Draws the README's picture: one program as it stands, and with `@async_module(overlap=True)`, on one axis.

python -m examples.before_after [FILE.svg]
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

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


def recorded(program, text):
    program(text="first uses are not drawn")
    with record() as timeline:
        verdict = program(text=text).verdict
    return timeline.spans, verdict


def side_by_side(runs: dict[str, list[Span]]) -> Timeline:
    """One timeline in which all runs begin at zero, each under its title."""
    spans: list[Span] = []
    for title, run in runs.items():
        begin, offset = run[0].start, len(spans)
        for span in run:
            spans.append(
                replace(
                    span,
                    id=offset + span.id,
                    parent=None if span.parent is None else offset + span.parent,
                    name=title if span.parent is None and span.kind == "module" else span.name,
                    start=span.start - begin,
                    end=span.end - begin,
                )
            )
    return Timeline.of(spans)


def main(path: Path | None) -> None:
    rules = [{"match": f"starting with the field `.. ## {field}", "latency": s} for field, s in LATENCIES.items()]
    with LMServer(replies=rules) as server:
        with dspy.context(lm=dspy.LM("openai/any", cache=False, **server.lm_kwargs())):
            before, one = recorded(Review(), "a text")
            after, other = recorded(Overlapped(), "a text")
    assert one == other
    both = side_by_side({"before": before, "after": after})
    print(both)
    if path is not None:
        path.write_text(both.svg(width=860, figures=False), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
