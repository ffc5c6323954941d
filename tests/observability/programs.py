"""A program of modules, a tool and LM calls, which tells its number in every question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import dspy

from dspy_parallel import async_module
from tests.support.stub_lms import TwinLM

MANY = 30


class Meets(TwinLM):
    """Answers the first call of each program only when all programs have asked."""

    def __init__(self, expected: int) -> None:
        super().__init__()
        self.expected, self.come = expected, 0
        self.complete: asyncio.Event | None = None

    async def aforward(self, *args: Any, **kwargs: Any) -> Any:
        self.complete = self.complete or asyncio.Event()
        self.come += 1
        if self.come == self.expected:
            self.complete.set()
        await self.complete.wait()
        return await super().aforward(*args, **kwargs)


class Part(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.ChainOfThought("question -> answer")

    def forward(self, question: str) -> Any:
        return self.think(question=question)


class Whole(dspy.Module):
    """Asks, uses a tool that asks in turn, and has a part ask."""

    def __init__(self, around: Callable[[str], Any]) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.part = Part()
        self.around = around  # opens a span of the user's own

    def forward(self, number: int) -> Any:
        def look(topic: str) -> str:
            with self.around(f"inside {number}"):
                return str(self.ask(question=f"{topic} {number}").answer)

        self.ask(question=f"first {number}")
        with self.around(f"own {number}"):
            dspy.Tool(look)(topic="second")
        return self.part(question=f"third {number}")


def decorated(around: Callable[[str], Any], way: str) -> Any:
    """For one engine."""
    cls = async_module(engine=way)(type("Whole", (Whole,), {}))
    return cls(around)


async def together(program: Any, one: Callable[..., Any]) -> None:
    """All at once, each by `one(number, call)`."""
    with dspy.context(lm=Meets(MANY)):
        await asyncio.gather(*(one(number, program.acall) for number in range(MANY)))


async def alone(program: Any, one: Callable[..., Any]) -> None:
    """One after the other, by plain calls."""

    async def called(number: int) -> Any:
        return program(number)

    with dspy.context(lm=TwinLM()):
        for number in range(MANY):
            await one(number, called)
