"""What the program finds when it begins, as the scout sees it: as it was then, and never touched.

The scout has copies of its own of all containers, made as they are reached, with their aliases. Attributes of
modules and of plain objects are read from their `__dict__`, never through code of the user's. What the program
stores in them the scout keeps for itself; the main line stores it for everybody. What an object is, its type is asked:
`isinstance()` asks the object for its `__class__`, which is code of a proxy (Django's settings raise for it).
"""

from __future__ import annotations

import ast
import collections
import copy
import inspect
import logging
import os
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

import dspy
import pydantic
from dspy.dsp.utils.settings import Settings

from ...analysis import effect_free
from ...analysis.third_party_loggers import is_logger
from ...analysis.trusted_types import SCALARS, is_known, methods_of, runs_on_access, unpatched
from .thunks import BailOut, Location, Pending

__all__ = ["LOGGERS", "MISSING", "NOT_STATE", "Snapshot", "is_scalar", "is_written_plainly", "private_copy", "restorer"]

MAX_OBJECTS = 300
MAX_ITEMS = 1000
"""How much is looked at before the program begins. What is beyond is read when it is needed."""

_GROWING = frozenset({"history", "callbacks", "traces"})
"""Attributes of modules that programs have no business with, and that can be long."""

MISSING = object()

LOGGERS = (logging.Logger, logging.RootLogger)

NOT_STATE = (dspy.Predict, dspy.BaseLM, dspy.Adapter, Settings)
"""What calls are made with: changes of it by the program or by DSPy are not the scout's to foresee."""

READ_ONLY = (*NOT_STATE, ast.AST)
"""What the scout sets no attributes of."""


def is_scalar(value: Any) -> bool:
    """Whether it is a number, a text or the like, or will be."""
    return value.is_plain if type(value) is Pending else type(value) in SCALARS


