"""What code refers to while it waits, as far as it can be seen from outside.

That is its local variables and the globals that it names; those attributes of them that it names, their own or their
class's, and all attributes of the object that owns the method, of what can be entered with `with`, and of what can be
subscripted; what is in containers; and what the functions refer to that it names, a few calls deep: one of them may
have returned what is used here, or be a context manager that has been entered.

Nothing of the program's own runs for that: no property, no `__getattr__`, no method of a subclass of `dict`.
"""

from __future__ import annotations

import concurrent.futures
import dis
import functools
import gc
import inspect
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import chain, islice
from types import (
    BuiltinMethodType,
    CellType,
    ClassMethodDescriptorType,
    CodeType,
    FrameType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, NamedTuple
from weakref import ReferenceType

__all__ = ["Reference", "references"]

MOST_OBJECTS = 1500
"""Objects that are looked into, the nearest first."""
MOST_ITEMS = 50
"""Items of a container that are looked into."""
MOST_SEEN = 10_000
"""Items of a container of which it is seen whether they are what is sought."""
DEPTH = 5
"""Steps from a variable: `self.state["locks"][key].lock` has four, what an `ExitStack` has entered is three away."""
NEAR = 2
"""The same where the code enters nothing: `self.locks[key]`."""
CALLS = 1
"""Functions in a row that are followed: a context manager may get its lock from a helper."""

_LEAVES = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray, object, CodeType, ContextVar}
    | {GetSetDescriptorType, WrapperDescriptorType, MethodDescriptorType, ClassMethodDescriptorType}
)
_ITEMS: dict[type, Callable[[Any], Iterable[Any]]] = {
    dict: dict.values,
    list: list.__iter__,
    tuple: tuple.__iter__,
    set: set.__iter__,
    frozenset: frozenset.__iter__,
    deque: deque.__iter__,
}
_CONTAINERS = tuple(_ITEMS)
_FUNCTION_OF: dict[type, Callable[[Any], Any]] = {
    property: lambda it: it.fget,
    functools.cached_property: lambda it: it.func,
    staticmethod: lambda it: it.__func__,
    classmethod: lambda it: it.__func__,
}
# What the garbage collector finds in these is all there is to them.
_HOLDERS = frozenset({functools.partial, CellType, type(functools.lru_cache(len))})
# They have locks of their own, which are nobody else's business.
_CLOSED = (
    threading.Thread,
    threading.Event,
    threading.Barrier,
    concurrent.futures.Executor,
    concurrent.futures.Future,
)

_ENTERING = frozenset({"acquire", "__enter__", "enter_context"})
_WITH = dis.opmap["WITH_EXCEPT_START"]
# Python 3.10 has no such table: there, any `with` statement of the function counts.
_exception_table: Callable[[CodeType], Iterable[Any]] | None = getattr(dis, "_parse_exception_table", None)

_namespace: Callable[[type], Mapping[str, Any]] = type.__dict__["__dict__"].__get__
_mro: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__


@dataclass(frozen=True)
class _Code:
    """Code that refers to things: by which names, at which place of the program, how many calls away from there."""

    names: tuple[str, ...]
    where: str
    calls: int
    enters: bool


def _has_entered(frame: FrameType) -> bool:
    """Whether a frame is inside a `with` statement, or may have taken a lock without one."""
    code = frame.f_code
    if not _ENTERING.isdisjoint(code.co_names):
        return True
    instructions = code.co_code
    if _WITH not in instructions[::2]:
        return False
    if _exception_table is None:
        return True
    # Who handles an exception here, who handles one in that handler, and so on outwards.
    handlers: dict[int, int] = {}
    for entry in _exception_table(code):
        handlers.update((at, entry.target) for at in range(entry.start, entry.end, 2))
    at = frame.f_lasti
    while (handler := handlers.pop(at, None)) is not None:
        if instructions[handler + 2] == _WITH:
            return True
        at = handler
    return False


