"""What a program of the collection comes with: where it is from, its async twin written by hand, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dspy

__all__ = ["Program"]


@dataclass(frozen=True)
class Program:
    """A sequential program as a user of DSPy writes it, beside the best that can be made of it by hand.

    Attributes:
        name: What it is called in tables.
        origin: The paper or tutorial.
        module: The program. Nothing in it knows of concurrency.
        by_hand: The same with an `aforward()` that makes each LM call as soon as its inputs are known, and no call that
            the sequential program does not make.
        inputs: What both are called with.
        calls: LM calls that either makes.
        depth: LM calls on the longest chain, which take as long as the whole program if nothing waits in vain.
        answers: Values of output fields that the LM gives in this program. All others it makes up from the prompt.
    """

    name: str
    origin: str
    module: type[dspy.Module]
    by_hand: type[dspy.Module]
    inputs: Mapping[str, Any]
    calls: int
    depth: int
    answers: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name
