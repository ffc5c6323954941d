"""Branches that are not decided yet, and the calls on either side that may be made already (`speculate=True`).

Each side is followed by a strand of its own, on copies of all names and containers around it, and only if it sets
nothing else: so nobody sees what it does. What it leaves are calls in flight. Whoever comes to an equal call, the scout
or the program, takes it, whatever it was made for. Once the branch is decided, those of the other side are cancelled.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import expressions, regards, statements
from .facts import facts_of
from .frame import Frame, reachable
from .outside import Outside
from .strands import Pending, Strand

if TYPE_CHECKING:
    from .session import Session

__all__ = ["Branch", "Guess", "explore"]

MAX_DEPTH = 3
"""How many undecided branches may be around a call that is made nevertheless."""

Part = ast.expr | Sequence[ast.stmt]
"""What is done on a side: an expression, or statements."""


class Guess:
    """One side of an undecided branch.

    Attributes:
        outer: The side of another one that it is on.
        depth: How many there are around it, with itself.
        was_right: Whether the program turned out to take it.
    """

    def __init__(self, outer: Guess | None) -> None:
        self.outer = outer
        self.depth: int = 1 if outer is None else outer.depth + 1
        self.was_right = False
        self._is_over = False
        self._copies = Outside(lambda: False)

    def own_copy(self, value: Any) -> Any:
        """What this side sees, and may change, in place of a value from around it."""
        return self._copies.adopt(value.value if type(value) is Pending and value.done else value)

    def end(self) -> None:
        """Nobody is to follow it any further."""
        self._is_over = True

    @property
    def is_over(self) -> bool:
        """Whether it, or one around it, is decided or could not be followed."""
        return self._is_over or (self.outer is not None and self.outer.is_over)

    @property
    def is_settled(self) -> bool:
        """Whether it, or one around it, turned out to be right."""
        return self.was_right or (self.outer is not None and self.outer.is_settled)

    def is_within(self, other: Guess) -> bool:
        """Whether it is the other, or somewhere inside."""
        return self is other or (self.outer is not None and self.outer.is_within(other))


class Branch:
    """All sides of one branch."""

    def __init__(self, session: Session, sides: list[Guess]) -> None:
        self._session = session
        self._sides = sides

    def decide(self, taken: int | None) -> None:
        """It is known which side the program takes, if any."""
        for number, side in enumerate(self._sides):
            side.end()
            side.was_right = number == taken
            if not side.was_right:
                self._session.refuse(side)


def explore(frame: Frame, *sides: Sequence[Part]) -> Branch:
    """Follow all sides of a branch, as far as they come without its being decided; nothing unless that is wanted.

    Args:
        frame: Where the branch is.
        *sides: What would be done on each.
    """
    outer = frame.strand.guess
    if not frame.scout.how.speculate or (outer is not None and outer.depth >= MAX_DEPTH):
        return Branch(frame.scout.session, [])
    guesses: list[Guess] = []
    for parts in sides:
        guesses.append(guess := Guess(outer))
        known = [part for part in parts if part]
        if known and not any(regards.of(frame, facts_of(part)).is_opaque for part in known):
            frame.strand.suppose(guess, functools.partial(_follow, frame, known, guess))
    return Branch(frame.scout.session, guesses)


def _follow(frame: Frame, parts: Sequence[Part], guess: Guess, strand: Strand) -> None:
    frames: dict[int, Frame] = {}
    inner = frame.at(strand, frames)
    for twin in frames.values():
        for name, value in twin.names.items():
            boxes = reachable([value])
            if all(map(strand.is_free, boxes)):
                twin.names[name] = guess.own_copy(value)
            else:
                twin.names[name] = strand.fork(functools.partial(_copied, guess, value, boxes), f"`{name}`", boxes)
    for number, part in enumerate(parts):
        if isinstance(part, ast.expr):
            expressions.evaluate(inner, part)
        elif statements.execute(inner, part, after=parts[number + 1 :]) is not None:
            return


def _copied(guess: Guess, value: Any, boxes: list[Any], strand: Strand) -> Any:
    for box in boxes:
        strand.touch(box)
    return guess.own_copy(value)
