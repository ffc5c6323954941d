"""What may be run ahead of its turn, because nobody could tell: the lists of what is known to have no effects."""

from __future__ import annotations

import ast
import base64
import builtins
import collections
import collections.abc
import copy
import dataclasses
import datetime
import enum
import functools
import hashlib
import html
import inspect
import itertools
import json
import logging
import math
import operator
import os
import pathlib
import random
import re
import statistics
import string
import sys
import textwrap
import time
import types
import typing
import unicodedata
import urllib.parse
import uuid
import warnings
from collections.abc import Callable
from typing import Any

import dspy
import pydantic

from .log_listeners import is_heard_by_nobody, is_stream_known
from .third_party_loggers import is_logger, why_heard
from .trusted_types import (
    BOXES,
    CONTAINERS,
    RECORDS,
    SCALARS,
    VALUES,
    is_box,
    is_builtin_method,
    is_code_of,
    is_dataclass,
    is_exception,
    is_from,
    is_known,
    is_limit,
    is_model,
    is_plain,
    once,
    unpatched,
)

__all__ = [
    "ARRANGERS",
    "BOXES",
    "CONTAINERS",
    "FACTORIES",
    "MODULE_READERS",
    "READERS",
    "RECORDS",
    "VIEWS",
    "declare",
    "declared",
    "is_box",
    "is_builtin",
    "is_digest",
    "is_harmless",
    "is_iterator",
    "is_maker",
    "is_plain",
    "is_progress_bar",
    "is_pure_class",
    "is_pure_function",
    "is_pure_type",
    "is_reader_of_model",
    "is_silent",
    "is_structural",
    "is_validator_of_model",
    "original",
    "takes_all",
]


def _by_identity(*functions: Any) -> dict[int, Any]:
    """A table of functions, in which nobody's `__hash__` and `__eq__` is asked."""
    return {id(function): function for function in functions}


def _is_one_of(table: dict[int, Any], function: Any) -> bool:
    return id(function) in table


def _is_function(value: Any) -> bool:
    return isinstance(value, (types.BuiltinFunctionType, types.FunctionType)) and not value.__name__.startswith("_")


_IN_PLACE = frozenset(["setitem", "delitem", "call", "methodcaller"])

READERS: dict[type, frozenset[str]] = {
    list: frozenset({"copy", "count", "index"}),
    dict: frozenset({"copy", "get"}),
    set: frozenset(
        ["copy", "difference", "intersection", "isdisjoint", "issubset", "issuperset", "symmetric_difference", "union"]
    ),
    collections.deque: frozenset({"copy", "count", "index"}),
    collections.Counter: frozenset({"copy", "get", "most_common", "total"}),
    collections.defaultdict: frozenset({"copy", "get"}),
    collections.OrderedDict: frozenset({"copy", "get"}),
    dspy.Prediction: frozenset({"get", "keys", "values", "items", "toDict", "copy"}),
    dspy.Example: frozenset(
        {"get", "keys", "values", "items", "toDict", "copy", "inputs", "labels", "with_inputs", "without"}
    ),
}
"""Methods of boxes and records that only read."""

FACTORIES = (list, dict, set, int, str, float, bool, tuple)

_HASHES = tuple(getattr(hashlib, name) for name in sorted(hashlib.algorithms_guaranteed))

_PURE_FUNCTIONS = _by_identity(
    *(abs, ascii, bin, bool, bytes, chr, complex, divmod, float, format, frozenset, hex, int),
    *(max, min, oct, ord, pow, repr, round, sorted, str, sum, slice),
    *_HASHES,
    *(urllib.parse.quote, urllib.parse.quote_plus, urllib.parse.unquote, urllib.parse.urlencode, urllib.parse.urljoin),
    *(os.path.join, os.path.basename, os.path.dirname, os.path.splitext, html.escape, html.unescape),
    *(base64.b64encode, base64.b64decode, unicodedata.normalize, dataclasses.asdict, dataclasses.astuple),
    *(ast.parse, ast.literal_eval, ast.unparse, ast.dump, json.loads, json.dumps),
    *(copy.copy, copy.deepcopy, dspy.majority),
    *(collections.Counter, collections.OrderedDict, collections.defaultdict, collections.deque),
    *(datetime.date, datetime.datetime, datetime.timedelta, pathlib.Path, pathlib.PurePath, re.compile),
    *(re.escape, re.findall, re.fullmatch, re.match, re.search, re.split, re.sub, re.subn),
    *(textwrap.dedent, textwrap.fill, textwrap.indent, textwrap.shorten, textwrap.wrap),
    *(string.capwords, string.Template),
    *(fn for module in (math, statistics) for fn in vars(module).values() if _is_function(fn)),
    *(getattr(operator, name) for name in operator.__all__ if name not in _IN_PLACE and not name.startswith("i")),
    *(operator.index, operator.is_, operator.is_not, operator.inv, operator.invert),
)
"""They have no effect on plain values, and depend on nothing else."""

