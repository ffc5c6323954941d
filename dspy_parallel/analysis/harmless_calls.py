"""What is known neither to block nor to depend on its thread, and what is known to.

Wider than `effect_free`: it may print, log, read a clock, or change what it is given. A function that is in no table
here, and whose source cannot be read, is not known.
"""

from __future__ import annotations

import abc
import ast
import base64
import binascii
import bisect
import builtins
import cmath
import collections
import collections.abc
import colorsys
import contextlib
import contextvars
import copy
import dataclasses
import datetime
import decimal
import difflib
import enum
import fractions
import functools
import gc
import hashlib
import heapq
import hmac
import html
import io
import itertools
import json
import locale
import logging
import math
import numbers
import operator
import os
import pathlib
import posixpath
import pprint
import random
import re
import secrets
import socket
import statistics
import string
import struct
import sys
import textwrap
import time
import traceback
import types
import typing
import unicodedata
import urllib.parse
import uuid
import warnings
import zlib
from typing import Any, Literal, TypeGuard

import dspy
import pydantic

from .log_listeners import is_heard_by_nobody
from .places import package_of
from .trusted_types import CONTAINERS, RECORDS, SCALARS, VALUES, unpatched

__all__ = [
    "CALLERS",
    "DATA_TYPES",
    "LAZY",
    "Kind",
    "changes_environment",
    "is_a",
    "is_data",
    "is_data_class",
    "is_harmless_class",
    "is_harmless_function",
    "is_importable",
    "is_known_type",
    "is_process_wide",
    "read",
    "suspicion",
]

Kind = Literal["blocks", "thread", "unread", "process-wide"]
"""Why a thread: it may block, it depends on the thread that it runs in, it is not known. Or what it changes belongs to
the whole process, which is no reason for a thread, as it does not help."""

MAX_ITEMS = 10_000
"""How many items of an argument, or of what a program holds, are looked at; it is done before each run."""

_HASH = tuple({type(hashlib.new(name)) for name in ("md5", "sha256", "blake2b", "sha3_256", "shake_128")})
DATA_TYPES = frozenset(
    each
    for each in (
        *SCALARS,
        *(cls for cls in VALUES if not issubclass(cls, pathlib.PurePath)),
        *(decimal.Decimal, fractions.Fraction, random.Random, io.StringIO, io.BytesIO, *_HASH, hmac.HMAC),
        *(bytearray, memoryview, itertools.count, type({}.keys()), type({}.values()), type({}.items())),
        types.GenericAlias,
    )
)
"""Types whose methods neither block nor call anything but what they are given."""

_ITERABLES: tuple[Any, ...] = ([], (), "", {}, set(), range(0))
LAZY = frozenset(
    [
        *(map, filter, zip, enumerate, reversed, types.MappingProxyType, itertools.chain, itertools.cycle),
        *(itertools.islice, *(type(iter(each)) for each in _ITERABLES)),
    ]
)
"""Likewise, but items come from what was given when the instance was made, which is in it."""

_FACTORIES = (None, list, dict, set, int, str, float, bool, tuple, collections.Counter, collections.deque)


def is_data(*values: Any) -> bool:
    """Whether these values, and all that is in them, are of types in C, or of DSPy, that run no code of anybody."""
    todo: list[Any] = list(values)
    seen: set[int] = set()
    count = 0
    while todo:
        value = todo.pop()
        cls = type(value)
        if cls in DATA_TYPES:
            continue
        if id(value) in seen:
            continue
        seen.add(id(value))
        if cls in RECORDS or cls in LAZY:
            todo += [value._store] if cls in RECORDS else gc.get_referents(value)
            continue
        if cls not in CONTAINERS or (cls is collections.defaultdict and value.default_factory not in _FACTORIES):
            return False
        count += len(value)
        if count > MAX_ITEMS:
            return False
        parts = (value, value.values()) if isinstance(value, dict) else (value,)
        for part in parts:
            if not DATA_TYPES.issuperset(map(type, part)):
                todo += part
    return True


