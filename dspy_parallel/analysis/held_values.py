"""What a program holds, as it was when its code was read, and whether it still is so.

What was found is kept as a tree of checks from the program down: the type of an object, the attributes that were read,
the code of functions. It refers to no instance, and holds for other instances of the same shape.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import types
import typing
import weakref
from collections.abc import Iterable
from typing import Any

import dspy
import pydantic

from .harmless_calls import DATA_TYPES, LAZY, is_data, is_data_class
from .log_listeners import is_heard_by_nobody
from .trusted_types import CONTAINERS, RECORDS, SCALARS, is_heap_type, is_known, is_limit

__all__ = ["LEAF", "MISSING", "Held", "Holdings", "attributes_of", "box_of", "foreign_types"]

MISSING: Any = type("MISSING", (), {"__slots__": ()})()


_SIGNATURE = type(dspy.Signature)
_foreign: weakref.WeakKeyDictionary[Any, tuple[Any, ...]] = weakref.WeakKeyDictionary()


def foreign_types(signature: Any) -> tuple[Any, ...]:
    """The types of a signature's fields that are not plain.

    Signatures are made anew for each predictor, so that it would not do to ask whether one is the same.
    """
    found = _foreign.get(signature)
    if found is None:
        hints = [hint for info in signature.model_fields.values() for hint in (info.annotation, *info.metadata)]
        found = _foreign[signature] = tuple(hint for hint in hints if not _is_plain_hint(hint))
    return found


def _is_plain_hint(hint: Any) -> bool:
    parts = typing.get_args(hint)
    if parts and typing.get_origin(hint) is not typing.Literal:
        return all(map(_is_plain_hint, parts))
    if isinstance(hint, type) or typing.get_origin(hint) is typing.Literal:
        return typing.get_origin(hint) is typing.Literal or is_known(hint)
    return hint in (None, ..., Any, ()) or isinstance(hint, typing.TypeVar) or is_limit(hint)


def attributes_of(value: Any) -> dict[str, Any]:
    """An object's attributes, past any `__getattribute__`; with those that Pydantic and DSPy keep elsewhere."""
    bases = type(value).__mro__
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        found = {}
    if type(found) is not dict:
        return {}
    for slot in _slots_of(type(value)):
        with contextlib.suppress(AttributeError):
            found = {**found, slot.__name__: slot.__get__(value)}
    if pydantic.BaseModel in bases:
        for name in ("__pydantic_private__", "__pydantic_extra__"):
            found = {**found, **(object.__getattribute__(value, name) or {})}
    return {**found, **found.get("_store", {})} if dspy.Example in bases else found


_slots: weakref.WeakKeyDictionary[type, list[Any]] = weakref.WeakKeyDictionary()


def _slots_of(cls: type) -> list[Any]:
    found = _slots.get(cls)
    if found is None:
        members = (member for base in cls.__mro__ if is_heap_type(base) for member in vars(base).values())
        found = _slots[cls] = [member for member in members if type(member) is types.MemberDescriptorType]
    return found


def box_of(cls: type) -> Any:
    """The container that instances of a class are."""
    return next((base for base in cls.__mro__ if base in CONTAINERS), None)


class Held:
    """A value that the program holds, and what of it was looked at.

    Attributes:
        value: The value itself; after `freeze()` only if it is to be the same.
        cls: Its type.
        parts: What was looked at in it, by the attribute's name, the item's or the cell's number.
        absent: Attributes that it did not have.
    """

    __slots__ = ("absent", "box", "cls", "is_frozen", "is_same", "is_shared", "length", "parts", "value")

    def __init__(self, value: Any, *, is_same: bool) -> None:
        self.value: Any = value
        self.cls: type = type(value)
        self.parts: dict[Any, Any] = {}
        self.absent: set[str] = set()
        self.is_same = is_same
        self.is_shared = False
        self.is_frozen = False
        self.box: Any = box_of(self.cls)
        self.length = self.box.__len__(value) if self.box is not None else 0

    def freeze(self) -> None:
        """Let go of the value, unless it has to be the same one."""
        if not self.is_frozen:
            self.is_frozen = True
            if self.cls is types.FunctionType:
                self.value = self.value.__code__, self.value.__globals__
            elif self.cls is _SIGNATURE and not self.is_same:
                self.value = foreign_types(self.value)
            elif not self.is_same:
                self.value = None
            for part in self.parts.values():
                if part is not LEAF:
                    part.freeze()

    def matches(self, value: Any, seen: set[tuple[int, int]]) -> bool:
        """Whether a value is as this one was."""
        if self.is_same:
            return value is self.value
        cls: type[Any] = type(value)
        if cls is not self.cls:
            return False
        if self.is_shared:
            key = id(self), id(value)
            if key in seen:
                return True
            seen.add(key)
        if self.cls is types.FunctionType:
            code, names = self.value
            if value.__code__ is not code or value.__globals__ is not names:
                return False
        elif self.cls is _SIGNATURE:
            return bool(foreign_types(value) == self.value)
        elif self.box is not None and self.box.__len__(value) != self.length:
            return False
        parts = _parts_of(value, self.box)
        if not self.absent.isdisjoint(parts):
            return False
        for name, part in self.parts.items():
            found = parts.get(name, MISSING)
            if part is LEAF:
                if type(found) not in DATA_TYPES and not is_data(found):
                    return False
            elif not part.matches(found, seen):
                return False
        return True

    def __repr__(self) -> str:
        return f"Held({self.cls.__name__})"


