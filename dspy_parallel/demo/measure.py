"""Runs the level agent both ways and takes the time of every call."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from ..bridge import Engine
from ..modules import async_module

__all__ = [
    "AFTER",
    "BEFORE",
    "FIRST_CALL",
    "Call",
    "Comparison",
    "Run",
    "Stopwatch",
    "Waiting",
    "compare",
    "level_agent",
]

BEFORE = "as you have it"
AFTER = "with @async_module"

Waiting = Callable[[str], AbstractContextManager[object]]


def level_agent(module: str) -> Any:
    """A module of the example, which has no static name here: see this package's docstring."""
    return importlib.import_module(f"dspy_parallel.demo.level_agent.{module}")


@dataclass
class Call:
    """One extractor's run; times in seconds since the run began."""

    extractor: str
    model: str
    start: float
    end: float = 0.0

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start


@dataclass
class Run:
    """One question answered one way."""

    seconds: float
    calls: list[Call]
    extraction: Any

    @property
    def answers(self) -> dict[str, list[Any]]:
        """What each extractor found."""
        found = self.extraction
        return {"time": found.time_filters, "non-time": found.property_filters, "vector": found.vector_searches}


@dataclass
class Comparison:
    """One question answered both ways."""

    question: Any
    before: Run
    after: Run

    @property
    def same(self) -> bool:
        """Whether both ways gave the same filters and the same query."""
        return bool(self.before.extraction == self.after.extraction)

    @property
    def ratio(self) -> float:
        """How many times as fast the parallel run is."""
        return self.before.seconds / self.after.seconds

    @property
    def longest_call(self) -> float:
        """Seconds of the longest call while it was alone: no parallel run can be faster."""
        return max(call.seconds for call in self.before.calls)

    @property
    def overhead(self) -> float:
        """By what part the parallel run takes longer than that call."""
        return self.after.seconds / self.longest_call - 1


@dataclass
class Stopwatch(BaseCallback):
    """DSPy tells it when a module starts and ends, however the module was called."""

    extractors: dict[str, Any]
    began: float = 0.0
    calls: dict[str, Call] = field(default_factory=dict)

    def start(self) -> None:
        """Forget the calls so far; begin a run."""
        self.calls = {}
        self.began = time.perf_counter()

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Called by DSPy."""
        for name, extractor in self.extractors.items():
            if instance is extractor:
                model = str(extractor.lm.model).rpartition("/")[2]
                self.calls[call_id] = Call(name, model, time.perf_counter() - self.began)

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Called by DSPy."""
        if call_id in self.calls:
            self.calls[call_id].end = time.perf_counter() - self.began

    def run(self, extraction: Any) -> Run:
        """What came out of the run, which ends here."""
        return Run(time.perf_counter() - self.began, list(self.calls.values()), extraction)


def compare(questions: Sequence[Any], lms: Sequence[Any], engine: Engine, waiting: Waiting) -> list[Comparison]:
    """Answer all questions as the agent stands, then decorate its extractors and answer them again.

    Blocks the calling thread, which must have no running event loop. The decoration remains: the extractors' classes
    are this process's only ones. Calls before the clock starts import LiteLLM and open a connection.

    Args:
        questions: Of the level agent.
        lms: The LM of the time extractor, and that of the two others.
        engine: For `@async_module`.
        waiting: Gives the context to wait in, from what is being waited for.

    Raises:
        Exception: Whatever the LMs raise.
    """
    agent_module = level_agent("agent")
    agent = agent_module.LevelAgent(*lms)
    stopwatch = Stopwatch(agent.extractors)
    total = len(questions)

    before = []
    with waiting("first call of each LM (not measured)"):
        for lm in lms:
            lm(FIRST_CALL)
    for number, question in enumerate(questions, 1):
        with waiting(f"question {number} of {total}, {BEFORE}"), dspy.context(callbacks=[stopwatch]):
            stopwatch.start()
            before.append(stopwatch.run(agent.extract(question)))

    for extractor in agent_module.EXTRACTORS.values():
        async_module(extractor, engine=engine)

    async def answer_all() -> list[Run]:
        after = []
        with waiting("first async call of each LM (not measured)"):
            # A client's async connections belong to the event loop.
            for lm in lms:
                await lm.acall(FIRST_CALL)
        for number, question in enumerate(questions, 1):
            with waiting(f"question {number} of {total}, {AFTER}"), dspy.context(callbacks=[stopwatch]):
                stopwatch.start()
                after.append(stopwatch.run(await agent.extract_in_parallel(question)))
        return after

    after = asyncio.run(answer_all())
    return [Comparison(*rows) for rows in zip(questions, before, after, strict=True)]


FIRST_CALL = "Reply with the word: ready"
