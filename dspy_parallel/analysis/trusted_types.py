"""Which values can be looked at, compared, printed and copied without running anybody's code.

Classes are told by what they are, never by what they say of themselves: `__module__` can be anything.
"""

from __future__ import annotations

import abc
import builtins
import collections
import datetime
import enum
import functools
import inspect
import operator
import pathlib
import re
import string
import sys
import types
import typing
import uuid
import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import dspy
import pydantic

from ..seams.patches import Patch
from .places import package_of

__all__ = [
    "BOXES",
    "CONTAINERS",
    "NAMED_TUPLE",
    "RECORDS",
    "SCALARS",
    "VALUES",
    "is_box",
    "is_builtin_method",
    "is_code_of",
    "is_dataclass",
    "is_exception",
    "is_from",
    "is_generated",
    "is_heap_type",
    "is_known",
    "is_limit",
    "is_made_plainly",
    "is_model",
    "is_plain",
    "methods_of",
    "once",
    "runs_on_access",
    "unpatched",
    "untrusted_reason",
]

BOXES: tuple[type, ...] = (
    *(list, dict, set, collections.deque, collections.Counter, collections.defaultdict, collections.OrderedDict),
)
"""Containers that programs change. The scout has copies of its own of those that it did not make."""

CONTAINERS = frozenset((*BOXES, tuple, frozenset))
RECORDS = (dspy.Prediction, dspy.Example)

SCALARS = frozenset((str, bytes, int, float, bool, complex, type(None), range, slice, type(...)))
VALUES = frozenset(
    (
        *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
        *(pathlib.PurePosixPath, pathlib.PosixPath, pathlib.PureWindowsPath, pathlib.WindowsPath),
        *(uuid.UUID, re.Pattern, re.Match, string.Template),
    )
)
_NAMED = frozenset((types.FunctionType, types.BuiltinFunctionType, types.ModuleType, functools.partial))
"""They are what their names say, as far as anybody who prints or compares them can tell."""

T = TypeVar("T")
MAX_ITEMS = 100_000
"""How much is looked through at a time."""


def once(look: Callable[[type], T], *, if_it_raises: Any = False) -> Callable[[type], T]:
    """Remember the answer for each class, as long as it exists.

    Extension types may raise at the most harmless look. What the answer is then, is on the safe side.
    """
    answers: weakref.WeakKeyDictionary[type, T] = weakref.WeakKeyDictionary()

    @functools.wraps(look)
    def answer(cls: type) -> T:
        known = answers.get(cls)
        if known is None:
            try:
                known = look(cls)
            except Exception:
                known = if_it_raises
            answers[cls] = known
        return known

    return answer


# Whose code


_PACKAGES = frozenset(["abc", "ast", "collections", "dataclasses", "dspy", "enum", "functools", "pydantic", "typing"])


def _module(name: Any, packages: Iterable[str]) -> dict[str, Any]:
    """The names in a module, if it is in one of the packages."""
    is_wanted = isinstance(name, str) and name.partition(".")[0] in packages
    module = sys.modules.get(name) if is_wanted else None
    return {} if module is None else vars(module)


def is_from(cls: type, *packages: str) -> bool:
    """Whether a class is what it says to be, of one of these packages."""
    return _module(cls.__module__, packages).get(cls.__name__) is cls


@once
def is_known(cls: type) -> bool:
    """Whether a class is one of Python's, Pydantic's or DSPy's."""
    if cls in _OTHERS or cls in VALUES or cls in CONTAINERS or getattr(builtins, cls.__name__, None) is cls:
        return True
    return is_from(cls, *_PACKAGES)


def unpatched(value: Any) -> Any:
    """What stands behind a seam of ours."""
    while type(value) is Patch:
        value = value.__wrapped__
    return value


_OTHERS = (typing.Generic, typing.Protocol, abc.ABC, pydantic.BaseModel, operator.itemgetter, pydantic.ValidationError)


def is_heap_type(cls: type) -> bool:
    """Whether it was made at run time, as by `class`: static types of extensions are not (`Py_TPFLAGS_HEAPTYPE`)."""
    return bool(cls.__flags__ & (1 << 9))