_DIGESTS = frozenset(type(make()) for make in _HASHES)
"""Objects that hash: what they have been fed is known of those that the scout has made."""

_UNKNOWN_VALUES = _by_identity(
    *(time.time, time.perf_counter, time.monotonic, time.process_time, time.time_ns, time.perf_counter_ns),
    *(uuid.uuid4, uuid.uuid1, time.strftime, time.localtime, time.gmtime, builtins.id, builtins.hash),
)
_SILENT = _by_identity(print, unpatched(warnings.warn))
_LOGS = frozenset(["debug", "info", "warning", "error", "exception", "critical", "log"])


def is_pure_function(fn: Any) -> bool:
    """Whether calling it on plain data has no effect, and depends on nothing else."""
    if _is_one_of(_PURE_FUNCTIONS, fn):
        return True
    if is_builtin_method(fn) and type(fn.__self__) is type:
        return fn.__self__ in SCALARS or fn.__self__ in CONTAINERS  # dict.fromkeys, str.maketrans
    if type(fn) is types.MethodDescriptorType:  # str.strip
        return fn.__objclass__ in SCALARS
    return type(fn) is operator.itemgetter


def is_harmless(fn: Any) -> bool:
    """Whether calling it changes nothing that matters, but its value cannot be known ahead: clocks, chance."""
    if _is_one_of(_UNKNOWN_VALUES, fn):
        return True
    if type(fn) not in (types.BuiltinMethodType, types.MethodType):
        return False
    owner = fn.__self__
    if type(owner) is random.Random:
        return fn.__name__ not in ("seed", "shuffle", "setstate")
    return (owner is datetime.date or owner is datetime.datetime) and fn.__name__ in ("now", "today", "utcnow")


def is_silent(fn: Any) -> bool:
    """Whether it only tells somebody something, and returns nothing: prints, logs, warns."""
    if _is_one_of(_SILENT, fn):
        return fn is not print or is_stream_known(sys.stdout)
    if type(fn) is types.MethodType:
        owner: Any = fn.__self__
        if is_logger(type(owner)):
            return not why_heard(fn)
        is_known_one = type(owner) in (logging.Logger, logging.RootLogger) and is_code_of(fn.__func__, "logging")
        return is_known_one and fn.__func__.__name__ in _LOGS and is_heard_by_nobody(owner)
    return is_code_of(fn, "logging") and fn.__name__ in _LOGS and is_heard_by_nobody(logging.root)


@once
def is_pure_class(cls: type) -> bool:
    """Whether making an instance only sets its fields."""
    if cls in (dspy.Prediction, dspy.Example, functools.partial, operator.itemgetter):
        return True
    if issubclass(cls, BaseException):
        return is_exception(cls)
    if issubclass(cls, dspy.Adapter):
        return is_known(cls)
    if issubclass(cls, enum.Enum):
        return (
            is_plain(cls)
            and is_known(type(cls))
            and not any(
                name in vars(base) for base in cls.__mro__ if not is_known(base) for name in ("_missing_", "__call__")
            )
        )
    if issubclass(cls, tuple):
        new: Any = inspect.getattr_static(cls, "__new__")
        new = new.__func__ if isinstance(new, staticmethod) else new
        is_named = hasattr(cls, "_fields") and isinstance(new, types.FunctionType)
        return is_named and new.__globals__.get("_tuple_new") is tuple.__new__ and _has_init_of(cls, object)
    if issubclass(cls, pydantic.BaseModel):
        return _is_pure_model(cls)
    if is_dataclass(cls):
        record: Any = cls
        init = record.__init__
        is_generated = getattr(getattr(init, "__code__", None), "co_filename", "") == "<string>"
        own_new = cls.__new__ is object.__new__
        is_set_plainly = not any(
            hasattr(type(inspect.getattr_static(cls, field.name, None)), "__set__")
            for field in dataclasses.fields(record)
        )
        factories: list[Any] = [
            f.default_factory for f in dataclasses.fields(record) if f.default_factory is not dataclasses.MISSING
        ]
        known = all(any(each is factory for factory in FACTORIES) for each in factories)
        is_made_plainly = is_generated and own_new and is_set_plainly and known
        return is_model(cls) and is_made_plainly and not hasattr(cls, "__post_init__")
    return False


