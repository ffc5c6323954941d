"""Programs to stream, and how a stream is read."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import dspy
from dspy.streaming import StatusMessage, StatusMessageProvider, StreamListener, StreamResponse

from dspy_parallel import async_module
from dspy_parallel.testing import LMServer
from tests.testing.dspy_world import make_lm

PATIENCE = 240.0


@async_module
class Review(dspy.Module):
    """Two calls, each with fields to listen to."""

    def __init__(self) -> None:
        super().__init__()
        self.summarize = dspy.ChainOfThought("text -> summary")
        self.rate = dspy.Predict("summary -> verdict, advice")

    def forward(self, text: str) -> Any:
        summary = self.summarize(text=text)
        rating = self.rate(summary=summary.summary)
        return dspy.Prediction(summary=summary.summary, verdict=rating.verdict, advice=rating.advice)


class Plain(Review):
    """As it would be without this package."""

    aforward = property()  # no async side: it is streamed from a thread


@async_module
class Answer(dspy.Module):
    """One call."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.predict(question=question)


class Status(StatusMessageProvider):
    """Says which LM is asked, under a name of its own."""

    def __init__(self, name: str = "status") -> None:
        self.name = name

    def lm_start_status_message(self, instance: Any, inputs: Any) -> str:
        return f"{self.name}: asking"


def lm_of(server: LMServer, engine: str | None = None) -> dspy.LM:
    """An LM at the server, of DSPy's default engine if none is named."""
    return make_lm(server, engine)


def listeners(*names: str) -> list[StreamListener]:
    return [StreamListener(signature_field_name=name) for name in names]


async def collect(stream: Any) -> list[Any]:
    return [item async for item in stream]


def texts(items: list[Any]) -> dict[str, str]:
    """The text that came for each field, its tokens joined."""
    found: dict[str, str] = defaultdict(str)
    for item in items:
        if isinstance(item, StreamResponse):
            found[item.signature_field_name] += item.chunk
    return {name: text.strip() for name, text in found.items()}


def statuses(items: list[Any]) -> list[str]:
    return [item.message for item in items if isinstance(item, StatusMessage)]


def prediction(items: list[Any]) -> Any:
    assert isinstance(items[-1], dspy.Prediction), items
    return items[-1]