def is_builtin_method(fn: Any) -> bool:
    """Whether it is a function or a bound method that is written in C."""
    return issubclass(type(fn), types.BuiltinMethodType)


def is_code_of(code: Any, *packages: str) -> bool:
    """Whether a function was written in one of these packages."""
    if not isinstance(code, types.FunctionType):
        return False
    names = code.__globals__
    return bool(names) and _module(names.get("__name__"), packages) is names


# What a class defines

_HARMLESS = frozenset(
    [
        *("__module__", "__doc__", "__dict__", "__weakref__", "__qualname__", "__annotations__", "__slots__"),
        *("__init__", "__new__", "__post_init__", "__init_subclass__", "__class_getitem__", "__set_name__"),
        *("__orig_bases__", "__parameters__", "__type_params__", "__match_args__", "__abstractmethods__", "__call__"),
        *("__dataclass_fields__", "__dataclass_params__", "__firstlineno__", "__static_attributes__", "__replace__"),
        *("__annotate__", "__annotate_func__", "__annotations_cache__", "__classcell__", "__getnewargs__"),
        *("__enter__", "__exit__", "__signature__", "__class_vars__", "__private_attributes__", "__members__"),
        *("__deepcopy__", "__copy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__del__"),
        *("__setattr__", "__delattr__", "__dspy_parallel_overlap__"),
    ]
)
"""Names that nobody looks up who compares, prints or adds."""

_COPYING = frozenset(
    ["__deepcopy__", "__copy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__del__"]
)
_ACCESS = frozenset(["__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__class__"])
_PRINTS_ITS_PLACE = inspect.getattr_static(object, "__repr__")
NAMED_TUPLE: Any = typing.NamedTuple("NAMED_TUPLE", [("field", Any)])


def _own(cls: type, names: Callable[[str], bool]) -> bool:
    """Whether a class, or one that it inherits from, has methods of the user's under such names."""
    for base in cls.__mro__:
        if is_known(base):
            continue
        for name, value in vars(base).items():
            is_dunder = name.startswith("__") and name.endswith("__")
            if is_dunder and names(name) and not is_generated(name, value):
                return True
    return False


def is_generated(name: str, value: Any) -> bool:
    """Whether a class has got a method from a decorator or a metaclass of Python's or Pydantic's."""
    if value is None or isinstance(value, (types.WrapperDescriptorType, types.MethodDescriptorType)):
        return value is None or is_known(value.__objclass__)
    function = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    if not isinstance(function, types.FunctionType):
        return name.startswith("__pydantic") or isinstance(value, types.GetSetDescriptorType)
    code: Any = getattr(function, "__wrapped__", function)
    code = code.__code__ if isinstance(code, types.FunctionType) else function.__code__
    if function.__code__ is NAMED_TUPLE.__repr__.__code__ or is_code_of(function, "enum", "pydantic", "typing", "abc"):
        return True
    if name == "__new__" and code.co_filename == "<string>":
        return str(function.__globals__.get("__name__")).startswith("namedtuple_")
    # Dataclasses compile them, inside a function that is called so.
    maker = getattr(code, "co_qualname", "__create_fn__")
    return (
        code.co_filename == "<string>"
        and bool(code.co_flags & inspect.CO_NESTED)
        and maker.startswith("__create_fn__")
        and (function.__code__ is code or is_code_of(function, "dataclasses", "reprlib"))
    )


@once
def is_exception(cls: type) -> bool:
    """Whether it is an exception whose making and printing runs no code of the user's."""
    if not issubclass(cls, BaseException):
        return False
    packages = (*sys.stdlib_module_names, "dspy", "litellm", "pydantic", "pydantic_core")
    for base in cls.__mro__:
        is_of_others = is_from(base, *packages) or base.__module__ == "builtins"
        if not is_of_others and not all(name in _HARMLESS - _MAKING for name in vars(base) if name[:2] == "__"):
            return False
    return True


_MAKING = frozenset(["__init__", "__new__", "__call__", "__setstate__", "__reduce__", "__reduce_ex__", "__del__"])


