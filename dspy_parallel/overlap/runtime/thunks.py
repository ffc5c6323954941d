"""Values that are not there yet, and how a fiber says that it can't go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["OUTSIDE", "UNBOUND", "BailOut", "Location", "Pending", "ProgramPoint"]

ProgramPoint = tuple[int, ...]
"""A place in program order. Lexicographic order is the order in which the sequential program does the same work."""

UNBOUND: Any = object()
"""Stands for the value of a name that has none."""

OUTSIDE: Any = object()
"""Stands for all boxes that can be got at from outside of the program: by way of attributes, globals and closures."""


class Location:
    """Stands for all attributes of one name, whosever they are, where fibers say what they read and set."""

    __slots__ = ()


class BailOut(BaseException):
    """The scout does not go on from here. Not an `Exception`: nothing that it runs may take it for its own.

    Attributes:
        reason: Why, in words.
        is_end: Whether that is because the program itself does not go on.
    """

    def __init__(self, reason: str = "", *, is_end: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_end = is_end


class Pending:
    """A value that is not there yet.

    Attributes:
        what: What is being waited for, in words.
        boxes: The mutable objects that the value may turn out to be, or to contain.
        known_as: Itself, and others that have turned out to be it, by their ids.
        is_plain: Whether it is known to be a number, a text or the like, which nobody can change.
        is_unknown: Whether only the program can know it: the time, or chance.
        call: The call that it is the result of.
        cause: The value that had to be there first; of several, the one that came last.
    """

    __slots__ = ("_value", "_waiting", "boxes", "call", "cause", "done", "is_plain", "is_unknown", "known_as", "what")

    def __init__(self, what: str, boxes: Iterable[Any] = (), *, is_plain: bool = False) -> None:
        self.what = what
        self.boxes = tuple(boxes)
        self.known_as: dict[int, Pending] = {id(self): self}
        self.is_plain = is_plain
        self.is_unknown = False
        self.call: Any = None
        self.cause: Pending | None = None
        self.done = False
        self._value: Any = None
        self._waiting: list[Callable[[], None]] = []

    def resolve(self, value: Any) -> None:
        """Set the value, and wake who waits for it."""
        self.done, self._value = True, value
        waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()

    @property
    def value(self) -> Any:
        """The value; itself never pending."""
        assert self.done
        value = self._value
        while type(value) is Pending and value.done:
            value = value._value
        return value

    def on_value(self, wake: Callable[[], None]) -> None:
        """Call this when the value is there."""
        self._waiting.append(wake)

    def __bool__(self) -> bool:
        raise BailOut("a value was asked for before it was there")