LEAF: Any = type("LEAF", (), {"__slots__": ()})()
"""Stands for a part that is plain data."""


def _parts_of(value: Any, box: Any) -> dict[Any, Any]:
    cls = type(value)
    if cls is types.FunctionType:
        return _parts_of_function(value)
    if cls is types.MethodType:
        return {"__func__": value.__func__, "__self__": value.__self__}
    if cls is functools.partial:
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    if cls in LAZY:
        return dict(enumerate(gc.get_referents(value)))
    if cls in RECORDS:
        return {"_store": value._store}
    if box is not None:
        items: Iterable[Any] = (*box.keys(value), *box.values(value)) if issubclass(box, dict) else box.__iter__(value)
        return {**dict(enumerate(items)), **attributes_of(value)}
    if issubclass(cls, BaseException):
        return {**attributes_of(value), "args": vars(BaseException)["args"].__get__(value)}
    return attributes_of(value)


def _parts_of_function(function: types.FunctionType) -> dict[Any, Any]:
    parts: dict[Any, Any] = dict(function.__dict__)
    for number, cell in enumerate(function.__closure__ or ()):
        try:
            parts[number] = cell.cell_contents
        except ValueError:
            continue
    parts["__defaults__"] = (function.__defaults__ or (), function.__kwdefaults__ or {})
    return parts


_SAME = (types.ModuleType, type, types.BuiltinFunctionType, types.WrapperDescriptorType, types.MethodDescriptorType)


class Holdings:
    """All that was looked at: from the program down, in modules' globals, and in classes."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[Any, Held]] = {}
        self._globals: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        self._classes: dict[tuple[type, str], Any] = {}
        self._constants: dict[int, tuple[Any, Any]] = {}
        self.loggers: dict[logging.Logger, bool] = {}

    def hold(self, value: Any) -> Any:
        """The one `Held` for a value, or `LEAF` for plain data."""
        cls = type(value)
        if cls in DATA_TYPES or (is_data_class(cls) and is_data(value)):
            return LEAF
        found = self._held.get(id(value))
        if found is not None:
            found[1].is_shared = True
            return found[1]
        is_signature = issubclass(cls, type) and issubclass(value, dspy.Signature)
        held = Held(value, is_same=issubclass(cls, _SAME) and not is_signature)
        self._held[id(value)] = value, held
        return held

    def part(self, held: Held, name: Any) -> Any:
        """An attribute, item, or cell of it: what it is and what stands for it; `MISSING` twice if there is none."""
        value = _parts_of(held.value, held.box).get(name, MISSING)
        if value is MISSING:
            held.absent.add(name)
            return MISSING, MISSING
        part = held.parts.get(name)
        if part is None:
            part = held.parts[name] = self.hold(value)
        return value, part

    def parts_of(self, held: Held) -> list[Any]:
        """The names of all that there is in it."""
        return list(_parts_of(held.value, held.box))

    def of_globals(self, names: dict[str, Any], name: str) -> Any:
        """A global variable, likewise."""
        value = names.get(name, MISSING)
        _, seen = self._globals.setdefault(id(names), (names, {}))
        part = seen.get(name)
        if part is None:
            part = seen[name] = MISSING if value is MISSING else self.hold(value)
        return value, part

    def of_class(self, cls: type, name: str) -> tuple[type | None, Any]:
        """The class that defines an attribute, and the attribute as it stands there."""
        for base in cls.__mro__:
            found = self._classes[base, name] = vars(base).get(name, MISSING)
            if found is not MISSING:
                return base, found
        return None, MISSING

    def constant(self, value: Any) -> Any:
        """What stands for a value that is found in a class, or in another place that is looked at by identity."""
        known = self._constants.get(id(value))
        if known is None:
            known = self._constants[id(value)] = value, self.hold(value)
        return known[1]

    def freeze(self) -> None:
        """Let go of what need not be kept."""
        self._constants = {
            key: (value, part) for key, (value, part) in self._constants.items() if type(value) not in SCALARS
        }
        for _, part in self._constants.values():
            if part is not LEAF:
                part.freeze()
        for _, seen in self._globals.values():
            for part in seen.values():
                if part not in (LEAF, MISSING):
                    part.freeze()
        self._held.clear()
        by_class: dict[type, dict[str, Any]] = {}
        for (cls, name), value in self._classes.items():
            if cls not in (object, type):
                by_class.setdefault(cls, {})[name] = value
        self._of_classes = [(vars(cls), list(found.items())) for cls, found in by_class.items()]
        self._of_globals = [(names, list(seen.items())) for names, seen in self._globals.values()]

    def hold_still(self) -> bool:
        """Whether globals and classes are what they were."""
        for members, expected in self._of_classes:
            for name, value in expected:
                if members.get(name, MISSING) is not value:
                    return False
        if any(is_heard_by_nobody(logger) is not before for logger, before in self.loggers.items()):
            return False
        seen: set[tuple[int, int]] = set()
        for value, part in self._constants.values():
            if not (is_data(value) if part is LEAF else part.matches(value, seen)):
                return False
        for names, parts in self._of_globals:
            for name, part in parts:
                value = names.get(name, MISSING)
                if part is LEAF:
                    if type(value) not in DATA_TYPES and not is_data(value):
                        return False
                elif part is MISSING:
                    if value is not MISSING:
                        return False
                elif not part.matches(value, seen):
                    return False
        return True