@once
def is_plain(cls: type) -> bool:
    """Whether printing, comparing, hashing and adding instances runs no code of the user's, but for what is in them."""
    if cls in SCALARS or cls in CONTAINERS or cls in VALUES or cls in RECORDS or cls in _NAMED:
        return True
    if issubclass(cls, type):
        return is_known(cls)
    if issubclass(cls, BaseException):
        return is_exception(cls)
    if is_known(cls):
        return _is_of_dspy(cls) or cls is object
    if issubclass(cls, pydantic.BaseModel) and not _has_plain_fields(cls):
        return False
    bases = [base for base in cls.__mro__ if is_known(base)]
    if not all(base in _FOUNDATIONS or _is_of_dspy(base) or issubclass(base, enum.Enum) for base in bases):
        return False
    return _is_of_python(cls) and not _own(cls, lambda name: name not in _HARMLESS)


_FOUNDATIONS = frozenset((*_OTHERS, *SCALARS, object, tuple, pydantic.RootModel, *enum.Enum.__mro__))


def _is_of_dspy(cls: type) -> bool:
    return package_of(cls) == "dspy" and not issubclass(cls, (*RECORDS, *BOXES))


def _is_of_python(cls: type) -> bool:
    """Whether nothing in it is written in C that is not known."""
    return all(is_known(base) or is_heap_type(base) for base in cls.__mro__)


@functools.partial(once, if_it_raises=True)
def runs_on_access(cls: type) -> bool:
    """Whether looking up an attribute may run code of the user's."""
    if not is_heap_type(cls):
        return False
    return _own(cls, lambda name: name in ("__getattribute__", "__class__"))


def _has_plain_fields(cls: Any) -> bool:
    """Whether a Pydantic model writes out its fields by itself."""
    decorators: Any = getattr(cls, "__pydantic_decorators__", None)
    has_own = any(
        getattr(decorators, kind, None) for kind in ("field_serializers", "model_serializers", "computed_fields")
    )
    return (
        not has_own
        and not cls.model_config.get("json_encoders")
        and all(is_limit(each) for info in cls.model_fields.values() for each in info.metadata)
        and not any("__repr_args__" in vars(base) for base in cls.__mro__ if not is_known(base))
    )


def is_limit(note: Any) -> bool:
    """Whether what is noted on a field only limits its values."""
    kind = type(note).__name__
    limits = ("Gt", "Ge", "Lt", "Le", "Interval", "MultipleOf", "MinLen", "MaxLen", "Len")
    return (kind in limits and is_from(type(note), "annotated_types")) or kind.lstrip("_") == "PydanticGeneralMetadata"


def is_dataclass(cls: type) -> bool:
    """As the function of `dataclasses`, which has a metaclass's `__getattr__` run: the user's code."""
    return any("__dataclass_fields__" in vars(base) for base in cls.__mro__)


@once
def is_model(cls: type) -> bool:
    """Whether instances are records of fields, of which the scout can have copies: Pydantic models and dataclasses."""
    if issubclass(cls, pydantic.BaseModel):
        if is_known(cls) and cls is not dspy.History:
            return False  # those of DSPy are not changed
        is_open = cls.model_config.get("extra") == "allow" or cls.__private_attributes__
        return not is_open and is_known(type(cls)) and not _own(cls, lambda name: name in _COPYING | _ACCESS)
    return (
        is_dataclass(cls)
        and cls.__eq__ is not object.__eq__  # else two copies are never equal
        and type(cls) in (type, abc.ABCMeta)
        and all(base in (object, *_OTHERS) or not is_known(base) for base in cls.__mro__)
        and cls.__dictoffset__ != 0
        and not any("__slots__" in vars(base) for base in cls.__mro__ if base not in _OTHERS)
        and _is_of_python(cls)
        and not _own(cls, lambda name: name in _COPYING | _ACCESS)
    )


_FOUNDATIONS_OF_OBJECTS = (object, typing.Generic, abc.ABC, *dspy.Module.__mro__)


