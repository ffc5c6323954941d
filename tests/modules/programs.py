"""Decorated programs that other processes can import."""

from __future__ import annotations

from typing import Any

import dspy

from dspy_parallel import AsyncModuleMixin, async_module


class Plain(dspy.Module):
    """Two predictors, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.ChainOfThought("question -> answer")
        self.then = [dspy.Predict("answer -> verdict")]

    def forward(self, question: str) -> Any:
        """Asks, and asks about the answer."""
        return self.then[0](answer=self.first(question=question).answer)


@async_module
class Decorated(Plain):
    """The same, decorated."""


class Mixed(AsyncModuleMixin, Plain, engine="loop"):
    """The same by inheritance."""


@async_module
class Echo(dspy.Module):
    """Without predictors."""

    def forward(self, text: str) -> str:
        """Returns its input."""
        return text
