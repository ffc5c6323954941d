"""Programs that change what is outside them. That is fresh whenever one is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dspy

__all__ = ["COUNTER", "COUNTING", "LOG", "Base", "Programs", "Stateful", "effects_of"]

LOG: list[Any] = []
COUNTER = {"n": 0}


class Counting:
    n = 0


COUNTING = Counting()


class Base(dspy.Module):
    """What the programs call and change."""

    def __init__(self) -> None:
        super().__init__()
        LOG.clear()
        COUNTER["n"] = COUNTING.n = 0
        self.a = dspy.Predict("x -> y")
        self.b = dspy.Predict("x -> y")
        self.c = dspy.ChainOfThought("x -> y")
        self.ask = dspy.Predict("x -> good: bool, score: float")
        self.listing = dspy.Predict("x -> parts: list[str]")
        self.state: list[Any] = []
        self.memory: dict[str, Any] = {"k": "old", "list": []}
        self.n = 0
        self.setup()

    def setup(self) -> None:
        """For what a program has besides."""


def effects_of(program: Any) -> Any:
    """What a program that has run has changed."""
    return LOG, COUNTER, COUNTING.n, program.n, program.state


@dataclass(frozen=True)
class Stateful:
    """One program.

    Attributes:
        make: Gives one, with fresh state.
        stops: A part of the reason for which the scout ends there; empty if it need not end, None if that depends on
            who is first.
    """

    make: Callable[[], Any]
    stops: str | None


class Programs(dict[str, Stateful]):
    """A table of programs: decorates their classes, or the functions that are their `forward(self, x)`."""

    def __call__(self, made: Any, *, stops: str | None = "") -> Any:
        cls = made if isinstance(made, type) else type("Program", (Base,), {"forward": made})
        self[made.__name__] = Stateful(cls, stops)
        return made

    def stops(self, reason: str | None) -> Callable[[Any], Any]:
        """As the table itself, for a program at which the scout ends."""
        return lambda made: self(made, stops=reason)
