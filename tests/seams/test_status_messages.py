"""Status messages of dspy.streamify; tests/streaming has its tokens."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest
from dspy.streaming import StatusMessage, StatusMessageProvider
from dspy.utils import DummyLM

from dspy_parallel import async_module, run
from tests.seams.programs import PATIENCE

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


class Status(StatusMessageProvider):
    def lm_start_status_message(self, instance: Any, inputs: Any) -> str:
        return "asking"

    def tool_start_status_message(self, instance: Any, inputs: Any) -> str:
        return f"calling {instance.name}"

    def tool_end_status_message(self, outputs: Any) -> str:
        return f"called: {outputs}"


@async_module
class Answer(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.predict(question=question)


@async_module
class UseTools(dspy.Module):
    """Makes more status messages than a stream's buffer holds."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.tool = dspy.Tool(lambda n: n + 1, name="increment", args={"n": {"type": "integer"}}, arg_types={"n": int})

    def forward(self) -> Any:
        total = 0
        for _ in range(self.count):
            total = self.tool(n=total)
        return dspy.Prediction(total=total)


async def _collect(stream: Any) -> list[Any]:
    return [item async for item in stream]


def _stream(program: Any, *, asynchronous: bool) -> list[Any]:
    stream = dspy.streamify(program, status_message_provider=Status(), is_async_program=asynchronous)
    return asyncio.run(asyncio.wait_for(_collect(stream()), PATIENCE))


@pytest.mark.parametrize("asynchronous", [True, False], ids=["acall", "thread"])
def test_more_status_messages_than_the_buffer_holds(asynchronous: bool) -> None:
    """Upstream, a native aforward deadlocks at twelve sync tools."""
    items = _stream(UseTools(20), asynchronous=asynchronous)
    messages = [item.message for item in items if isinstance(item, StatusMessage)]
    assert messages == [text for n in range(20) for text in ("calling increment", f"called: {n + 1}")]
    assert items[-1].total == 20


def test_programs_that_run_on_one_stream_together() -> None:
    """A hundred programs under one stream, in tasks of one parent."""

    class Fan(dspy.Module):
        async def aforward(self) -> Any:
            results = await asyncio.gather(*(UseTools(2).acall() for _ in range(100)))
            return dspy.Prediction(total=sum(result.total for result in results))

    items = _stream(Fan(), asynchronous=True)
    assert items[-1].total == 200
    assert len([item for item in items if isinstance(item, StatusMessage)]) == 400


def test_without_a_stream_nothing_is_sent() -> None:
    with dspy.context(lm=DummyLM([{"answer": "a"}])):
        assert asyncio.run(run(Answer(), question="q", engine="loop")).answer == "a"
