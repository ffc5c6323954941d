"""What a piece of code may do, in sum: the effects of all that it calls and sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...analysis import effect_free
from ..runtime.thunks import OUTSIDE, Pending
from .frame import Frame, reachable

__all__ = ["Effects"]


@dataclass
class Effects:
    """What a piece of code may do.

    Attributes:
        barrier: Why it must have run before anything after it may be looked at; empty if that is not so.
        touched: Containers that it may change, but not what is in them.
        written: What else it may change: containers that are to be got at from these.
        added_to: What it may change if it is a list; numbers and texts are replaced.
        writes_all: Whether it may change whatever it can get at.
        writes_outside: Whether it may change containers of others: of objects, globals and closures.
        may_call: Whether it may call a predictor, or something that is found out only when it runs.
        parameters: Names of the parameters that it calls.
        attributes_read: Names of attributes that it reads, of whatever object.
        attributes_set: Those that it sets.
    """

    barrier: str = ""
    touched: list[Any] = field(default_factory=list)
    written: list[Any] = field(default_factory=list)
    added_to: list[Any] = field(default_factory=list)
    writes_all: bool = False
    writes_outside: bool = False
    may_call: bool = False
    parameters: set[str] = field(default_factory=set)
    attributes_read: set[str] = field(default_factory=set)
    attributes_set: set[str] = field(default_factory=set)

    @property
    def changes_containers(self) -> bool:
        """Whether it may change any container, of whomever."""
        return bool(self.writes_all or self.writes_outside or self.written or self.touched)

    def include(self, other: Effects) -> None:
        """It does what the other one does, too."""
        self.barrier = self.barrier or other.barrier
        self.touched += other.touched
        self.written += other.written
        self.writes_all |= other.writes_all
        self.writes_outside |= other.writes_outside or other.writes_all  # its arguments may be from there
        self.may_call |= other.may_call
        self.parameters |= other.parameters
        self.attributes_read |= other.attributes_read
        self.attributes_set |= other.attributes_set

    def reads(self, frame: Frame, boxes: Sequence[Any]) -> list[Any]:
        """The boxes that it may look into, those of attributes among them."""
        return [*boxes, *map(frame.interpreter.snapshot.location, self.attributes_read)]

    def writes(self, frame: Frame, boxes: Sequence[Any]) -> list[Any]:
        """Of the boxes that it may look into, those that it may change."""
        own = list(boxes) if self.writes_all else reachable([*self.written, *self.added_to])
        own += [box for value in self.touched for box in _itself(value)]
        own += map(frame.interpreter.snapshot.location, self.attributes_set)
        return [*own, OUTSIDE] if self.writes_outside else own


def _itself(value: Any) -> list[Any]:
    """A container as such, or all that a value may be that is not there yet."""
    while type(value) is Pending and value.done:
        value = value.value
    return reachable([value]) if type(value) is Pending else [value] if effect_free.is_box(type(value)) else []
