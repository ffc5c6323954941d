"""What may be run ahead of its turn, because nobody could tell: the lists of what is known to have no effects."""

from __future__ import annotations

import builtins
import collections
import copy
import dataclasses
import datetime
import enum
import functools
import inspect
import itertools
import json
import logging
import math
import operator
import pathlib
import random
import re
import statistics
import string
import textwrap
import time
import types
import uuid
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import dspy
import pydantic

__all__ = [
    "BOXES",
    "CONTAINERS",
    "READERS",
    "RECORDS",
    "declare",
    "declared",
    "is_harmless",
    "is_plain",
    "is_pure_class",
    "is_pure_function",
    "is_silent",
]

BOXES: tuple[type, ...] = (
    list,
    dict,
    set,
    collections.deque,
    collections.Counter,
    collections.defaultdict,
    collections.OrderedDict,
)
"""Containers that programs change. The scout has copies of its own of those that it did not make."""

CONTAINERS = frozenset((*BOXES, tuple, frozenset))
RECORDS = (dspy.Prediction, dspy.Example)

_SCALARS: tuple[type, ...] = (str, bytes, int, float, bool, complex, type(None), range, slice, type(...))
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
_VALUES: tuple[type, ...] = (
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    datetime.timezone,
    pathlib.PurePosixPath,
    pathlib.PosixPath,
    uuid.UUID,
    re.Pattern,
    re.Match,
    string.Template,
)

READERS: dict[type, frozenset[str]] = {
    list: frozenset({"copy", "count", "index"}),
    dict: frozenset({"copy", "get", "items", "keys", "values"}),
    set: frozenset(
        ["copy", "difference", "intersection", "isdisjoint", "issubset", "issuperset", "symmetric_difference", "union"]
    ),
    collections.deque: frozenset({"copy", "count", "index"}),
    collections.Counter: frozenset({"copy", "get", "items", "keys", "values", "most_common", "elements", "total"}),
    collections.defaultdict: frozenset({"copy", "get", "items", "keys", "values"}),
    collections.OrderedDict: frozenset({"copy", "get", "items", "keys", "values"}),
    dspy.Prediction: frozenset({"get", "keys", "values", "items", "toDict", "copy", "get_lm_usage"}),
    dspy.Example: frozenset(
        {"get", "keys", "values", "items", "toDict", "copy", "inputs", "labels", "with_inputs", "without"}
    ),
}
"""Methods of boxes and records that only read."""

_PURE_FUNCTIONS: set[Any] = {
    *(abs, ascii, bin, bool, bytes, chr, complex, divmod, float, format, frozenset, hex, int, isinstance, issubclass),
    *(len, max, min, oct, ord, pow, repr, round, sorted, str, sum, slice, callable),
    *(json.loads, json.dumps, copy.copy, copy.deepcopy, dspy.majority),
    *(collections.Counter, collections.OrderedDict, collections.defaultdict, collections.deque),
    *(itertools.accumulate, itertools.combinations, itertools.permutations, itertools.product, itertools.groupby),
    *(itertools.zip_longest, itertools.starmap, itertools.pairwise if hasattr(itertools, "pairwise") else len),
    *(datetime.date, datetime.datetime, datetime.timedelta, pathlib.Path, pathlib.PurePath, re.compile),
}
_PURE_MODULES: tuple[types.ModuleType, ...] = (math, operator, re, statistics, textwrap, string)
_UNKNOWN_VALUES: set[Any] = {
    *(time.time, time.perf_counter, time.monotonic, time.process_time, time.time_ns, time.perf_counter_ns),
    *(uuid.uuid4, uuid.uuid1, time.strftime, time.localtime, time.gmtime, builtins.id, builtins.hash),
}
_SILENT: set[Any] = {print, warnings.warn, time.sleep}


def _key(fn: Any) -> Any:
    try:
        hash(fn)
    except TypeError:
        return None
    return fn


def is_pure_function(fn: Any) -> bool:
    """Whether calling it on plain values has no effect, and depends on nothing else."""
    key = _key(fn)
    if key in _PURE_FUNCTIONS:
        return True
    name = getattr(fn, "__name__", None)
    if isinstance(fn, types.BuiltinMethodType) and isinstance(fn.__self__, type):
        return fn.__self__ in _SCALARS or fn.__self__ in CONTAINERS  # dict.fromkeys, str.maketrans
    return name is not None and any(getattr(module, name, None) is fn for module in _PURE_MODULES)


def is_harmless(fn: Any) -> bool:
    """Whether calling it changes nothing that matters, but its value cannot be known ahead: clocks, chance."""
    if _key(fn) in _UNKNOWN_VALUES:
        return True
    owner = getattr(fn, "__self__", None)
    if isinstance(owner, random.Random):
        return fn.__name__ not in ("seed", "shuffle", "setstate")
    return isinstance(owner, type) and issubclass(owner, datetime.date) and fn.__name__ in ("now", "today", "utcnow")


def is_silent(fn: Any) -> bool:
    """Whether it only tells somebody something, and returns nothing: prints, logs, warns, sleeps."""
    if _key(fn) in _SILENT:
        return True
    owner = getattr(fn, "__self__", None)
    return (isinstance(owner, logging.Logger) or (owner is None and getattr(fn, "__module__", "") == "logging")) and (
        getattr(fn, "__name__", "") in ("debug", "info", "warning", "error", "exception", "critical", "log")
    )


