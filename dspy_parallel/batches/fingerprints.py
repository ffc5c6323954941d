"""What tells inputs from other inputs, and a program in one state from all others: the same in every process.

A *form* is bytes that two values share only if nothing that a prompt can show of them differs: types, the order of
dicts, the sign of zero, time zones, what models exclude from their JSON. What an object is made of is asked of pickle's
protocol, `__reduce_ex__`, of which every class of Python's and of others makes sure that it is complete; nothing is
pickled. A secret is in a fingerprint only as a part of a hash.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import copyreg
import dataclasses
import enum
import functools
import hashlib
import io
import queue
import socket
import struct
import sys
import threading
import types
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, cast

import dspy
import pydantic

from ..analysis.places import package_of
from ..errors import BatchInputError, ResumeError

__all__ = ["fingerprint", "identity_of"]


class _NoForm(Exception):
    """There is none for a value; says which."""


def fingerprint(index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """16 bytes that tell a program's inputs from others.

    Raises:
        BatchInputError: If they cannot be told from others.
    """
    try:
        return _joined(_Inputs().form([list(args), kwargs], "inputs"))
    except (_NoForm, RecursionError) as exc:
        raise BatchInputError(
            f"Example {index} cannot be serialised: {exc}. A resume file recognises examples by their content. Give "
            "text, numbers, lists, dicts, dates, pydantic models or the like, or leave out resume=."
        ) from exc


def identity_of(program: Any) -> tuple[str, dict[str, str]]:
    """The program's name, and what results depend on, by parts: a hash of each.

    Code is that of the program and of all functions and classes that it names, unless they are of Python's library or
    of an installed package. Not part of it: LMs, which may change, and what DSPy notes of earlier runs.

    Raises:
        ResumeError: If it cannot be told from others.
    """
    named = type(program) if isinstance(program, dspy.Module) else program
    name = f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', type(named).__qualname__)}"
    try:
        return name, _Program().parts(program)
    except (_NoForm, RecursionError) as exc:
        raise ResumeError(
            f"resume= has to tell {name} from other programs, and cannot: {exc}. Make such an object where it is used, "
            "or leave it out of the state by __getstate__(); or leave out resume=."
        ) from exc


def _joined(*parts: bytes) -> bytes:
    """A form of several, which no others run together to."""
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        hashed.update(len(part).to_bytes(8, "big"))
        hashed.update(part)
    return hashed.digest()


def _named(value: Any) -> bytes:
    return f"{getattr(value, '__module__', None)}:{getattr(value, '__qualname__', None)}".encode()


class _Inputs:
    """Forms of values."""

    def __init__(self) -> None:
        self._around: dict[int, int] = {}
        """The containers that we are in: what refers to one of them is in a circle."""

    def form(self, value: Any, where: str) -> bytes:
        """Raises `_NoForm` for what has none."""
        kind = type(value)
        if kind is str:
            return b"str:" + str.encode(value, "utf-8", "surrogatepass")
        if value is None or kind is bool or value is Ellipsis or value is NotImplemented:
            return repr(value).encode()
        if kind is int:
            return b"int:%x" % value
        if kind is float:
            return b"float:" + struct.pack(">d", value)
        if kind is bytes:
            return b"bytes:" + bytes(value)
        if id(value) in self._around:
            return b"circle:%d" % (len(self._around) - self._around[id(value)])
        self._around[id(value)] = len(self._around)
        try:
            return self._compound(kind, value, where)
        finally:
            del self._around[id(value)]

    def _compound(self, kind: Any, value: Any, where: str) -> bytes:
        if kind in (list, tuple):
            forms = [self.form(part, f"{where}.{number}") for number, part in enumerate(value)]
            return _joined(kind.__name__.encode(), *forms)
        if kind is dict:
            return _joined(b"dict", *self._items(value.items(), where))
        if isinstance(value, (set, frozenset)):
            elements = sorted(self.form(part, f"{where}.element") for part in cast("set[Any]", value))
            return _joined(b"set", _named(kind), *elements, *self._attributes(getattr(value, "__dict__", {}), where))
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, enum.Enum):
            return _joined(b"enum", self._class(kind), self.form(value.value, where))
        if isinstance(value, dspy.Example):  # not what DSPy has counted and tried for a Prediction
            return _joined(b"example", self._class(kind), *self._items(value.items(), where))
        if isinstance(value, pydantic.BaseModel):  # not which of its values are defaults, nor what it has cached
            values = vars(value)
            fields = [self.form(values.get(name), f"{where}.{name}") for name in type(value).model_fields]
            more = (value.__pydantic_extra__ or {}, value.__pydantic_private__ or {})
            others = [form for each in more for form in self._attributes(each, where)]
            return _joined(b"model", self._class(kind), *fields, *others)
        return self._object(kind, value, where)

    def _items(self, items: Iterable[tuple[Any, Any]], where: str) -> Iterator[bytes]:
        for key, part in items:
            yield self.form(key, f"{where}.key")
            yield self.form(part, f"{where}.{key}" if type(key) is str else f"{where}.value")

    def _attributes(self, values: dict[str, Any], where: str) -> Iterator[bytes]:
        """In no order: who has set them is not seen."""
        for name in sorted(values, key=str):
            yield str(name).encode("utf-8", "surrogatepass")
            yield self.form(values[name], f"{where}.{name}")

    def _class(self, cls: Any) -> bytes:
        return b"class:" + _named(cls)

    def _object(self, kind: Any, value: Any, where: str) -> bytes:
        shows_nothing = kind.__repr__ is object.__repr__ and kind.__str__ is object.__str__
        if shows_nothing or callable(value):  # a prompt would show its address
            raise _NoForm(f"{where} is of type {kind.__module__}.{kind.__qualname__}")
        return self._reduced(kind, value, where)

    def _reduced(self, kind: Any, value: Any, where: str) -> bytes:
        maker, args, state, elements, items = _parts_of(value, where)
        return _joined(
            b"object",
            self._class(kind),
            _named(maker),
            self.form(args, where),
            *self._state(state, where),
            *(self.form(part, f"{where}.{number}") for number, part in enumerate(elements)),
            b"items",
            *self._items(items, where),
        )

    def _state(self, state: Any, where: str) -> Iterator[bytes]:
        if type(state) is dict:
            yield from self._attributes(cast("dict[str, Any]", state), where)
        elif type(state) is tuple and len(state) == 2 and isinstance(state[1], dict):
            for half in state:  # attributes, and slots
                yield from self._state(half, where)
        else:
            yield self.form(state, where)


def _parts_of(value: Any, where: str) -> tuple[Any, Any, Any, list[Any], list[Any]]:
    """What pickle would write of an object: who makes it of what, its state, its elements, its items."""
    kind: Any = type(value)
    try:
        reduce: Any = copyreg.dispatch_table.get(kind)
        reduced: Any = value.__reduce_ex__(4) if reduce is None else reduce(value)
        if isinstance(reduced, str):  # the name of something global
            return kind, reduced, None, [], []
        maker, args, state, elements, items = (*reduced, None, None, None)[:5]
        return maker, args, state, list(elements or ()), list(items or ())
    except Exception as exc:
        raise _NoForm(f"{where} is of type {kind.__module__}.{kind.__qualname__}, which has no form") from exc


_MACHINERY: tuple[Any, ...] = (
    *(threading.Thread, type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Event),
    *(threading.Semaphore, threading.Barrier, threading.local, queue.Queue, queue.SimpleQueue),
    *(concurrent.futures.Executor, concurrent.futures.Future, asyncio.AbstractEventLoop, asyncio.Future),
    *(asyncio.Lock, asyncio.Event, asyncio.Condition, asyncio.Semaphore, asyncio.Queue),
    *(contextvars.ContextVar, weakref.ref, socket.socket),
)
"""What threads and tasks of a program meet at. There is nothing in it that would be in the next process."""

_OF_EARLIER_RUNS = {"history", "callbacks", "traces", "train", "stage", "lm", "_compiled"}
"""Of a module, besides its LM."""

_CALLABLES = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.MethodWrapperType)


class _Program(_Inputs):
    """Forms of what a program is made of; code is collected on the way, since there may be a lot, and in circles."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[int] = set()
        self._kept: list[Any] = []  # so that no other object gets the number of one that is gone
        self._codes: list[Any] = []
        """Functions and classes whose code is still to be looked at."""
        self._in_globals = False

    def parts(self, program: Any) -> dict[str, str]:
        """The forms of what it has, by names that a user understands."""
        found: dict[str, list[bytes]] = {}
        for name, form in self._of(program):
            found.setdefault(name, []).append(form)
        self._in_globals = True
        codes: dict[str, list[bytes]] = {}
        while self._codes:
            each = self._codes.pop()
            form = self._members(each) if isinstance(each, type) else self._code_and_globals(each)
            codes.setdefault(f"the code of {each.__module__}", []).append(form)
        found |= {name: sorted(forms) for name, forms in codes.items()}
        return {name: _joined(*forms).hex()[:16] for name, forms in sorted(found.items())}

    def _of(self, program: Any) -> Iterator[tuple[str, bytes]]:
        if isinstance(program, types.MethodType):
            yield from self._of(program.__func__)
            yield from self._of(program.__self__)
        elif isinstance(program, types.FunctionType):
            yield "its name", self._function(program, "", whole=False)
            yield "its defaults", self.form([program.__defaults__, program.__kwdefaults__], "a default")
            for name, cell in zip(program.__code__.co_freevars, program.__closure__ or (), strict=True):
                yield f"its variable {name!r}", self._cell(cell, f"its variable {name!r}")
        elif isinstance(program, functools.partial):
            yield from self._of(cast("Any", program).func)
            yield "its arguments", self.form([program.args, program.keywords], "one of its arguments")
        elif isinstance(program, (type, *_CALLABLES)) or _is_wrapper(program):
            yield "its name", self.form(program, "it")
        else:
            yield "its class", self._class(type(program))
            for name, part in self._state_of(program).items():
                yield f"its attribute {name!r}", self.form(part, f"its attribute {name!r}")

    def _state_of(self, value: Any) -> dict[str, Any]:
        """Its attributes, and what it has as a list or a dict."""
        maker, args, state, elements, items = _parts_of(value, "it")
        found: dict[Any, Any] = dict(cast("dict[str, Any]", state)) if type(state) is dict else {"state": state}
        if isinstance(value, dspy.Module):
            found = {name: part for name, part in found.items() if name not in _OF_EARLIER_RUNS}
            if isinstance(found.get("demos"), list):  # examples; those that were loaded from a file are dicts
                found["demos"] = [dict(demo.items()) for demo in found["demos"]]
        return {
            **{name: found[name] for name in sorted(found, key=str)},
            "content": (_named(maker), args, elements, items),
        }

    def _object(self, kind: Any, value: Any, where: str) -> bytes:
        if isinstance(value, types.FunctionType):
            return self._function(value, where)
        if isinstance(value, types.MethodType):
            return _joined(b"method", self.form(value.__func__, where), self.form(value.__self__, where))
        if isinstance(value, _CALLABLES):
            bound = cast("Any", value).__self__
            of = _named(bound) if isinstance(bound, types.ModuleType) else self.form(bound, where)
            return _joined(b"builtin", _named(value), of)
        if isinstance(value, types.ModuleType):
            return b"module:" + value.__name__.encode()
        if isinstance(value, types.CodeType):
            return self._code(value)
        if isinstance(value, (staticmethod, classmethod)):
            return _joined(kind.__name__.encode(), self.form(cast("Any", value).__func__, where))
        if isinstance(value, property):
            return _joined(b"property", *(self.form(each, where) for each in (value.fget, value.fset, value.fdel)))
        if isinstance(value, io.IOBase):
            return _joined(b"file", _named(kind), str(getattr(value, "name", "")).encode("utf-8", "surrogatepass"))
        if isinstance(value, (dspy.BaseLM, _MACHINERY)):
            return b"machinery:" if isinstance(value, dspy.BaseLM) else b"machinery:" + _named(kind)
        if _is_wrapper(value):
            return _joined(b"wrapper", _named(kind), self.form(value.__wrapped__, where))
        if isinstance(value, dspy.Module):
            return _joined(b"program", self._class(kind), *self._attributes(self._state_of(value), where))
        if self._in_globals and not _is_plain(kind):
            return _joined(b"one of", self._class(kind))
        return self._reduced(kind, value, where)

    def _function(self, function: Any, where: str, *, whole: bool = True) -> bytes:
        self._note(function)
        forms = [_named(function)]
        if whole:
            forms += [self.form(function.__defaults__, where), self.form(function.__kwdefaults__, where)]
            forms += [self._cell(cell, where) for cell in function.__closure__ or ()]
        return _joined(b"function", *forms)

    def _cell(self, cell: Any, where: str) -> bytes:
        try:
            content = cell.cell_contents
        except ValueError:  # not set yet
            return b"empty"
        return self.form(content, where)

    def _class(self, cls: Any) -> bytes:
        if issubclass(cls, dspy.Signature):
            fields = [
                (name, each.annotation, each.json_schema_extra, list(each.metadata), each.is_required() or each.default)
                for name, each in cls.model_fields.items()
            ]
            return _joined(b"signature", self.form([getattr(cls, "instructions", ""), fields], "a signature"))
        self._note(cls)
        return super()._class(cls)

    def _note(self, code: Any) -> None:
        """Have the code looked at, if it is not that of an installed package."""
        if id(code) not in self._seen and _is_own(str(code.__module__)):
            self._seen.add(id(code))
            self._kept.append(code)
            self._codes.append(code)

    # Code: what it does, not where it stands or what it remembers

    def _members(self, cls: type) -> bytes:
        for base in cls.__bases__:
            self._note(base)
        members = [_named(cls), *(_named(base) for base in cls.__bases__)]
        for name, member in sorted(vars(cls).items()):
            is_code = isinstance(member, (types.FunctionType, staticmethod, classmethod, property))
            if hasattr(member, "__bridge_engine__") or (name.startswith("_") and not is_code):
                continue
            members += [name.encode(), self._leniently(member)]
        if issubclass(cls, enum.Enum):
            members += [self._leniently([name, each.value]) for name, each in cls.__members__.items()]
        if issubclass(cls, pydantic.BaseModel):
            members += [
                self._leniently([name, field.annotation]) for name, field in cast("Any", cls).model_fields.items()
            ]
        return _joined(*members)

    def _code_and_globals(self, function: Any) -> bytes:
        forms, names = [_named(function), self._code(function.__code__)], _names_in(function.__code__)
        known: dict[str, Any] = function.__globals__
        for name in sorted(names & known.keys()):
            forms += [name.encode(), self._leniently(known[name])]
            if isinstance(known[name], types.ModuleType) and _is_own(known[name].__name__):
                inside: dict[str, Any] = vars(known[name])
                forms += [self._leniently(inside[inner]) for inner in sorted(names & inside.keys())]
        return _joined(*forms)

    def _leniently(self, value: Any) -> bytes:
        """What code refers to and does not own: functions, classes, programs and plain values; of others the class."""
        try:
            return self.form(value, "")
        except _NoForm:
            return _joined(b"one of", _named(type(value)))

    def _code(self, code: types.CodeType) -> bytes:
        """Without names of files and numbers of lines."""
        consts = [
            self._code(const) if isinstance(const, types.CodeType) else self.form(const, "") for const in code.co_consts
        ]
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        exceptions = getattr(code, "co_exceptiontable", b"")
        return _joined(sys.version[:4].encode(), code.co_code, exceptions, self.form([names, counts], ""), *consts)


def _is_wrapper(value: Any) -> bool:
    """Whether it is a function in another one, which is none of Python's functions: as of `functools.cache`."""
    return callable(value) and hasattr(type(value), "__get__") and hasattr(value, "__wrapped__")


def _is_plain(kind: type) -> bool:
    """Whether it has values, not clients, connections and what else globals hold."""
    return dataclasses.is_dataclass(kind) or package_of(kind) in _OF_VALUES


_OF_VALUES = {"builtins", "collections", "datetime", "decimal", "fractions", "functools", "pathlib", "re", "types"} | {
    "typing",
    "uuid",
    "zoneinfo",
}


def _names_in(code: types.CodeType) -> set[str]:
    inner = (_names_in(const) for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*inner)


def _is_own(module: str) -> bool:
    """Whether the module is the user's: neither Python's nor of an installed package."""
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names or package in ("dspy", "dspy_parallel"):
        return False
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return "site-packages" not in file and "dist-packages" not in file
