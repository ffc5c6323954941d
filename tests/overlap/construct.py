"""What a program of one construct is, and the predictors that it calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dspy

__all__ = ["CONSTRUCTS", "Construct", "construct"]


class Predictors(dspy.Module):
    """What the programs below call."""

    def __init__(self) -> None:
        super().__init__()
        self.a = dspy.Predict("x -> y")
        self.b = dspy.ChainOfThought("x -> y")
        self.ask = dspy.Predict("x -> good: bool, score: float")
        self.several = [dspy.Predict("x -> y") for _ in range(3)]
        self.named = {"p": dspy.Predict("x -> y"), "q": dspy.Predict("x -> z")}
        self.inner = Inner()
        self.route = dspy.Predict("x -> kind: Literal['a', 'b']")
        self.limit = 0.5

    def helper(self, x: str) -> str:
        if self.ask(x=x).good:
            return self.a(x=x).y
        return self.b(x=x).y

    def both(self, x: str, *more: str, **named: str) -> list[str]:
        return [self.a(x=each).y for each in (x, *more, *named.values())]


class Inner(dspy.Module):
    """A submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.p = dspy.Predict("x -> y")

    def forward(self, x: str) -> Any:
        return dspy.Prediction(y=self.p(x=x).y + self.p(x=x + "'").y)


@dataclass(frozen=True)
class Construct:
    """One program.

    Attributes:
        forward: What it does.
        depth: How many LM calls wait for each other, at least.
        peak: How many are in flight at once, at most.
    """

    forward: Callable[..., Any]
    depth: int
    peak: int

    def __str__(self) -> str:
        return self.forward.__name__

    def make(self) -> Any:
        return type("Case", (Predictors,), {"forward": self.forward})()


CONSTRUCTS: list[Construct] = []


def construct(depth: int, peak: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(forward: Callable[..., Any]) -> Callable[..., Any]:
        CONSTRUCTS.append(Construct(forward, depth, peak))
        return forward

    return add
