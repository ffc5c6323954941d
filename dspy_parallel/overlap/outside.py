"""What the program finds when it begins, as the scout sees it: as it was then, and never touched.

The scout has copies of its own of all containers, made as they are reached, with their aliases. Attributes of
modules and of plain objects are read from their `__dict__`, never through code of the user's. What the program
stores in them the scout keeps for itself; the main line stores it for everybody.
"""

from __future__ import annotations

import collections
import copy
import inspect
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

import dspy
import pydantic
from dspy.dsp.utils.settings import Settings

from . import purity
from .inert import SCALARS, is_known, methods_of, runs_on_access, unpatched
from .strands import Halted

__all__ = ["MISSING", "NOT_STATE", "Outside", "is_written_plainly", "private_copy"]

MAX_OBJECTS = 300
MAX_ITEMS = 1000
"""How much is looked at before the program begins. What is beyond is read when it is needed."""

_GROWING = frozenset({"history", "callbacks", "traces"})
"""Attributes of modules that programs have no business with, and that can be long."""

MISSING = object()

NOT_STATE = (dspy.Predict, dspy.BaseLM, dspy.Adapter, Settings)
"""What calls are made with: changes of it by the program or by DSPy are not the scout's to foresee."""


class Outside:
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
        self._classes: set[type] = set()
        self._methods: dict[int, frozenset[str]] = {}
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
            if purity.is_box(cls):
                if cls not in purity.CONTAINERS or len(value) <= MAX_ITEMS:
                    count += 1
                    self.adopt(value)
                    todo += _items(value)
                else:
                    self._classes.update(map(type, _items(value)))
            elif cls is types.FunctionType:
                todo += self._freeze_function(value)
            elif cls is types.MethodType:
                todo += [value.__self__, value.__func__]
            elif isinstance(value, type):
                todo += [] if is_known(value) else self._freeze_class(value)
            elif isinstance(value, dspy.Predict):
                self._classes.add(cast("type", value.signature))
                self._attributes[id(value)] = value, dict(vars(value))
                todo += [value.demos, value.config]
            elif _has_plain_attributes(cls) and not _is_leaf(value):
                count += 1
                attributes = dict(vars(value))
                self._attributes[id(value)] = value, attributes
                todo += [item for name, item in attributes.items() if name not in _GROWING]
                todo.append(cls)
        self._classes.update(map(type, todo))

    def _freeze_function(self, function: types.FunctionType) -> list[Any]:
        """Remember the variables that a function may read."""
        function = purity.original(function)
        names = _names_in(function.__code__)
        around = function.__globals__
        if not names or not _is_of_users(around):
            return []
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
                if isinstance(value, (staticmethod, classmethod)):
                    found.append(value.__func__)
                elif isinstance(value, property):
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
                raise Halted(f"`{name}` was read when the program was already past it")
            known = self._variables[id(owner), name] = owner, value
        return self.adopt(known[1])

    def method_names(self, function: types.FunctionType | None) -> frozenset[str]:
        """Names of methods that classes of the user's have, as far as the program may come across them."""
        names: Any = {} if function is None else function.__globals__
        known = self._methods.get(id(names))
        if known is None:
            around = {value if isinstance(value, type) else type(value) for value in list(names.values())}
            known = frozenset(name for cls in {*self._classes, *around} for name in methods_of(cls))
            self._methods[id(names)] = known
        return known

    def own(self, value: Any) -> Any:
        """Take what was made for the scout alone, a prediction for instance; return it."""
        todo = [value]
        while todo:
            value_ = todo.pop()
            if purity.is_box(type(value_)) and id(value_) not in self._ours:
                self._ours[id(value_)] = value_
                todo += _items(value_)
        return value

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
        if not purity.is_box(cls) or id(value) in self._ours:
            return unpatched(value)
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
        elif cls not in purity.CONTAINERS:
            twin = _twin_of_model(value)
            self._keep(value, twin)
            vars(twin).update({name: self.adopt(item) for name, item in vars(value).items()})
        elif isinstance(value, dict):
            twin = value.copy() if type(value) is not collections.Counter else collections.Counter(value)
            self._keep(value, twin)
            for key, item in twin.items():
                if purity.is_box(type(item)):
                    twin[key] = self.adopt(item)
        elif isinstance(value, set):
            twin = set(value)
            self._keep(value, twin)
        else:
            twin = value.copy()
            self._keep(value, twin)
            for index, item in enumerate(twin):
                if purity.is_box(type(item)):
                    twin[index] = self.adopt(item)
        return twin

    def _keep(self, value: Any, twin: Any) -> None:
        self._copies[id(value)] = value, twin
        self._ours[id(twin)] = self._shared[id(twin)] = twin

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

    def read(self, owner: Any, name: str) -> Any:
        """An attribute of an instance's own, or MISSING."""
        written = self._written.get((id(owner), name), MISSING)
        if written is not MISSING:
            return written
        attributes = self._of(owner)
        return self.adopt(attributes[name]) if name in attributes else MISSING

    def write(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute, as the scout sees it."""
        if isinstance(owner, NOT_STATE) or not _has_plain_attributes(type(owner)):
            raise Halted(f"`{name}` of {type(owner).__name__} is set")
        if not is_written_plainly(type(owner), name):
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
    twin = object.__new__(type(value))
    if isinstance(value, pydantic.BaseModel):
        object.__setattr__(twin, "__pydantic_fields_set__", set(value.__pydantic_fields_set__))
        object.__setattr__(twin, "__pydantic_extra__", None)
        object.__setattr__(twin, "__pydantic_private__", None)
    return twin


def _items(value: Any) -> list[Any]:
    if type(value) in purity.RECORDS:
        value = value._store
    elif type(value) not in purity.CONTAINERS:
        value = vars(value)
    items = value.values() if isinstance(value, dict) else value
    return [item for item in items if not isinstance(item, (str, int, float, bool, type(None)))]


def _is_leaf(value: Any) -> bool:
    return isinstance(value, (dspy.Predict, dspy.BaseLM, type, types.FunctionType, types.ModuleType, BaseException))


def _has_plain_attributes(cls: type) -> bool:
    """Whether reading an attribute from the instance's `__dict__` is what Python does."""
    return not runs_on_access(cls) and getattr(cls, "__dictoffset__", 0) != 0


def is_written_plainly(cls: type, name: str) -> bool:
    """Whether setting an attribute runs no code."""
    static = inspect.getattr_static(cls, name, None)
    return not hasattr(type(static), "__set__") and _definer(cls, "__setattr__") is object


def _definer(cls: type, name: str) -> type:
    return next(base for base in cls.__mro__ if name in vars(base))


def private_copy(value: Any) -> Any:
    """A copy of containers and records, and of those inside; everything else is shared."""
    return Outside(lambda: False).adopt(value)
