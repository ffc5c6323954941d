"""A program to optimise, in a class that can be made anew: plain or decorated, its source is the same."""

from __future__ import annotations

import zlib
from typing import Any

import dspy
from dspy.clients.base_lm import BaseLM

from dspy_parallel import async_module
from tests.modules.lms import TwinLM


class Review(dspy.Module):
    """Two predictors, one of which reasons."""

    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.ChainOfThought("question -> answer")
        self.judge = dspy.Predict("question, answer -> verdict")

    def forward(self, question: str) -> Any:
        answer = self.think(question=question).answer
        return self.judge(question=question, answer=answer)


@async_module
class Decorated(Review):
    """The same, under a name by which it can be pickled."""


def make(*, decorate: bool) -> Any:
    """A program of a class of its own, with the name and the source of `Review`, which optimizers show to the LM."""
    cls = type("Review", (Review,), {"__doc__": Review.__doc__, "__module__": Review.__module__})
    return (async_module(cls) if decorate else cls)()


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


class Deterministic(TwinLM):
    """Answers by the prompt alone, and notes the prompts in the order in which they come."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[str] = []

    def _respond(self, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> Any:
        self.prompts.append(repr((prompt, messages, kwargs.get("rollout_id"), kwargs.get("temperature"))))
        return super()._respond(prompt, messages, kwargs)

    def copy(self, **kwargs: Any) -> Any:
        copied = BaseLM.copy(self, **kwargs)
        copied.prompts = self.prompts
        return copied


def state(program: Any) -> list[Any]:
    """Instructions and demos of every predictor."""
    return [
        (name, predictor.signature.instructions, [dict(demo) for demo in predictor.demos])
        for name, predictor in program.named_predictors()
    ]