def _has_init_of(cls: type, known: type) -> bool:
    return next(base for base in cls.__mro__ if "__init__" in vars(base)) is known


def _is_pure_model(cls: Any) -> bool:
    decorators: Any = getattr(cls, "__pydantic_decorators__", None)
    has_own = any(
        getattr(decorators, kind, None)
        for kind in ("validators", "field_validators", "root_validators", "model_validators", "computed_fields")
    )
    if cls is dspy.History:
        return True
    return (
        is_model(cls)
        and is_plain(cls)
        and cls.__init__ is pydantic.BaseModel.__init__
        and not has_own
        and not cls.model_config.get("from_attributes")
        and not _overrides(cls, "model_post_init")
        and not _overrides(cls, "__new__")
        and all(is_pure_field(info) for info in cls.model_fields.values())
    )


def is_pure_field(info: Any) -> bool:
    """Whether setting a field of a Pydantic model, or leaving it out, runs no code of the user's."""
    factory = info.default_factory
    has_known_default = factory is None or any(factory is each for each in FACTORIES)
    return has_known_default and is_pure_type(info.annotation)


def is_pure_type(hint: Any) -> bool:
    """Whether making a value of this type, from a reply for instance, runs no code of the user's."""
    if hint is Any or hint is None or hint is ...:
        return True
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return True
    if origin is not None and origin is not hint:
        parts = typing.get_args(hint)
        if origin is typing.Annotated:
            return is_pure_type(parts[0]) and all(is_limit(each) for each in parts[1:])
        is_known_kind = (
            origin in (typing.Union, types.UnionType) or not isinstance(origin, type) or is_pure_type(origin)
        )
        return is_known_kind and all(map(is_pure_type, parts))
    if not isinstance(hint, type):
        return False
    if issubclass(hint, pydantic.BaseModel):
        return _looks(hint, is_pure_class) or is_known(hint)
    if issubclass(hint, (enum.Enum, tuple)) or is_dataclass(hint):
        return hint is tuple or _looks(hint, is_pure_class)
    return hint in SCALARS or hint in CONTAINERS or hint in VALUES or _is_abstract(hint)


_looked_at: set[type] = set()


def _looks(cls: type, look: Callable[[type], bool]) -> bool:
    """What is found out about a class, which may be a field of its own."""
    if cls in _looked_at:
        return True
    _looked_at.add(cls)
    try:
        return look(cls)
    finally:
        _looked_at.discard(cls)


def _is_abstract(hint: type) -> bool:
    return getattr(collections.abc, hint.__name__, None) is hint


def _overrides(cls: type, name: str) -> bool:
    definer = next((base for base in cls.__mro__ if name in vars(base)), None)
    return definer not in (pydantic.BaseModel, object, typing.Generic)


_READERS_OF_MODELS = frozenset(["copy", "dict", "json", "model_copy", "model_dump", "model_dump_json"])


def is_reader_of_model(method: types.MethodType) -> bool:
    """Whether it is a method of Pydantic's that only reads the fields of a model."""
    function: Any = method.__func__
    return (
        is_code_of(function, "pydantic") and function.__name__ in _READERS_OF_MODELS and is_box(type(method.__self__))
    )


def is_validator_of_model(method: types.MethodType) -> bool:
    """Whether it is a class method of Pydantic's that makes a model of data."""
    function: Any = method.__func__
    return is_code_of(function, "pydantic") and function.__name__ in ("model_validate", "model_validate_json")


def is_builtin(cls: type) -> bool:
    """Whether the methods of a type are written in C, and known."""
    return cls in SCALARS or cls in CONTAINERS or cls in VALUES or cls in _DIGESTS or cls is pydantic.ValidationError


