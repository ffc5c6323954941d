"""Programs for batches: one that calls an LM, and LMs that count and wait on command."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import dspy
from litellm import ModelResponse

from tests.seams.programs import VERSION
from tests.support.gates import Gate


class Ask(dspy.Module):
    """One predictor; the question "bad…" is an error before any call."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        if question.startswith("bad"):
            raise ValueError(question)
        return self.ask(question=question)


class StubLM(dspy.BaseLM):
    """Answers with the question; holds calls whose question contains "hold" until `release()`."""

    def __init__(self) -> None:
        super().__init__("stub", cache=False)
        self.asked: list[str] = []
        self.in_flight = self.peak = self.cancelled = 0
        self.released = Gate()
        self.lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> StubLM:
        return self

    def _reply(self, messages: list[dict[str, Any]]) -> Any:
        question = messages[-1]["content"].split("[[ ## question ## ]]\n")[1].split("\n")[0]
        self.asked.append(question)
        text = f"[[ ## answer ## ]]\n{question}!\n\n[[ ## completed ## ]]"
        message = {"role": "assistant", "content": text}
        # Before DSPy 3.3, an LM counts for itself.
        if VERSION < (3, 3) and dspy.settings.usage_tracker:
            dspy.settings.usage_tracker.add_usage(self.model, usage_of(question))
        choices = [{"message": message, "finish_reason": "stop"}]
        return question, ModelResponse(choices=choices, usage=usage_of(question))

    def _count(self, change: int) -> None:
        with self.lock:
            self.in_flight += change
            self.peak = max(self.peak, self.in_flight)

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        question, response = self._reply(messages)
        self._count(1)
        if "hold" in question:
            assert self.released.wait(60)
        self._count(-1)
        return response

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        question, response = self._reply(messages)
        self._count(1)
        try:
            await asyncio.sleep(0)
            if "hold" in question:
                await self.released.passed()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self._count(-1)
        return response


def usage_of(question: str) -> dict[str, int]:
    return {"prompt_tokens": len(question), "completion_tokens": 1, "total_tokens": len(question) + 1}


def questions(count: int) -> list[dict[str, str]]:
    return [{"question": f"q{number}"} for number in range(count)]
