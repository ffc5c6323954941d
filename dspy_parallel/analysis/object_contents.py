"""What is in an object that is no plain data, and which code that nobody sees takes out of it.

A class may inherit from a container, whose items Python hands out. What the fields of a record are is seen by whoever
prints, compares or copies it.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import types

import dspy
import pydantic

from .abstract_values import NOTHING, ONLY_DATA, Instance, Value
from .held_values import Held, box_of
from .reach import Reach
from .trusted_types import is_dataclass

__all__ = ["contents", "hands_out", "is_record"]

_HAND_OUT = (
    *(BaseException, dspy.Example, functools.partial, contextlib.nullcontext, collections.UserDict),
    *(collections.UserList, types.SimpleNamespace),
)


def hands_out(cls: type) -> bool:
    """Whether methods of Python's or DSPy's give away what is in an instance."""
    return box_of(cls) is not None or any(base in _HAND_OUT for base in cls.__mro__)


def is_record(cls: type) -> bool:
    """Whether operators of Python's or Pydantic's use what is in an instance."""
    return hands_out(cls) or pydantic.BaseModel in cls.__mro__ or is_dataclass(cls)


def contents(reach: Reach, atom: Held | Instance) -> Value:
    """All that is in it, under whatever name, as far as is known."""
    cls = atom.cls
    found = frozenset(reach.heap) | ONLY_DATA if hands_out(cls) else NOTHING
    found = found.union(*(stored for key, stored in list(reach.stores.items()) if key[0] is cls))
    if isinstance(atom, Held):
        found = found.union(*(reach.part_of(atom, name) or NOTHING for name in reach.holdings.parts_of(atom)))
    return found