def is_a(value: object, cls: type | tuple[type, ...]) -> TypeGuard[Any]:
    """`isinstance()`, but what the value itself says of its class is not asked: that may be code of the user's."""
    return issubclass(type(value), cls)


def read(value: Any, name: str) -> Any:
    """One of Python's own attributes of a function, class or other object; None if there is none.

    Neither `__getattr__` nor a metaclass is asked, which may be code of the user's.
    """
    try:
        return (type if issubclass(type(value), type) else object).__getattribute__(value, name)
    except AttributeError:
        return None


def _public(*modules: types.ModuleType, without: tuple[str, ...] = ()) -> list[Any]:
    found: list[Any] = []
    for module in modules:
        names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
        found += [vars(module)[name] for name in names if name not in without and callable(vars(module).get(name))]
    return found


_NOT_BUILTINS = (
    *("open", "input", "exec", "eval", "compile", "breakpoint", "__import__", "help", "exit", "quit", "copyright"),
    *("globals", "locals", "vars", "dir", "getattr", "setattr", "delattr", "super", "credits", "license", "aiter"),
    *("anext", "memoryview"),
)
_FUNCTIONS: dict[int, Any] = {
    id(function): function
    for function in (
        *(f for name, f in vars(builtins).items() if callable(f) and name not in _NOT_BUILTINS and name[0] != "_"),
        *_public(math, cmath, statistics, textwrap, base64, binascii, html, itertools, heapq),
        *_public(string, copy, without=("Formatter", "replace")),
        *_public(operator, without=("attrgetter", "methodcaller")),
        *_public(bisect, unicodedata, collections, re, colorsys, struct, secrets, urllib.parse, decimal, fractions),
        *_public(hashlib, without=("file_digest",)),
        *_public(datetime, enum, numbers, abc, zlib),
        *_public(typing, without=("get_type_hints",)),
        *(uuid.UUID, uuid.uuid3, uuid.uuid4, uuid.uuid5),
        *_public(random, without=("SystemRandom",)),
        *_public(dataclasses, without=("dataclass", "make_dataclass")),
        *(*_public(difflib, hmac), pprint.pformat, pprint.saferepr, pprint.isreadable),
        *(json.loads, json.dumps, json.JSONDecodeError, ast.literal_eval, io.StringIO, io.BytesIO),
        *(functools.reduce, functools.cmp_to_key, functools.partial, functools.wraps, functools.update_wrapper),
        *(functools.total_ordering, types.SimpleNamespace, types.MappingProxyType, bytearray, memoryview),
        *(time.time, time.perf_counter, time.monotonic, time.time_ns, time.perf_counter_ns, time.monotonic_ns),
        *(time.process_time, time.strftime, time.localtime, time.gmtime, time.mktime, time.asctime, time.strptime),
        *(os.getenv, os.getpid, os.fspath, os.getcwd, os.urandom, os.cpu_count),
        *(posixpath.join, posixpath.basename, posixpath.dirname, posixpath.split, posixpath.splitext),
        *(posixpath.normpath, posixpath.commonprefix, posixpath.commonpath, posixpath.isabs, posixpath.relpath),
        *(logging.getLogger, traceback.format_exc, traceback.format_exception, traceback.format_tb),
        *(warnings.warn, warnings.simplefilter, warnings.filterwarnings, warnings.catch_warnings),
        *(contextlib.suppress, contextlib.nullcontext, contextlib.redirect_stdout, contextlib.redirect_stderr),
        *(sys.getsizeof, sys.exc_info, sys.intern, sys.getrecursionlimit, contextvars.ContextVar),
        *(os.chdir, os.putenv, os.unsetenv, os.umask),
        *(dspy.majority, dspy.InputField, dspy.OutputField, dspy.Signature, dspy.Prediction, dspy.Example),
        *(pydantic.Field, pydantic.create_model, unpatched(warnings.warn)),
    )
}

_UNSAFE_CLASS_NAMES = frozenset(["ChainMap", "UserDict", "UserList", "UserString", "NamedTuple", "TypedDict"])