def is_digest(cls: type) -> bool:
    """Whether instances compute a hash of what they are fed."""
    return cls in _DIGESTS


_DECLARED = "__dspy_parallel_overlap__"


def declare(target: Any, what: str) -> Any:
    """Note on a class, function or instance how the scout may treat it."""
    setattr(target, _DECLARED, what)
    return target


def declared(target: Any) -> str | None:
    """What was declared for an object, a function or their class."""
    if type(target) is types.MethodType:
        target = target.__func__
    is_function = type(target) is types.FunctionType
    value = vars(target).get(_DECLARED) if is_function else inspect.getattr_static(target, _DECLARED, None)
    if value == "pure" and isinstance(target, types.FunctionType) and not is_code_of(target, "dspy_parallel"):
        return None  # `functools.wraps()` has copied it to a function around the one that was declared
    return value if isinstance(value, str) else None


def original(function: Any) -> Any:
    """The function that one of ours stands for."""
    if not is_code_of(function, "dspy_parallel"):
        return function
    inner = getattr(function, "__wrapped__", None) if declared(function) == "pure" else None
    return inner if isinstance(inner, types.FunctionType) else getattr(function, "__overlap_original__", function)


ARRANGERS = (itertools.product, itertools.permutations, itertools.combinations)
_ITERATORS = _by_identity(
    *(enumerate, zip, reversed, map, filter, iter, ast.walk, re.finditer, *ARRANGERS),
    *(itertools.chain, itertools.islice, itertools.zip_longest),
)
_STRUCTURAL = _by_identity(
    *(list, tuple, dict, range, len, set, any, all, next, getattr, hasattr, super, type),
    *(isinstance, issubclass, callable),
)
_TAKERS = _by_identity(
    *(list, tuple, dict, set, frozenset, sorted, sum, max, min, len, collections.Counter, collections.OrderedDict),
    *(math.fsum, math.prod, statistics.mean, statistics.fmean, statistics.median, statistics.stdev, statistics.mode),
)
_MAKERS = _by_identity(
    *(list, dict, set, sorted, str, int, len),
    *(collections.defaultdict, collections.Counter, collections.deque, collections.OrderedDict),
)
_TAKING_METHODS = frozenset(["join", "extend", "extendleft", "update", "union", "difference", "intersection"])

MODULE_READERS = frozenset({"predictors", "named_predictors", "parameters", "named_parameters", "named_sub_modules"})
"""Methods of `dspy.Module` that only read."""


def is_structural(fn: Any) -> bool:
    """Whether it is a builtin that the scout has a version of its own for, as it need not look at the items."""
    return _is_one_of(_STRUCTURAL, fn) or is_iterator(fn)


def is_iterator(fn: Any) -> bool:
    """Whether it gives an iterator, or a view of a dict: what it goes over may change meanwhile, or be used up."""
    if not is_builtin_method(fn) or _is_one_of(_ITERATORS, fn):
        return _is_one_of(_ITERATORS, fn) or is_progress_bar(fn)
    owner = fn.__self__  # chain.from_iterable, dict.items, re.compile(...).finditer
    if type(owner) is re.Pattern:
        return bool(fn.__name__ == "finditer")
    return owner is itertools.chain or (type(owner) in BOXES and isinstance(owner, dict) and fn.__name__ in VIEWS)


def is_progress_bar(fn: Any) -> bool:
    """Whether it goes over what it is given, and shows how far it is: `tqdm(...)`, or rich's `track(...)`."""
    is_bar = issubclass(type(fn), type) and fn.__name__.startswith("tqdm") and is_from(fn, "tqdm")
    is_bar = is_bar or (is_code_of(fn, "rich") and fn.__name__ == "track")
    return is_bar and is_stream_known(sys.stdout) and is_stream_known(sys.stderr)


def is_maker(fn: Any) -> bool:
    """Whether it is a builtin that gives a new container, number or text."""
    return _is_one_of(_MAKERS, fn)


def takes_all(fn: Any) -> bool:
    """Whether it takes all items of an iterator at once."""
    if not is_builtin_method(fn) or _is_one_of(_TAKERS, fn):
        return _is_one_of(_TAKERS, fn)
    return type(fn.__self__) in (str, *CONTAINERS) and fn.__name__ in _TAKING_METHODS


VIEWS = frozenset(["items", "keys", "values"])