class Snapshot:
    """The state outside of the program.

    Args:
        is_behind: Whether the main line may have changed by now what the scout has not read yet.
    """

    def __init__(self, is_behind: Callable[[], bool]) -> None:
        self._is_behind = is_behind
        self._attributes: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._copies: dict[int, tuple[Any, Any]] = {}
        self._ours: dict[int, Any] = {}
        self._shared: dict[int, Any] = {}
        self._made_sets: dict[int, Any] = {}
        self._written: dict[tuple[int, str], Any] = {}
        self.assigned: set[str] = set()
        """Names of attributes that the program assigns something else than a number or a text."""
        self._blanks: set[int] = set()
        self.has_changed_boxes = False
        self._classes: set[type] = set()
        self._locations: dict[str, Location] = {}
        self._methods: dict[int, dict[str, list[Any]]] = {}
        self._variables: dict[tuple[int, str], tuple[Any, Any]] = {}

    def freeze(self, *roots: Any) -> None:
        """Remember the state of everything that the program can get at from these objects."""
        todo, count = deque(roots), 0
        seen: set[int] = set()
        while todo and count < MAX_OBJECTS:
            value = todo.popleft()
            cls = type(value)
            self._classes.add(cls)
            if id(value) in seen:
                continue
            seen.add(id(value))
            if effect_free.is_box(cls):
                if cls not in effect_free.CONTAINERS or len(value) <= MAX_ITEMS:
                    count += 1
                    self.adopt(value)
                    todo += _items(value)
                else:
                    self._classes.update(map(type, _items(value)))
            elif cls is types.FunctionType:
                todo += self._freeze_function(value)
            elif cls is types.MethodType:
                todo += [value.__self__, value.__func__]
            elif issubclass(type(value), type):
                todo += [] if is_known(value) else self._freeze_class(value)
            elif issubclass(type(value), dspy.Predict):
                self._classes.add(cast("type", value.signature))
                self._attributes[id(value)] = value, dict(vars(value))
                todo += [value.demos, value.config]
            elif _has_plain_attributes(cls) and not _is_leaf(value):
                count += 1
                attributes = _attributes_of(value)
                self._attributes[id(value)] = value, attributes
                todo += [item for name, item in attributes.items() if name not in _GROWING]
                todo.append(cls)
        self._classes.update(map(type, todo))

    def _freeze_function(self, function: types.FunctionType) -> list[Any]:
        """Remember the variables that a function may read."""
        function = effect_free.original(function)
        names = _names_in(function.__code__)
        around = function.__globals__
        if not names or not _is_of_users(around):
            return []
        if names & {"environ", "getenv"}:
            self._environment()
        found: list[Any] = [cell.cell_contents for cell in function.__closure__ or () if cell != _EMPTY]
        found += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        modules: list[Any] = [around]
        for table in modules:
            for name in names:
                value = table.get(name, MISSING)
                if value is not MISSING:
                    self._variables[id(table), name] = table, value
                    if type(value) is types.ModuleType and table is around:
                        modules += [vars(value)] if _is_of_users(vars(value)) else []
                    else:
                        found.append(value)
        return found

    def _freeze_class(self, cls: type) -> list[Any]:
        found: list[Any] = []
        for base in cls.__mro__:
            for name, value in () if is_known(base) else list(vars(base).items()):
                if name.startswith("__pydantic"):
                    continue
                if issubclass(type(value), (staticmethod, classmethod)):
                    found.append(value.__func__)
                elif issubclass(type(value), property):
                    found.append(value.fget)
                else:
                    self._variables[id(base), name] = base, value
                    found.append(value)
        return found

    def variable(self, owner: Any, name: str, value: Any) -> Any:
        """A global, or a class's attribute, as it was when the program began."""
        known = self._variables.get((id(owner), name))
        if known is None:
            if type(value) in SCALARS and self._is_behind():
                raise BailOut(f"`{name}` was read when the program was already past it")
            known = self._variables[id(owner), name] = owner, value
        return self.adopt(known[1])

    def methods(self, function: types.FunctionType | None) -> dict[str, list[Any]]:
        """Methods and properties of the classes of the user's that the program may come across, by their names."""
        names: Any = {} if function is None else function.__globals__
        known = self._methods.get(id(names))
        if known is None:
            around = {value if issubclass(type(value), type) else type(value) for value in list(names.values())}
            known = self._methods[id(names)] = {}
            for name, value in (item for cls in {*self._classes, *around} for item in methods_of(cls).items()):
                known.setdefault(name, []).append(value)
        return known

    def own(self, value: Any) -> Any:
        """Take what was made for the scout alone, a prediction for instance; return it."""
        todo = [value]
        while todo:
            value_ = todo.pop()
            if effect_free.is_digest(type(value_)) or issubclass(type(value_), BaseException):
                self._ours[id(value_)] = value_
            if effect_free.is_box(type(value_)) and id(value_) not in self._ours:
                self._ours[id(value_)] = value_
                todo += _items(value_)
            for node in ast.walk(value_) if issubclass(type(value_), ast.AST) else ():
                self._ours.update((id(each), each) for each in (node, *vars(node).values()) if not is_scalar(each))
        return value

    def blank(self, cls: type) -> Any:
        """An instance of a class that the scout makes, as `__init__` finds it."""
        made: Any = object.__new__(cls)
        if issubclass(cls, dspy.Module):
            dspy.Module._base_init(made)
        self._blanks.add(id(made))
        return self.own_object(made)

    def own_object(self, value: Any) -> Any:
        """Take an object that was made for the scout alone; return it."""
        self._ours[id(value)] = value
        return value

    def is_blank(self, value: Any) -> bool:
        """Whether it has its attributes by the scout's books alone."""
        return id(value) in self._blanks

    def copy_of(self, value: Any) -> Any:
        """The scout's own copy of a container, if it has one; itself if not."""
        return self._copies.get(id(value), (value, value))[1]

    def is_ours(self, value: Any) -> bool:
        """Whether nobody but the scout has it."""
        return id(value) in self._ours

    def share(self, boxes: Iterable[Any]) -> None:
        """Others than the program's variables know these from now on."""
        self._shared.update((id(box), box) for box in boxes)

    def is_shared(self, value: Any) -> bool:
        """Whether it can be got at in other ways than by the program's variables."""
        return id(value) in self._shared

    def adopt(self, value: Any) -> Any:
        """The scout's own copy of a container; anything else as it is."""
        cls = type(value)
        if value is os.environ:
            return self._environment()
        if not effect_free.is_box(cls) or id(value) in self._ours:
            return unpatched(value)
        if cls in (tuple, frozenset):
            known = self._copies.get(id(value))
            if known is None:
                items = [self.adopt(item) for item in value]
                if all(a is b for a, b in zip(items, value, strict=True)):
                    return value
                known = self._copies[id(value)] = value, cls(items)  # one for all: programs compare tuples by `is`
                self._ours[id(known[1])] = known[1]
            return known[1]
        known = self._copies.get(id(value))
        if known is not None:
            return known[1]
        if self._is_behind():
            raise BailOut("it was read when the program was already past it")
        if cls in effect_free.RECORDS:
            partner = copy.copy(value)
            self._keep(value, partner)
            partner._store = self.adopt(value._store)
        elif cls not in effect_free.CONTAINERS:
            partner = _twin_of_model(value)
            self._keep(value, partner)
            vars(partner).update({name: self.adopt(item) for name, item in vars(value).items()})
        elif issubclass(type(value), dict):
            partner = value.copy() if type(value) is not collections.Counter else collections.Counter(value)
            self._keep(value, partner)
            for key, item in partner.items():
                if effect_free.is_box(type(item)):
                    partner[key] = self.adopt(item)
        elif issubclass(type(value), set):
            partner = set(value)
            self._keep(value, partner)
        else:
            partner = value.copy()
            self._keep(value, partner)
            for index, item in enumerate(partner):
                if effect_free.is_box(type(item)):
                    partner[index] = self.adopt(item)
        return partner

    def _environment(self) -> dict[str, str]:
        """The environment's variables, as if they were in a dict."""
        known = self._copies.get(id(os.environ))
        if known is None:
            if self._is_behind():
                raise BailOut("the environment was read when the program was already past it")
            known = os.environ, dict(os.environ)
            self._keep(*known)
        return cast("dict[str, str]", known[1])

    def _keep(self, value: Any, partner: Any) -> None:
        self._copies[id(value)] = value, partner
        self._ours[id(partner)] = self._shared[id(partner)] = partner

    # Sets

    def made_set(self, items: Iterable[Any]) -> set[Any]:
        """A set, made as the program makes it: it has its items in the same order."""
        made = set(items)
        self._made_sets[id(made)] = made
        return made

    def is_made_set(self, value: Any) -> bool:
        """Whether the program's own set has its items in the same order."""
        return id(value) in self._made_sets

    def set_is_mixed(self, value: Any) -> None:
        """It is no longer known in which order."""
        self._made_sets.pop(id(value), None)

    # Attributes

    def location(self, name: str) -> Location:
        """What stands for all attributes of a name."""
        return self._locations.setdefault(name, Location())

    def read(self, owner: Any, name: str) -> Any:
        """An attribute of an instance's own, or MISSING."""
        written = self._written.get((id(owner), name), MISSING)
        if written is not MISSING:
            return written
        attributes = self._of(owner)
        return self.adopt(attributes[name]) if name in attributes else MISSING

    def is_number(self, owner: Any, name: str) -> bool:
        """Whether an attribute is a number or a text, and remains one whatever is added to it."""
        if name in self.assigned or not _has_plain_attributes(type(owner)) or id(owner) not in self._attributes:
            return False
        value = self.read(owner, name)
        while type(value) is Pending and value.done:
            value = value.value
        return is_scalar(value)

    def check_writable(self, owner: Any, name: str) -> None:
        """Refuse what runs code when it is set."""
        if issubclass(type(owner), READ_ONLY) or not _has_plain_attributes(type(owner)):
            raise BailOut(f"`{name}` of {type(owner).__name__} is set")
        if not is_written_plainly(type(owner), name):
            raise BailOut(f"setting `{name}` of {type(owner).__name__} runs code")
        self._of(owner)  # keeps it alive

    def write(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute, as the scout sees it."""
        self._written[id(owner), name] = value

    def has_changed(self, names: Iterable[str]) -> bool:
        """Whether the program has changed such attributes, or containers of others: only the scout knows yet."""
        written = {name for _, name in self._written}
        return self.has_changed_boxes or not written.isdisjoint(names)

    def restorer_of(self, owner: Any, name: str) -> Callable[[], None]:
        """What gives an attribute its present value back."""
        key = (id(owner), name)
        before = self._written.get(key, MISSING)
        return lambda: self._written.pop(key, None) if before is MISSING else self._written.update({key: before})

    def _of(self, owner: Any) -> dict[str, Any]:
        known = self._attributes.get(id(owner))
        if known is None:
            if not self.is_ours(owner) and self._is_behind():
                raise BailOut(f"{type(owner).__name__} was read when the program was already past it")
            known = self._attributes[id(owner)] = owner, _attributes_of(owner)
        return known[1]


_PACKAGES = frozenset((*sys.stdlib_module_names, "dspy", "dspy_parallel", "litellm", "pydantic")) - {"__main__"}
_EMPTY = types.CellType()
_names: weakref.WeakKeyDictionary[types.CodeType, frozenset[str]] = weakref.WeakKeyDictionary()


def _is_of_users(module: dict[str, Any]) -> bool:
    """Whether a module, given its variables, may change what it has when a program runs."""
    return str(module.get("__name__", "")).partition(".")[0] not in _PACKAGES


def _names_in(code: types.CodeType) -> frozenset[str]:
    """The globals and attributes that a piece of code reads, with the functions in it."""
    known = _names.get(code)
    if known is None:
        inner = [each for each in code.co_consts if isinstance(each, types.CodeType)]
        known = _names[code] = frozenset(code.co_names).union(*map(_names_in, inner))
    return known


def _twin_of_model(value: Any) -> Any:
    """An empty one of the same class, made as `copy.copy()` would."""
    partner = object.__new__(type(value))
    if issubclass(type(value), pydantic.BaseModel):
        object.__setattr__(partner, "__pydantic_fields_set__", set(value.__pydantic_fields_set__))
        object.__setattr__(partner, "__pydantic_extra__", None)
        object.__setattr__(partner, "__pydantic_private__", None)
    return partner


def _items(value: Any) -> list[Any]:
    if type(value) in effect_free.RECORDS:
        value = value._store
    elif type(value) not in effect_free.CONTAINERS:
        value = vars(value)
    items = value.values() if issubclass(type(value), dict) else value
    return [item for item in items if not issubclass(type(item), (str, int, float, bool, type(None)))]


def _attributes_of(value: Any) -> dict[str, Any]:
    try:
        return dict(vars(value))
    except TypeError:  # a type of an extension, or of Python's own, that has room for a `__dict__` and does not show it
        return {}


def _is_leaf(value: Any) -> bool:
    leaves = (dspy.Predict, dspy.BaseLM, type, types.FunctionType, types.ModuleType, BaseException)
    return issubclass(type(value), leaves) or type(value) in LOGGERS or is_logger(type(value))


def _has_plain_attributes(cls: type) -> bool:
    """Whether reading an attribute from the instance's `__dict__` is what Python does."""
    return not runs_on_access(cls) and getattr(cls, "__dictoffset__", 0) != 0


def is_written_plainly(cls: type, name: str) -> bool:
    """Whether setting an attribute runs no code."""
    static = inspect.getattr_static(cls, name, None)
    setter = _definer(cls, "__setattr__")
    if setter is pydantic.BaseModel and issubclass(cls, pydantic.BaseModel):
        is_checked = cls.model_config.get("validate_assignment") or cls.model_config.get("frozen")
        return not is_checked and name in cls.model_fields and not cls.model_fields[name].frozen
    return not hasattr(type(static), "__set__") and setter is object


def _definer(cls: type, name: str) -> type:
    return next(base for base in cls.__mro__ if name in vars(base))


def restorer(box: Any) -> Callable[[], None]:
    """What gives a box its present contents back."""
    contents: Any = box
    if type(box) in effect_free.RECORDS:
        contents = box._store
    elif type(box) not in effect_free.CONTAINERS:
        contents = vars(box)
    saved = contents.copy()

    def restore() -> None:
        contents.clear()
        (contents.extend if isinstance(contents, (list, deque)) else contents.update)(saved)

    return restore


def private_copy(value: Any) -> Any:
    """A copy of containers and records, and of those inside; everything else is shared."""
    return Snapshot(lambda: False).adopt(value)