def _once(look: Callable[[type], bool]) -> Callable[[type], bool]:
    """Remember the answer for each class, as long as it exists."""
    answers: weakref.WeakKeyDictionary[type, bool] = weakref.WeakKeyDictionary()

    @functools.wraps(look)
    def answer(cls: type) -> bool:
        known = answers.get(cls)
        if known is None:
            known = answers[cls] = look(cls)
        return known

    return answer


@_once
def is_plain(cls: type) -> bool:
    """Whether printing, comparing, hashing and adding instances runs no code of the user's."""
    if cls in _SCALARS or cls in CONTAINERS or cls in _VIEWS or issubclass(cls, _VALUES):
        return True
    if cls in (dspy.Prediction, dspy.Example) or cls.__module__.startswith(("dspy.", "pydantic.", "builtins")):
        return True
    if issubclass(cls, (type, types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType)):
        return True
    return not any(_has_operators(base) for base in cls.__mro__ if not _is_known(base))


def _is_known(base: type) -> bool:
    return base.__module__.partition(".")[0] in ("builtins", "pydantic", "dspy", "enum", "typing", "abc", "collections")


def _has_operators(base: type) -> bool:
    generated = set()
    if dataclasses.is_dataclass(base):
        generated = {"__eq__", "__repr__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__"}
    for name, value in vars(base).items():
        is_operator = name in _OPERATORS and not (name in generated or value is None)
        if is_operator and not issubclass(base, (tuple, enum.Enum)):
            return True
    return False


_OPERATORS = frozenset(
    [
        "__str__",
        "__repr__",
        "__format__",
        "__eq__",
        "__ne__",
        "__lt__",
        "__le__",
        "__gt__",
        "__ge__",
        "__hash__",
        "__bool__",
        "__len__",
        "__iter__",
        "__contains__",
        "__getitem__",
        "__add__",
        "__radd__",
        "__sub__",
        "__mul__",
        "__truediv__",
        "__neg__",
        "__int__",
        "__float__",
        "__index__",
        "__getattr__",
        "__getattribute__",
        "__next__",
        "__reversed__",
        "__and__",
        "__or__",
        "__call__",
    ]
)


@_once
def is_pure_class(cls: type) -> bool:
    """Whether making an instance only sets its fields."""
    if cls in (dspy.Prediction, dspy.Example, functools.partial):
        return True
    if issubclass(cls, dspy.Adapter):
        return cls.__module__.startswith("dspy.")
    if issubclass(cls, enum.Enum) or (issubclass(cls, tuple) and hasattr(cls, "_fields")):
        return "__new__" not in vars(cls) or not inspect.isfunction(vars(cls)["__new__"]) or issubclass(cls, tuple)
    if issubclass(cls, pydantic.BaseModel):
        decorators: Any = getattr(cls, "__pydantic_decorators__", None)
        has_own = any(
            getattr(decorators, kind, None)
            for kind in ("validators", "field_validators", "root_validators", "model_validators", "computed_fields")
        )
        return cls.__init__ is pydantic.BaseModel.__init__ and not has_own and not _overrides(cls, "model_post_init")
    if dataclasses.is_dataclass(cls):
        init: Any = cls.__init__
        is_generated = getattr(getattr(init, "__code__", None), "co_filename", "") == "<string>"
        own_new = cls.__new__ is object.__new__
        factories: list[Any] = [
            f.default_factory for f in dataclasses.fields(cls) if f.default_factory is not dataclasses.MISSING
        ]
        known = {*factories} <= {list, dict, set}
        return is_generated and own_new and known and not hasattr(cls, "__post_init__")
    return False


def _overrides(cls: type, name: str) -> bool:
    definer = next((base for base in cls.__mro__ if name in vars(base)), None)
    return definer is not pydantic.BaseModel


def is_builtin(cls: type) -> bool:
    """Whether the methods of a type are written in C, and known."""
    return cls in _SCALARS or cls in CONTAINERS or cls in _VIEWS or issubclass(cls, _VALUES)


_DECLARED = "__dspy_parallel_overlap__"


def declare(target: Any, what: str) -> Any:
    """Note on a class, function or instance how the scout may treat it."""
    setattr(target, _DECLARED, what)
    return target


def declared(target: Any) -> str | None:
    """What was declared for an object, a function or their class."""
    if isinstance(target, types.MethodType):
        target = target.__func__
    value = getattr(target, _DECLARED, None)
    return value if isinstance(value, str) else None


_STRUCTURAL: set[Any] = {
    *(list, tuple, dict, enumerate, zip, reversed, range, len, map, filter, iter, set, itertools.chain),
    *(any, all, next, getattr, hasattr, super, type, itertools.islice, itertools.chain.from_iterable),
}

MODULE_READERS = frozenset({"predictors", "named_predictors", "parameters", "named_parameters", "named_sub_modules"})
"""Methods of `dspy.Module` that only read."""


def is_structural(fn: Any) -> bool:
    """Whether it is a builtin that the scout has a version of its own for, as it need not look at the items."""
    return _key(fn) in _STRUCTURAL
