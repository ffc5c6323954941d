"""What is run: programs as users write them, each with its hand-written async equivalent, and the LMs they call."""

from __future__ import annotations

import asyncio
import inspect
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dspy

from dspy_parallel import loop_safe
from dspy_parallel.testing import LMServer

__all__ = [
    "WORKLOADS",
    "Gate",
    "Stub",
    "Workload",
    "blocking",
    "computing",
    "documents",
    "engines",
    "make_lm",
    "start_server",
]

ANSWERS = {"summary": "A short text about one thing.", "label": "report", "confidence": 0.9, "reasoning": "It is so."}


class Extract(dspy.Module):
    """Two predictors in sequence, a branch and a helper."""

    def __init__(self) -> None:
        super().__init__()
        self.summarize = dspy.Predict("document -> summary")
        self.classify = dspy.Predict("document, summary, length: int -> label, confidence: float")
        self.reconsider = dspy.Predict("document, doubtful -> label, confidence: float")

    def forward(self, document: str) -> Any:
        summary = self.shorten(self.summarize(document=document).summary)
        found = self.classify(document=document, summary=summary, length=len(summary))
        if found.confidence < 0.5:
            found = self.reconsider(document=document, doubtful=found.label)
        return found

    def shorten(self, text: str) -> str:
        return " ".join(text.split()[:20])


class HandExtract(Extract):
    async def aforward(self, document: str) -> Any:
        summary = self.shorten((await self.summarize.acall(document=document)).summary)
        found = await self.classify.acall(document=document, summary=summary, length=len(summary))
        if found.confidence < 0.5:
            found = await self.reconsider.acall(document=document, doubtful=found.label)
        return found


class Reason(dspy.Module):
    """One ChainOfThought."""

    def __init__(self) -> None:
        super().__init__()
        self.reason = dspy.ChainOfThought("document -> label")

    def forward(self, document: str) -> Any:
        return self.reason(document=document)


class HandReason(Reason):
    async def aforward(self, document: str) -> Any:
        return await self.reason.acall(document=document)


@loop_safe
def count_words(text: str) -> int:
    """How many words a text has."""
    return len(text.split())


class Agent(dspy.Module):
    """One ReAct with a sync tool; marked as safe on a loop, because that is where ReAct.aforward calls it, too."""

    def __init__(self) -> None:
        super().__init__()
        self.react = dspy.ReAct("document -> label", tools=[count_words], max_iters=3)

    def forward(self, document: str) -> Any:
        return self.react(document=document)


class HandAgent(Agent):
    async def aforward(self, document: str) -> Any:
        return await self.react.acall(document=document)


@dataclass(frozen=True)
class Workload:
    """A program as it stands, and the same with an `aforward()` written by hand."""

    name: str
    plain: type[dspy.Module]
    hand: type[dspy.Module]


WORKLOADS = {
    "extract": Workload("extract", Extract, HandExtract),
    "reason": Workload("reason", Reason, HandReason),
    "agent": Workload("agent", Agent, HandAgent),
}


def blocking(seconds: float) -> type[dspy.Module]:
    """A new class, of which nothing is known, that blocks where no seam sees it, before its LM call."""

    class Blocking(Reason):
        def forward(self, document: str) -> Any:
            select.select([], [], [], seconds)
            return self.reason(document=document)

    return Blocking


def _step(number: int) -> int:
    return (number * 1103515245 + 12345) % 2147483648


def computing(seconds: float) -> type[dspy.Module]:
    """A new class, of which all is known, that computes for so long on this machine between its two LM calls."""
    started, number, steps = time.thread_time(), 1, 0
    while time.thread_time() - started < 0.1:
        for _ in range(1000):
            number = _step(number)
        steps += 1000
    steps = round(steps * seconds / 0.1)

    class Computing(Extract):
        def forward(self, document: str) -> Any:
            summary = self.summarize(document=document).summary
            number = 1
            for _ in range(steps):
                number = _step(number)
            return self.classify(document=document, summary=summary, length=number)

    return Computing


class Stub(dspy.BaseLM):
    """An LM that is nothing but a timer: what is measured beside it is DSPy's modules and the way they are run."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__("stub", cache=False)
        self.seconds = seconds
        self.peak = self._in_flight = 0
        self._lock = threading.Lock()
        self._reply = "".join(f"[[ ## {name} ## ]]\n{value}\n\n" for name, value in ANSWERS.items())
        self._reply += "[[ ## completed ## ]]"

    def __deepcopy__(self, memo: dict[int, Any]) -> Stub:
        return self

    def _enter(self, change: int) -> None:
        with self._lock:
            self._in_flight += change
            self.peak = max(self.peak, self._in_flight)

    def __call__(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> list[str]:
        self._enter(1)
        time.sleep(self.seconds)
        self._enter(-1)
        return [self._reply]

    async def acall(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> list[str]:
        self._enter(1)
        await asyncio.sleep(self.seconds)
        self._enter(-1)
        return [self._reply]


class Gate(Stub):
    """A stub that lets nobody pass before `wanted` calls are in flight and `open()` has been called."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.wanted = wanted
        self._passed = threading.Event()
        self._apassed = asyncio.Event()
        self.full = threading.Event()

    def _enter(self, change: int) -> None:
        super()._enter(change)
        if self._in_flight >= self.wanted:
            self.full.set()

    def open(self) -> None:
        """Let all pass; called on the loop."""
        self._passed.set()
        self._apassed.set()

    def __call__(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> list[str]:
        self._enter(1)
        self._passed.wait()
        self._enter(-1)
        return [self._reply]

    async def acall(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> list[str]:
        self._enter(1)
        await self._apassed.wait()
        self._enter(-1)
        return [self._reply]


def start_server(latency: float) -> LMServer:
    """The loopback server, with answers that lead every program the same way."""
    return LMServer(latency=latency, replies=[{"fields": ANSWERS}], log=False).start()


def engines() -> list[str]:
    """The engines of this DSPy's `LM`."""
    return ["native", "litellm"] if "engine" in inspect.signature(dspy.LM.__init__).parameters else ["litellm"]


def make_lm(server: LMServer, engine: str) -> dspy.LM:
    """An LM on the server, with DSPy's cache on.

    Args:
        server: Started by `start_server()`.
        engine: `"native"` or `"litellm"`.
    """
    options: dict[str, Any] = {"engine": {"native": "lm15", "litellm": "litellm"}[engine]} if len(engines()) > 1 else {}
    return dspy.LM("openai/test-model", **server.lm_kwargs(), **options)


def documents(label: str) -> Callable[[int], list[str]]:
    """A source of texts: as many as asked for, no two alike in one process."""
    numbers = iter(range(10**9))
    return lambda count: [f"Document {label}-{next(numbers)}: the report says little." for _ in range(count)]
