"""The graph: two views of a text side by side, written with sync DSPy, and a verdict."""

from __future__ import annotations

from typing import Any

import dspy
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

__all__ = ["ReviewState", "build"]


class ReviewState(TypedDict, total=False):
    """A text and what is said about it."""

    text: str
    summary: str
    tone: str
    verdict: str


summarize = dspy.ChainOfThought("text -> summary")
sense = dspy.Predict("text -> tone")
judge = dspy.Predict("summary, tone -> verdict")


async def summary(state: ReviewState) -> Any:
    return {"summary": summarize(text=state["text"]).summary}


async def tone(state: ReviewState) -> Any:
    return {"tone": sense(text=state["text"]).tone}


async def verdict(state: ReviewState) -> Any:
    return {"verdict": judge(summary=state["summary"], tone=state["tone"]).verdict}


def build() -> StateGraph[Any]:
    """Async nodes that call sync DSPy, as one writes them for an async server; each call blocks its event loop."""
    builder = StateGraph(ReviewState)
    for name, node in (("summarize", summary), ("sense", tone), ("judge", verdict)):
        builder.add_node(name, node)
    builder.add_edge(START, "summarize").add_edge(START, "sense")
    return builder.add_edge(["summarize", "sense"], "judge")