_METHODS: dict[Any, frozenset[str] | None] = {
    json.JSONEncoder: frozenset(["encode"]),
    json.JSONDecoder: frozenset(["decode", "raw_decode"]),
} | dict.fromkeys(
    [
        *(random.Random, contextvars.ContextVar, contextvars.Token, types.SimpleNamespace, logging.LoggerAdapter),
        *(difflib.SequenceMatcher, BaseException, object, type, type(os.environ), collections.abc.Mapping),
        *(collections.abc.MutableMapping, warnings.catch_warnings, contextlib.suppress, contextlib.nullcontext),
        *(contextlib.redirect_stdout, pydantic.BaseModel, enum.Enum, functools.partial, dspy.Prediction, dspy.Example),
    ]
)
"""Classes outside of the data types whose own methods are known: these of them, or all."""

_LOGS = frozenset(
    [
        *("debug", "info", "warning", "warn", "error", "exception", "critical", "fatal", "log"),
        *("isEnabledFor", "getEffectiveLevel", "getChild", "hasHandlers", "setLevel", "addFilter"),
    ]
)


CALLERS: frozenset[Any] = frozenset([functools.partial, collections.defaultdict, collections.ChainMap, map, filter])
"""Types that call what they were made of. Of a subclass's instances, which are not looked into, nothing is known."""


def is_harmless_function(function: Any, owner: type | None = None) -> bool:
    """Whether a function, or a method that was found in the class `owner`, is known not to need a thread."""
    if id(function) in _FUNCTIONS:
        return True
    cls = type(function)
    if cls is types.BuiltinMethodType or cls is types.MethodType:
        found: Any = function.__self__
        if is_a(found, types.ModuleType) or found is None:
            return False
        kind = found if is_a(found, type) else type(found)
        return is_data_class(kind) or _is_method_known(kind, function.__name__)
    if cls in (types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType):
        kind = function.__objclass__
        return is_data_class(kind) or _is_method_known(kind, function.__name__)
    if cls is functools._lru_cache_wrapper:
        return id(function.__wrapped__) in _FUNCTIONS
    name = read(function, "__name__")
    if owner is not None and _is_method_known(owner, name):
        return True
    if owner is logging.Logger or owner is logging.RootLogger:
        return name in _LOGS
    return (
        is_a(function, types.FunctionType)
        and function.__globals__ is logging.__dict__
        and name in _LOGS
        and is_heard_by_nobody(logging.root)
    )


def _is_method_known(cls: type, name: str) -> bool:
    if issubclass(cls, pathlib.PurePath) or cls.__module__ == "pathlib._abc":  # 3.13's
        # What only computes with the name; all else asks the disk.
        return cls.__name__.startswith("Pure")
    names = _METHODS.get(cls, frozenset())
    if names is not None and str(cls.__module__).startswith("pydantic."):
        names = None
    return names is None or name in names


def is_harmless_class(cls: type) -> bool:
    """Whether making an instance, and what is done with it by the functions known here, needs no thread."""
    if is_data_class(cls) or id(cls) in _FUNCTIONS:
        return cls.__name__ not in _UNSAFE_CLASS_NAMES
    if issubclass(cls, pathlib.PurePath):
        return package_of(cls) == "pathlib"
    return issubclass(cls, BaseException) and cls.__module__ in ("builtins", "dspy.utils.exceptions", "json.decoder")


def is_data_class(cls: type) -> bool:
    """Whether instances count as data."""
    return cls in DATA_TYPES or cls in LAZY or cls in CONTAINERS or cls in RECORDS


_NAMED = (
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, functools.partial, type),
    *(types.MethodDescriptorType, types.WrapperDescriptorType, functools._lru_cache_wrapper, object, property),
    *(types.MethodWrapperType, types.UnionType, logging.Logger, logging.RootLogger, pathlib.PurePath),
    *(pathlib.PosixPath, pathlib.Path, pathlib.PurePosixPath, types.EllipsisType, types.NotImplementedType),
    *(abc.ABC, typing.Generic, typing.Protocol, types.DynamicClassAttribute),
)


