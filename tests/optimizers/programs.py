"""A program to optimise, in a class that can be made anew: plain or decorated, its source is the same."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import anyio
import dspy
from dspy.clients.base_lm import BaseLM

from dspy_parallel import async_module, pure
from tests.support.stub_lms import TwinLM


class Review(dspy.Module):
    """Two independent predictors, one of which reasons, and one that needs both."""

    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.ChainOfThought("question -> answer")
        self.doubt = dspy.Predict("question -> doubt")
        self.judge = dspy.Predict("question, answer, doubt -> verdict")

    def forward(self, question: str) -> Any:
        answer = self.think(question=question).answer
        doubt = self.doubt(question=question).doubt
        return self.judge(question=question, answer=answer, doubt=doubt)


def make(*, decorate: bool, overlap: bool = False) -> Any:
    """A program of a class of its own, with the name and the source of `Review`, which optimizers show to the LM."""
    where = {name: vars(Review)[name] for name in ("__doc__", "__module__", "__firstlineno__") if name in vars(Review)}
    cls = type("Review", (Review,), where)
    return (async_module(cls, overlap=overlap) if decorate else cls)()


def examples(count: int = 8) -> list[Any]:
    return [dspy.Example(question=f"What is {n} + {n}?", verdict="right").with_inputs("question") for n in range(count)]


def score(verdict: str) -> float:
    """Some programs are better than others, always the same ones."""
    return zlib.crc32(verdict.encode()) % 4 / 3


def metric(example: Any, prediction: Any, trace: Any = None) -> Any:
    found = score(prediction.verdict)
    return found > 0.3 if trace is not None else found


def feedback(gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
    found = score(pred.verdict)
    return dspy.Prediction(score=found, feedback=f"The verdict is worth {found:.2f}.")


@pure
class Deterministic(TwinLM):
    """Answers by the prompt alone, and notes the prompts in the order in which they come.

    If calls are to overlap, the first one waits for another.
    """

    def __init__(self, *, overlap: bool = False) -> None:
        super().__init__()
        self.prompts: list[str] = []
        self.in_flight: list[int] = [0]
        """How many calls there were when each came, and when each was done."""
        self.overlap = overlap

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        self.in_flight.append(self.in_flight[-1] + 1)
        try:
            with anyio.move_on_after(120):  # then the test fails
                while self.overlap and max(self.in_flight) < 2:
                    await asyncio.sleep(0)
            return await super().aforward(prompt, messages, **kwargs)
        finally:
            self.in_flight.append(self.in_flight[-1] - 1)

    def _respond(self, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> Any:
        self.prompts.append(repr((prompt, messages, kwargs.get("rollout_id"), kwargs.get("temperature"))))
        return super()._respond(prompt, messages, kwargs)

    def copy(self, **kwargs: Any) -> Any:
        copied = BaseLM.copy(self, **kwargs)
        copied.prompts, copied.in_flight, copied.overlap = self.prompts, self.in_flight, self.overlap
        return copied


def state(program: Any) -> list[Any]:
    """Instructions and demos of every predictor."""
    return [
        (name, predictor.signature.instructions, [dict(demo) for demo in predictor.demos])
        for name, predictor in program.named_predictors()
    ]
