"""Programs for Ray's workers, which import them from here; LMs that live inside the worker's process."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import dspy
from litellm import ModelResponse


class Echo(dspy.BaseLM):
    """Answers with the question and its own process; notes each call in a file of a directory."""

    def __init__(self, directory: str | None = None, latency: float = 0.0, *, shows_demos: bool = False) -> None:
        super().__init__("echo", cache=False)
        self.directory = directory
        self.latency = latency
        self.shows_demos = shows_demos

    def _reply(self, messages: list[dict[str, Any]]) -> ModelResponse:
        question = messages[-1]["content"].split("[[ ## question ## ]]\n")[1].split("\n")[0]
        if self.directory is not None:
            with open(Path(self.directory, f"{os.getpid()}.calls"), "a", encoding="utf-8") as calls:
                calls.write(f"{question}\n")
        demos = f" {len(messages) // 2 - 1} demos" if self.shows_demos else ""
        text = f"[[ ## answer ## ]]\n{question}!{demos}\n\n[[ ## completed ## ]]"
        usage = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
        return ModelResponse(
            choices=[{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}], usage=usage
        )

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> ModelResponse:
        return self._reply(messages)

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> ModelResponse:
        await asyncio.sleep(self.latency)
        return self._reply(messages)


class Peak(Echo):
    """Writes down how many calls it has at a time in its process; nobody is answered before there are two processes."""

    now = peak = 0

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> ModelResponse:
        Peak.now += 1
        if Peak.now > Peak.peak:
            Peak.peak = Peak.now
            self._write()
        while self._processes() < 2:
            await asyncio.sleep(0.01)
        for _ in range(50):
            await asyncio.sleep(0)
        Peak.now -= 1
        return self._reply(messages)

    def _write(self) -> None:
        Path(str(self.directory), f"{os.getpid()}.peak").write_text(str(Peak.peak), encoding="utf-8")

    def _processes(self) -> int:
        return len(list(Path(str(self.directory)).glob("*.peak")))


class Ask(dspy.Module):
    """One predictor; the question "bad…" is an error."""

    def __init__(self, prefix: str = "") -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.prefix = prefix

    def forward(self, question: str) -> Any:
        if question.startswith("bad"):
            raise ValueError(question)
        return dspy.Prediction(answer=self.prefix + self.ask(question=question).answer, pid=os.getpid())