class Reference(NamedTuple):
    """Something that code refers to; as a string, for instance `"self._lock at app.py:12 in forward"`.

    Attributes:
        value: What it is.
        path: How the code gets there.
        code: The code.
        depth: In how many steps.
        whole: Whether all of its attributes are of interest, named or not.
        owner: If it is a function: what it is a method of.
    """

    value: Any
    path: str
    code: _Code
    depth: int
    whole: bool = False
    owner: Any = None

    def __str__(self) -> str:
        return f"{self.path} at {self.code.where}"


def references(
    frames: Iterable[FrameType], sought: tuple[type, ...], leave_out: tuple[str, ...]
) -> Iterator[Reference]:
    """What code refers to while it waits, the nearest first, and what is in a `with` statement before what is not.

    Args:
        frames: Its frames.
        sought: Types that the caller looks for; what is of these is not looked into.
        leave_out: Beginnings of the names of files whose functions are not followed.
    """
    queue: deque[Reference] = deque()
    seen: set[tuple[int, int]] = set()
    entered = sorted(((frame, _code_of(frame)) for frame in frames), key=lambda pair: not pair[1].enters)
    found: Iterable[Reference] = chain.from_iterable(_in_frame(frame, code, 0) for frame, code in entered)
    for _ in range(MOST_OBJECTS):
        for reference in found:
            kind = type(reference.value)
            key = id(reference.value), id(reference.code.names)
            if kind in _LEAVES or key in seen:
                continue
            seen.add(key)
            if issubclass(kind, sought):
                yield reference
            elif _leads_on(reference):
                queue.append(reference)
        if not queue:
            return
        found = _inside(queue.popleft(), sought, leave_out)


def _leads_on(reference: Reference) -> bool:
    code = reference.code
    if type(reference.value) is FunctionType:
        names = reference.value.__code__.co_names
        return code.calls < CALLS and reference.depth < DEPTH and (code.enters or not _ENTERING.isdisjoint(names))
    return reference.depth < (DEPTH if code.enters else NEAR)


def _inside(reference: Reference, sought: tuple[type, ...], leave_out: tuple[str, ...]) -> Iterator[Reference]:
    value, path, code, depth = reference[:4]
    kind = type(value)
    if kind is FunctionType:
        if not value.__code__.co_filename.startswith(leave_out):
            yield from _in_function(reference)
    elif kind is MethodType:
        owner = Reference(value.__self__, path, code, depth)
        yield owner
        yield Reference(value.__func__, path, code, depth, owner=owner)
    elif kind is BuiltinMethodType:
        if type(value.__self__) is not ModuleType:
            yield Reference(value.__self__, path, code, depth)
    elif issubclass(kind, ReferenceType):
        yield Reference(ReferenceType.__call__(value), path, code, depth)
    elif kind is GeneratorType:
        yield from _in_generator(reference)
    elif kind in _FUNCTION_OF:
        yield reference._replace(value=_FUNCTION_OF[kind](value))
    elif kind in _HOLDERS:
        for part in gc.get_referents(value):
            yield reference._replace(value=part)
    else:
        if issubclass(kind, _CONTAINERS):
            for item in _items(value, sought):
                yield Reference(item, f"{path}[...]", code, depth + 1)
        if kind not in _ITEMS:
            yield from _in_attributes(reference)


def _code_of(frame: FrameType) -> _Code:
    code = frame.f_code
    where = f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"
    return _Code(code.co_names, where, 0, _has_entered(frame))


def _in_frame(frame: FrameType, code: _Code, depth: int) -> Iterator[Reference]:
    its = frame.f_code
    if its.co_flags & inspect.CO_OPTIMIZED:  # otherwise its locals are a module's, or a class's
        owner = its.co_varnames[0] if its.co_argcount else None
        for name, value in frame.f_locals.items():
            yield Reference(value, name, code, depth, whole=name == owner)
    for name, value in _named(frame.f_globals, code.names):
        yield Reference(value, name, code, depth)