def is_known_type(cls: type) -> bool:
    """Whether the operators of a type, and looking up attributes, run no code of anybody."""
    return cls in _NAMED or cls in _METHODS or is_harmless_class(cls) or cls.__module__ == "enum"


_IMPORTABLE = frozenset(
    [
        *("json", "re", "math", "random", "string", "textwrap", "copy", "itertools", "functools", "collections"),
        *("operator", "datetime", "time", "uuid", "os", "sys", "logging", "typing", "dataclasses", "enum", "hashlib"),
        *("statistics", "heapq", "bisect", "html", "base64", "decimal", "fractions", "traceback", "warnings", "types"),
        *("contextlib", "contextvars", "io", "pathlib", "difflib", "urllib.parse", "ast", "struct", "secrets"),
        *("dspy", "pydantic", "abc", "numbers", "unicodedata", "collections.abc", "pprint", "inspect", "asyncio"),
        *("threading", "queue", "concurrent.futures", "subprocess", "socket", "builtins", "posixpath", "os.path"),
    ]
)


def is_importable(name: str) -> bool:
    """Whether a module has been imported long since, by Python, DSPy or this package: to import it takes no lock."""
    return name in _IMPORTABLE and name in sys.modules


_PROCESS_WIDE = frozenset(
    id(function)
    for function in (
        *(os.chdir, os.putenv, os.unsetenv, os.umask, random.seed, random.setstate, warnings.catch_warnings),
        *(warnings.simplefilter, warnings.filterwarnings, contextlib.redirect_stdout, contextlib.redirect_stderr),
        *(sys.setrecursionlimit, time.tzset, locale.setlocale, socket.setdefaulttimeout, logging.disable),
        getattr(contextlib, "chdir", os.chdir),
    )
)


def is_process_wide(function: Any) -> bool:
    """Whether what a function changes belongs to the whole process."""
    if id(function) in _PROCESS_WIDE:
        return True
    seeds = ("numpy.random", "seed"), ("torch", "manual_seed")
    if any(function is getattr(sys.modules.get(module), name, sys) for module, name in seeds):
        return True
    owner = read(function, "__self__")
    is_random = owner is getattr(random, "_inst", None)
    return changes_environment(owner, function) or (is_random and function.__name__ in ("seed", "setstate"))


def changes_environment(owner: Any, function: Any) -> bool:
    """Whether a method changes `os.environ`."""
    name = read(function, "__name__")
    return owner is os.environ and name in ("update", "pop", "setdefault", "clear", "popitem")


_BLOCK = frozenset(
    [
        *("queue", "_queue", "threading", "_thread", "multiprocessing", "concurrent", "subprocess", "select", "time"),
        *("socket", "_socket", "ssl", "http", "urllib", "requests", "httpx", "io", "_io", "os", "posix", "posixpath"),
        *("genericpath", "pathlib", "shutil", "tempfile"),
    ]
)
_KEEP_TO_THREADS = frozenset(["sqlite3", "_sqlite3", "asyncio", "_asyncio", "signal", "_signal", "greenlet"])
_OF_THE_THREAD = frozenset(["get_ident", "get_native_id", "current_thread", "currentThread", "local", "_getframe"])
_LOCKS = "Lock RLock lock Condition Event Semaphore BoundedSemaphore Barrier"


def suspicion(module: str, name: str) -> tuple[Kind, str]:
    """What to say of something that is in no table."""
    if name.rpartition(".")[2] in _OF_THE_THREAD or name.partition(".")[0] in ("local", "_local"):
        return "thread", "depends on its thread"
    if module == "builtins":
        return ("blocks", "may block") if name in ("open", "input") else ("unread", "is not known")
    package = module.partition(".")[0]
    if package in _BLOCK:
        return "blocks", "may block"
    return ("thread", "depends on its thread") if package in _KEEP_TO_THREADS else ("unread", "is not known")
