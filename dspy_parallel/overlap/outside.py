"""What the program finds when it begins, as the scout sees it: as it was then, and never touched.

The scout has copies of its own of all containers, made as they are reached, with their aliases. Attributes of
modules and of plain objects are read from their `__dict__`, never through code of the user's. What the program
stores in them the scout keeps for itself; the main line stores it for everybody.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import types
from collections.abc import Callable
from typing import Any

import dspy
import pydantic

from . import purity
from .strands import Halted

__all__ = ["MISSING", "Outside", "private_copy"]

MAX_OBJECTS = 300
MAX_ITEMS = 1000
"""How much is looked at before the program begins. What is beyond is read when it is needed."""

_GROWING = frozenset({"history", "callbacks", "traces"})
"""Attributes of modules that programs have no business with, and that can be long."""

MISSING = object()


class Outside:
    """The state outside of the program.

    Args:
        is_behind: Whether the main line may have changed by now what the scout has not read yet.
    """

    def __init__(self, is_behind: Callable[[], bool], *, copies_models: bool = False) -> None:
        self._is_behind = is_behind
        self._copies_models = copies_models
        self._attributes: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._copies: dict[int, tuple[Any, Any]] = {}
        self._ours: dict[int, Any] = {}
        self._written: dict[tuple[int, str], Any] = {}

    def freeze(self, *roots: Any) -> None:
        """Remember the state of everything that the program can get at from these objects."""
        todo, count = list(roots), 0
        seen: set[int] = set()
        while todo and count < MAX_OBJECTS:
            value = todo.pop()
            cls = type(value)
            if id(value) in seen:
                continue
            seen.add(id(value))
            if self._is_box(value):
                if len(value) <= MAX_ITEMS:
                    count += 1
                    self.adopt(value)
                    todo += _items(value)
            elif _has_plain_attributes(cls) and not _is_leaf(value):
                count += 1
                attributes = dict(vars(value))
                self._attributes[id(value)] = value, attributes
                todo += [item for name, item in attributes.items() if name not in _GROWING]

    def own(self, value: Any) -> Any:
        """Take what was made for the scout alone, a prediction for instance; return it."""
        todo = [value]
        while todo:
            value_ = todo.pop()
            if self._is_box(value_) and id(value_) not in self._ours:
                self._ours[id(value_)] = value_
                todo += _items(value_)
            elif is_record_class(type(value_)) and id(value_) not in self._attributes:
                attributes = dict(vars(value_))
                self._attributes[id(value_)] = value_, attributes
                todo += attributes.values()
        return value

    def adopt(self, value: Any) -> Any:
        """The scout's own copy of a container; anything else as it is."""
        cls = type(value)
        if (cls not in purity.CONTAINERS and cls not in purity.RECORDS) or id(value) in self._ours:
            return value
        if cls in (tuple, frozenset):
            items = [self.adopt(item) for item in value]
            return cls(items) if any(a is not b for a, b in zip(items, value, strict=True)) else value
        known = self._copies.get(id(value))
        if known is not None:
            return known[1]
        if self._is_behind():
            raise Halted("it was read when the program was already past it")
        if cls in purity.RECORDS:
            twin = copy.copy(value)
            self._keep(value, twin)
            twin._store = self.adopt(value._store)
        elif isinstance(value, dict):
            twin = value.copy() if type(value) is not collections.Counter else collections.Counter(value)
            self._keep(value, twin)
            for key, item in twin.items():
                if self._is_box(item):
                    twin[key] = self.adopt(item)
        elif isinstance(value, set):
            twin = set(value)
            self._keep(value, twin)
        else:
            twin = value.copy()
            self._keep(value, twin)
            for index, item in enumerate(twin):
                if self._is_box(item):
                    twin[index] = self.adopt(item)
        return twin

    def _copy_of_model(self, value: Any) -> Any:
        known = self._copies.get(id(value))
        if known is None:
            try:
                twin = copy.deepcopy(value)
            except Exception:  # something inside cannot be copied: then it is shared
                twin = value
            known = self._copies[id(value)] = value, twin
        return known[1]

    def _is_box(self, value: Any) -> bool:
        cls = type(value)
        is_box = cls in purity.CONTAINERS or cls in purity.RECORDS
        return is_box or (self._copies_models and is_record_class(cls))

    def _keep(self, value: Any, twin: Any) -> None:
        self._copies[id(value)] = value, twin
        self._ours[id(twin)] = twin

    # Attributes

    def read(self, owner: Any, name: str) -> Any:
        """An attribute of an instance's own, or MISSING."""
        written = self._written.get((id(owner), name), MISSING)
        if written is not MISSING:
            return written
        attributes = self._of(owner)
        return self.adopt(attributes[name]) if name in attributes else MISSING

    def write(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute, as the scout sees it."""
        if isinstance(owner, dspy.Predict) or not _has_plain_attributes(type(owner)):
            raise Halted(f"`{name}` of {type(owner).__name__} is set")
        if hasattr(getattr(type(owner), name, None), "__set__") or _definer(type(owner), "__setattr__") is not object:
            raise Halted(f"setting `{name}` of {type(owner).__name__} runs code")
        self._of(owner)  # keeps it alive
        self._written[id(owner), name] = value

    def _of(self, owner: Any) -> dict[str, Any]:
        known = self._attributes.get(id(owner))
        if known is None:
            if self._is_behind():
                raise Halted(f"{type(owner).__name__} was read when the program was already past it")
            known = self._attributes[id(owner)] = owner, dict(vars(owner))
        return known[1]


def _items(value: Any) -> list[Any]:
    if type(value) in purity.RECORDS:
        value = value._store
    items = value.values() if isinstance(value, dict) else value
    return [item for item in items if not isinstance(item, (str, int, float, bool, type(None)))]


def _is_leaf(value: Any) -> bool:
    return isinstance(value, (dspy.Predict, dspy.BaseLM, type, types.FunctionType, types.ModuleType, BaseException))


def _has_plain_attributes(cls: type) -> bool:
    """Whether reading an attribute from the instance's `__dict__` is what Python does."""
    is_plain = _definer(cls, "__getattribute__") is object or issubclass(cls, dspy.Module)
    return is_plain and getattr(cls, "__dictoffset__", 0) != 0


def _definer(cls: type, name: str) -> type:
    return next(base for base in cls.__mro__ if name in vars(base))


def private_copy(value: Any) -> Any:
    """A copy of containers and records, and of those inside; everything else is shared."""
    return Outside(lambda: False, copies_models=True).adopt(value)


def is_record_class(cls: type) -> bool:
    """Whether instances are records of fields, which can be copied: pydantic models and dataclasses."""
    return issubclass(cls, pydantic.BaseModel) or dataclasses.is_dataclass(cls)