def _in_function(reference: Reference) -> Iterator[Reference]:
    function, path, code, depth = reference[:4]
    its = function.__code__
    calls = code.calls if its.co_flags & inspect.CO_GENERATOR else code.calls + 1
    called = _Code(its.co_names, code.where, calls, True)
    for name, value in _named(function.__globals__, its.co_names):
        yield Reference(value, f"{name} in {path}", called, depth + 1)
    for name, cell in zip(its.co_freevars, function.__closure__ or (), strict=False):
        yield Reference(cell, f"{name} in {path}", called, depth + 1)
    for default in (function.__defaults__, function.__kwdefaults__):
        yield Reference(default, f"a default of {path}", called, depth + 1)
    if reference.owner is not None:
        yield reference.owner._replace(code=called)
    yield reference._replace(value=function.__dict__.get("__wrapped__"))


def _in_generator(reference: Reference) -> Iterator[Reference]:
    generator, path, code, depth = reference[:4]
    frame = generator.gi_frame
    if frame is None:
        return
    yield from _in_frame(frame, _Code(frame.f_code.co_names, code.where, code.calls, True), depth)
    # What a `with` statement has entered is known by the method that is to leave it, which only the collector sees.
    for part in gc.get_referents(generator, frame):  # of the frame's, only in Python 3.10
        if type(part) in (BuiltinMethodType, MethodType):
            yield Reference(part.__self__, path, code, depth)


def _items(container: Any, sought: tuple[type, ...]) -> list[Any]:
    items_of = next(_ITEMS[base] for base in _CONTAINERS if issubclass(type(container), base))
    try:
        items = list(islice(items_of(container), MOST_SEEN))
    except RuntimeError:  # another thread has changed it meanwhile
        return []
    return items[:MOST_ITEMS] + [item for item in items[MOST_ITEMS:] if type(item) in sought]


def _in_attributes(reference: Reference) -> Iterator[Reference]:
    value, path, code, depth, whole, _ = reference
    kind = type(value)
    is_class = issubclass(kind, type)
    spaces = [_namespace(cls) for cls in _mro(value if is_class else kind) if cls is not object]
    own = {} if is_class else _own_attributes(value, spaces)
    special = {
        name for space in spaces for name in ("__enter__", "__getitem__") if type(space.get(name)) is FunctionType
    }
    names = (*code.names, "__enter__", "__init__") if "__enter__" in special else code.names
    every = (whole or special) and not issubclass(kind, _CLOSED)
    for name, attribute in list(own.items()) if every else _named(own, names):
        yield Reference(attribute, f"{path}.{name}", code, depth + 1)
    for space in spaces:
        for name, attribute in _named(space, names):
            yield Reference(_slot(attribute, value), f"{path}.{name}", code, depth + 1, owner=reference)
        for name, attribute in list(space.items()) if whole and every else ():
            if type(attribute) is not FunctionType and type(attribute) not in _FUNCTION_OF:
                yield Reference(_slot(attribute, value), f"{path}.{name}", code, depth + 1)


def _named(space: Mapping[str, Any], names: Iterable[str]) -> list[tuple[str, Any]]:
    return [(name, space[name]) for name in names if name in space]


def _slot(attribute: Any, value: Any) -> Any:
    if type(attribute) is not MemberDescriptorType:
        return attribute
    try:
        return attribute.__get__(value)
    except (AttributeError, TypeError):  # empty; or the class's, not the instance's
        return None


def _own_attributes(value: Any, spaces: list[Mapping[str, Any]]) -> dict[str, Any]:
    slot: Any = next((space["__dict__"] for space in spaces if "__dict__" in space), None)
    try:
        own = slot.__get__(value) if type(slot) in (GetSetDescriptorType, MemberDescriptorType) else None
    except AttributeError:  # a proxy hands the question on, to what may have no attributes
        own = None
    return own if type(own) is dict else {}
