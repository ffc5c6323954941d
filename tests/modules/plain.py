"""Modules to decorate, and where they then run."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import dspy

from dspy_parallel import in_bridge


class Plain(dspy.Module):
    """Not decorated; the tests decorate fresh subclasses."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str, *, extra: int = 1) -> Any:
        """Answers."""
        return self.predict(question=question)


def where() -> tuple[bool, str]:
    return in_bridge(), threading.current_thread().name


class Where(dspy.Module):
    """Tells whether it is bridged, and where it runs."""

    def forward(self) -> Any:
        return where()


def fresh(cls: type = Where) -> Any:
    """A class of its own, so that engines and placement do not go from test to test."""
    return type(cls.__name__, (cls,), {})


def result(coroutine: Any) -> Any:
    return asyncio.run(coroutine)