@once
def is_made_plainly(cls: type) -> bool:
    """Whether making an instance only calls `__init__`, and its attributes are in its `__dict__`."""
    return (
        type(cls) in (type, abc.ABCMeta, type(dspy.Module))
        and inspect.getattr_static(cls, "__new__") is inspect.getattr_static(object, "__new__")
        and isinstance(inspect.getattr_static(cls, "__init__"), (types.FunctionType, types.WrapperDescriptorType))
        and not getattr(cls, "__abstractmethods__", None)
        and not is_dataclass(cls)
        and all(base in _FOUNDATIONS_OF_OBJECTS or not is_known(base) for base in cls.__mro__)
        and not is_known(cls)
        and cls.__dictoffset__ != 0
        and not any("__slots__" in vars(base) for base in cls.__mro__ if not is_known(base))
        and _is_of_python(cls)
        and not _own(cls, lambda name: name in _ACCESS or name == "__del__")
    )


def is_box(cls: type) -> bool:
    """Whether an instance has something in it that may be pending, or change."""
    return cls in CONTAINERS or cls in RECORDS or (cls not in SCALARS and is_model(cls))


@functools.partial(once, if_it_raises={})
def methods_of(cls: type) -> dict[str, Any]:
    """The methods and properties of a class of the user's, or of those that its fields are of, by their names."""
    return dict(_methods_of(cls, set()))


_METHODS = (staticmethod, classmethod, property)


def _methods_of(hint: Any, seen: set[int]) -> Iterable[tuple[str, Any]]:
    if id(hint) in seen:
        return
    seen.add(id(hint))
    for part in typing.get_args(hint):
        yield from _methods_of(part, seen)
    if not isinstance(hint, type) or is_known(hint):
        return
    for base in hint.__mro__:
        if not (is_known(base) or is_from(base, "pathlib")):  # what it does to files is the main line's business
            yield from (item for item in vars(base).items() if callable(item[1]) or type(item[1]) in _METHODS)
    annotations = getattr(hint, "__annotations__", {})
    fields = dict[str, Any](annotations) if isinstance(annotations, dict) else {}
    if issubclass(hint, pydantic.BaseModel):
        fields.update((name, info.annotation) for name, info in hint.model_fields.items())
    for field in fields.values():
        yield from _methods_of(field, seen)


# Values


def untrusted_reason(*values: Any, only_data: bool = False, as_text: bool = False) -> str:
    """Why not to look into these values, as something among them runs code of the user's; empty if nothing does.

    Args:
        *values: They, and what is in them, must be there.
        only_data: Whether objects and functions count, too: anything but plain data.
        as_text: Whether it matters in which order things are.
    """
    todo = list(values)
    seen: set[int] = set()
    count = 0
    while todo:
        value = todo.pop()
        cls = type(value)
        if cls in SCALARS or cls in VALUES or id(value) in seen:
            continue
        count += 1
        if count > MAX_ITEMS:
            return "so many items are slow to look through"
        if not is_plain(cls):
            return f"operators of {cls.__qualname__} are code of your own"
        if (
            as_text
            and inspect.getattr_static(cls, "__repr__") is _PRINTS_ITS_PLACE
            and not issubclass(cls, dspy.BaseLM)
        ):
            return f"a {cls.__qualname__} is not plain data: it is printed by where it is in memory"
        if as_text and cls in (set, frozenset) and len(value) > 1:
            return "the order in a set is only known when the program comes to it"
        seen.add(id(value))
        if cls in CONTAINERS:
            if issubclass(type(value), dict):
                todo += [*_unlike(value), *_unlike(value.values())]
            else:
                todo += _unlike(value)
        elif cls in RECORDS:
            todo.append(value._store)
        elif is_model(cls):
            todo += vars(value).values()
        elif issubclass(type(value), tuple):
            todo += tuple.__iter__(value)
        elif is_dataclass(cls) or (issubclass(type(value), pydantic.BaseModel) and not is_known(cls)):
            return f"a {cls.__qualname__} may be changed meanwhile, and cannot be copied"
        elif issubclass(cls, BaseException):
            todo += tuple(value.args)  # pyright: ignore[reportAttributeAccessIssue]
        elif cls is functools.partial or (only_data and not _is_constant(cls)):
            return f"a {cls.__qualname__} is not plain data"
    return ""


def _unlike(items: Iterable[Any]) -> list[Any]:
    """Those of the items that have to be looked at."""
    return [] if SCALARS.issuperset(map(type, items)) else list(items)


def _is_constant(cls: type) -> bool:
    return issubclass(cls, (enum.Enum, type)) or (issubclass(cls, pydantic.BaseModel) and is_known(cls))
