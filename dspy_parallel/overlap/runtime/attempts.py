"""What the program raises, and the `try` that catches it.

The scout runs past a call that may fail: most don't. If one does, what comes after it up to the end of the `try` has
not happened, and what the scout has done there is undone. That is possible only while nobody after the `try` has seen
it. So a `try` whose body may fail by the program's own logic is left to a fiber of its own, which waits at the end of
the body for all that was begun in it; what comes after the `try` goes on meanwhile and waits for what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .thunks import Pending, ProgramPoint

__all__ = ["Attempt", "Failure", "Raised", "Unwound"]


class Raised(BaseException):
    """The program raises this. Not an `Exception`, so that only the scout's own `try` catches it."""

    def __init__(self, exc: BaseException) -> None:
        super().__init__(exc)
        self.exc = exc


class Unwound(BaseException):
    """Something that was begun in a `try` has failed, and whoever is further down in its body goes back to it."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__()
        self.attempt = attempt


class Failure(NamedTuple):
    """Where the program raises, and what."""

    point: ProgramPoint
    exc: BaseException
    place: tuple[str, int] | None


class Attempt:
    """The body of a `try`, from a place in program order to another.

    Attributes:
        owner: The fiber that interprets it.
        outer: The one around it.
        begin: Where it begins.
        end: What comes after it; None while the owner is in it.
        failure: What was raised in it; of several, what the sequential program would come to first.
        is_unwound: Whether its owner has left the body.
        results: Calls that were begun in it.
    """

    def __init__(self, owner: Any, outer: Attempt | None) -> None:
        self.owner = owner
        self.outer = outer
        self.begin: ProgramPoint = owner.here
        self.end: ProgramPoint | None = None
        self.failure: Failure | None = None
        self.is_unwound = False
        self.results: list[tuple[ProgramPoint, Pending]] = []
        self._undo: list[tuple[ProgramPoint, Callable[[], None]]] = []

    def covers(self, point: ProgramPoint) -> bool:
        """Whether a place is in it."""
        own: ProgramPoint = self.owner.point
        is_before_end = point[: len(own)] == own if self.end is None else point < self.end
        return self.begin <= point and is_before_end

    def is_within(self, other: Attempt) -> bool:
        """Whether it is the other, or somewhere inside."""
        return self is other or (self.outer is not None and self.outer.is_within(other))

    def fail(self, failure: Failure) -> None:
        """Note a failure, if it is the first in program order."""
        if self.failure is None or failure.point < self.failure.point:
            self.failure = failure

    def log(self, point: ProgramPoint, undo: Callable[[], None]) -> None:
        """Note a change, and how to undo it."""
        attempt: Attempt | None = self
        while attempt is not None:
            attempt._undo.append((point, undo))
            attempt = attempt.outer

    def undo(self) -> None:
        """Undo what was done after the failure."""
        assert self.failure is not None
        for point, undo in reversed(self._undo):
            if point > self.failure.point:
                undo()
        self._undo.clear()
