"""What may happen when an attribute is looked up or set, when an operator is used, or a context manager entered."""

from __future__ import annotations

import abc
import enum
import functools
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import dspy
import pydantic

from . import dspy_calls
from .abstract_values import DATA, NOTHING, ONLY_DATA, UNKNOWN, Bound, Closure, Instance, Partial, SuperOf, Value
from .harmless_calls import CALLERS, is_a, is_data_class, is_harmless_class, is_known_type, read, suspicion
from .held_values import Held
from .object_contents import contents, hands_out, is_record
from .places import package_of
from .reach import Arguments, Frame, Reach
from .trusted_types import is_generated, is_heap_type, is_known, unpatched

__all__ = [
    "METACLASSES",
    "ask_class",
    "ask_truth",
    "assign_attribute",
    "attribute",
    "constant_name",
    "described",
    "is_function",
    "is_hidden",
    "module_of",
    "name_of",
    "operate",
    "super_of",
    "suspect",
    "use_context",
]

METACLASSES = (type, abc.ABCMeta, enum.EnumMeta, type(pydantic.BaseModel), type(dspy.Module), type(dspy.Signature))
_FUNCTIONS = (
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType),
    *(types.MethodWrapperType, types.ClassMethodDescriptorType),
)
_DUNDERS_READ = frozenset(["__name__", "__qualname__", "__doc__", "__class__", "__len__", "__contains__", "__module__"])
_OTHER_CLASSES = frozenset(["__mro__", "mro", "__bases__", "__base__", "__subclasses__"])
_NOT_OPERATORS = frozenset(
    [
        *("__init__", "__new__", "__post_init__", "__init_subclass__", "__class_getitem__", "__call__", "__set_name__"),
        *("__getattr__", "__getattribute__", "__setattr__", "__enter__", "__exit__"),
        *("__aenter__", "__aexit__", "__aiter__", "__anext__", "__del__", "__dir__", "__annotate__"),
    ]
)


def ask_class(reach: Reach, frame: Frame, value: Value, subject: Value, node: Any) -> None:
    """The subject is compared with a class: `isinstance()`, `issubclass()`, `case Name():`.

    A metaclass may answer, a class by `__subclasshook__`, and a protocol looks attributes up.
    """
    for atom in value:
        cls = getattr(atom, "value", None)
        if not is_a(cls, type) or is_known(cls):
            continue
        hook, _ = reach.holdings.of_class(cls, "__subclasshook__")
        is_plain = type(cls) in METACLASSES or (is_known(type(cls)) and subject == ONLY_DATA)
        if not is_plain or (hook is not None and not is_known(hook) and not vars(cls).get("_is_protocol")):
            reach.need(frame, node, "unread", f"what {described(cls)} says of its instances")


def is_function(value: Any) -> bool:
    """Whether it is a function, or a method as it stands in a class; maybe behind a seam of ours."""
    return type(value) in _FUNCTIONS or type(unpatched(value)) in _FUNCTIONS


def is_hidden(name: str) -> bool:
    """Whether an attribute is one of Python's own that lead anywhere."""
    return name.startswith("__") and name.endswith("__") and name not in _DUNDERS_READ


def name_of(value: Any) -> str:
    """The name of a function or class."""
    return str(read(value, "__qualname__") or read(value, "__name__") or type(value).__qualname__)


def module_of(value: Any) -> str:
    """The name of the module in which it was defined."""
    found = read(value, "__module__")
    return found if type(found) is str else type(value).__module__


def described(value: Any, definer: type | None = None) -> str:
    """A function's full name, for people: `queue.Queue.get`."""
    objclass = read(value, "__objclass__") or definer
    bound = read(value, "__self__")
    if objclass is None and bound is not None and not is_a(bound, types.ModuleType):
        objclass = bound if is_a(bound, type) else type(bound)
    if is_a(objclass, type):
        return f"{objclass.__module__}.{objclass.__qualname__}.{name_of(value).rpartition('.')[2]}"
    module = module_of(value)
    return name_of(value) if module == "builtins" else f"{module}.{name_of(value)}"


def suspect(reach: Reach, frame: Frame, node: Any, value: Any, definer: type | None = None) -> Value:
    """What is in no table, and cannot be read."""
    text = described(value, definer)
    module, name = module_of(value), name_of(value)
    if definer is not None:
        module, name = str(definer.__module__), f"{definer.__qualname__}.{name.rpartition('.')[2]}"
    elif module == "builtins" and "." in text:
        module = text.partition(".")[0]
    kind, verb = suspicion(module, name)
    return reach.need(frame, node, kind, f"{text} {verb}")


def _call_method(
    reach: Reach, frame: Frame, function: Any, owner: Value, definer: type | None, arguments: Arguments, node: Any
) -> Value:
    methods = frozenset(Bound(function, atom, definer) for atom in owner)
    return reach.call(frame, methods, arguments, node, "this method")


def attribute(reach: Reach, frame: Frame, atom: Any, name: str, node: Any, text: str) -> Value:
    """What `atom.name` may be."""
    if atom is DATA:
        if is_hidden(name):
            return reach.need(frame, node, "unread", f"{text} is not known")
        return ONLY_DATA | reach.heap
    if atom is UNKNOWN:
        reach.need(frame, node, "unread", f"what {text} is, is not known")
        return frozenset([UNKNOWN])
    if isinstance(atom, (Closure, Bound, Partial)):
        if name in _DUNDERS_READ:
            return ONLY_DATA
        return ONLY_DATA | {atom} | reach.heap  # `__call__`, `__func__`, or what has been set
    if isinstance(atom, SuperOf):
        return _attribute_of_super(reach, frame, atom, name, node)
    if isinstance(atom, Instance):
        return _attribute_of_instance(reach, frame, atom, atom.cls, name, node, text)
    value = atom.value
    if issubclass(type(value), types.ModuleType):
        found = reach.global_of(vars(value), name)
        if found is not None:
            return found
        return reach.need(frame, node, "unread", f"{text} is not known")
    if issubclass(type(value), type):
        return _attribute_of_class(reach, frame, atom, name, node, text)
    if dspy_calls.is_settings(value):
        return dspy_calls.setting(reach, name)
    return _attribute_of_instance(reach, frame, atom, type(value), name, node, text)


def _attribute_of_super(reach: Reach, frame: Frame, atom: SuperOf, name: str, node: Any) -> Value:
    cls = atom.owner.value if is_a(getattr(atom.owner, "value", None), type) else atom.owner.cls
    mro = cls.__mro__
    for base in mro[mro.index(atom.cls) + 1 :] if atom.cls in mro else ():
        if name in vars(base):
            reach.holdings.of_class(base, name)
            return _bind(reach, frame, atom.owner, base, vars(base)[name], node, name)
    return NOTHING


def super_of(reach: Reach, frame: Frame, arguments: Arguments, node: Any) -> Value:
    """`super(Class, self)`; without arguments, the function around it is asked."""
    classes: list[Any] = (
        [getattr(atom, "value", None) for atom in arguments.positional[0]] if len(arguments.positional) == 2 else [None]
    )
    if not all(is_a(cls, type) for cls in classes):
        return reach.need(frame, node, "unread", "super() of this kind")
    return frozenset(SuperOf(c, atom) for c in classes for atom in arguments.positional[1] if hasattr(atom, "cls"))


def constant_name(node: Any, arguments: Arguments) -> str | None:
    """The attribute that a call of `getattr()` names."""
    given = getattr(node, "args", [])
    if len(given) != len(arguments.positional):
        return None  # it is another call that stands there: of a partial, say
    value = getattr(given[1], "value", None) if len(given) > 1 else None
    return value if isinstance(value, str) else None


def _attribute_of_class(reach: Reach, frame: Frame, atom: Held, name: str, node: Any, text: str) -> Value:
    cls: type = atom.value
    if type(cls) not in METACLASSES and not is_known(type(cls)):
        return reach.need(frame, node, "unread", f"the metaclass of {cls.__qualname__} is not known")
    if is_a(cls, enum.EnumMeta) and name in cls.__members__:
        return reach.constant(cls.__members__[name])
    if is_a(cls, enum.EnumMeta) and name == "__members__":
        return ONLY_DATA.union(*map(reach.constant, cls.__members__.values()))
    if is_data_class(cls):
        return reach.constant(getattr(cls, name)) if hasattr(cls, name) else NOTHING
    if issubclass(cls, dspy.Signature):
        atom.is_same = True
    base, found = reach.holdings.of_class(cls, name)
    stored = NOTHING.union(*(reach.stores.get(("class", each, name), ()) for each in cls.__mro__))
    if name in _OTHER_CLASSES:
        return reach.need(frame, node, "unread", f"{text} is not known")
    if base is None or base is type:
        return stored | ONLY_DATA if hasattr(type(cls), name) or name.startswith("__") else stored
    if is_a(found, staticmethod):
        return stored | reach.constant(found.__func__)
    if is_a(found, (classmethod, types.ClassMethodDescriptorType)):
        function = reach.holdings.constant(found.__func__ if is_a(found, classmethod) else found)
        return stored | {Bound(function, atom, base)}
    if is_a(found, property):
        return stored | ONLY_DATA
    if not is_function(found) and not _is_plain_attribute(found):
        return reach.need(frame, node, "unread", f"{text} is not known")
    return stored | reach.constant(found)


def _is_plain_attribute(value: Any) -> bool:
    """Whether looking it up in a class gives the value itself."""
    return not hasattr(type(value), "__get__") or is_data_class(type(value))


def _attribute_of_instance(reach: Reach, frame: Frame, atom: Any, cls: type, name: str, node: Any, text: str) -> Value:
    if issubclass(cls, threading.local):
        return reach.need(frame, node, "thread", f"{text} depends on its thread")
    if name == "__class__" and reach.holdings.of_class(cls, name)[0] is object:
        return reach.constant(cls)
    if name == "__dict__" or is_hidden(name):
        base, found = reach.holdings.of_class(cls, name)
        if base is None or not is_a(unpatched(found), types.FunctionType):
            return reach.need(frame, node, "unread", f"{text} is not known")
    accessor, getter = reach.holdings.of_class(cls, "__getattribute__")
    if (
        is_a(getter, types.FunctionType) and accessor is not None and not is_known(accessor)
    ):  # those of types in C run no code
        return reach.need(frame, node, "unread", f"{cls.__qualname__}.__getattribute__ is not followed")
    base, found = reach.holdings.of_class(cls, name)
    stores = ((cls, name), (cls, "*"), *(("class", each, name) for each in cls.__mro__))
    values: set[Any] = set().union(*(reach.stores.get(store, ()) for store in stores))
    if base is not None and hasattr(type(found), "__set__"):
        return frozenset(values) | _bind(reach, frame, atom, base, found, node, name)
    if isinstance(atom, Held):
        own = reach.part_of(atom, name)
        if own is not None:
            # A property without a setter has been dealt with; a cached_property has been read already, in another
            # run, and may not have been in the next.
            cached = is_a(found, functools.cached_property)
            if not cached:
                return own | values
            values |= own
    if base is not None:
        return frozenset(values) | _bind(reach, frame, atom, base, found, node, name)
    if isinstance(atom, Instance) and issubclass(cls, pydantic.BaseModel) and name in cls.model_fields:
        reach.use_type(frame, cls, node)
        return frozenset(values) | reach.stores.get((cls, name), set()) | ONLY_DATA
    fallback, getter = reach.holdings.of_class(cls, "__getattr__")
    if (not values or isinstance(atom, Held)) and fallback is not None and not is_known(fallback):
        held = reach.holdings.constant(getter)
        return frozenset(values) | _call_method(
            reach, frame, held, frozenset([atom]), fallback, Arguments([ONLY_DATA]), node
        )
    if not values and accessor is not None and not is_known_type(accessor) and not is_known(accessor):
        return reach.need(frame, node, "unread", f"{text} is not known")  # a proxy that is written in C
    if fallback is not None and hands_out(cls):
        values |= contents(reach, atom)
    if not values and isinstance(atom, Instance) and ("made", cls) not in reach.seen:
        return frozenset([UNKNOWN])  # not made by the code: whoever made it may have set the attribute
    return frozenset(values)


def _bind(reach: Reach, frame: Frame, atom: Any, base: type, found: Any, node: Any, name: str) -> Value:
    """What an attribute of a class is when it is looked up on an instance."""
    owner = frozenset([atom])
    if is_a(found, property):
        getter = reach.holdings.constant(found.fget)
        return _call_method(reach, frame, getter, owner, base, Arguments(), node)
    if is_a(found, functools.cached_property):
        if sys.version_info < (3, 12):
            what = f"{base.__qualname__}.{name}, a functools.cached_property, holds a lock before Python 3.12, which"
            reach.need(frame, node, "blocks", f"{what} may block")
        getter = reach.holdings.constant(found.func)
        return _call_method(reach, frame, getter, owner, base, Arguments(), node)
    if is_a(found, staticmethod):
        return reach.constant(found.__func__)
    if is_a(found, (classmethod, types.ClassMethodDescriptorType)):
        cls = atom.value if is_a(getattr(atom, "value", None), type) else atom.cls
        function = reach.holdings.constant(found.__func__ if is_a(found, classmethod) else found)
        return frozenset([Bound(function, reach.holdings.constant(cls), base)])
    if is_function(found):
        return frozenset([Bound(reach.holdings.constant(found), atom, base)])
    if _is_plain_attribute(found):
        return reach.constant(found)
    if hands_out(atom.cls) and type(found).__module__ in ("builtins", "collections", "_collections"):
        return contents(reach, atom)
    if is_a(found, types.MemberDescriptorType):
        return (reach.part_of(atom, found.__name__) or NOTHING) if isinstance(atom, Held) else NOTHING
    if is_a(found, types.GetSetDescriptorType) or is_known_type(type(found)):
        return ONLY_DATA
    return reach.need(frame, node, "unread", f"{base.__qualname__}.{name} is not known")


def assign_attribute(reach: Reach, frame: Frame, atom: Any, name: str, value: Value, node: Any, text: str) -> None:
    """`atom.name = value`."""
    if atom is DATA or isinstance(atom, (Closure, Bound, Partial)):
        reach.put(value)
    elif atom is UNKNOWN:
        reach.need(frame, node, "unread", f"what {text} is, is not known")
    elif isinstance(atom, Held) and is_a(atom.value, types.ModuleType):
        reach.grow(reach.stored(("global", id(vars(atom.value)), name)), value)
        reach.need(frame, node, "process-wide", f"{text} is set, which belongs to the whole process")
    elif isinstance(atom, Held) and is_a(atom.value, type):
        reach.grow(reach.stored(("class", atom.value, name)), value)
    elif isinstance(atom, Held) and dspy_calls.is_settings(atom.value):
        reach.need(frame, node, "thread", "dspy.settings can be changed by one thread only, it")
    elif isinstance(atom, (Held, Instance)):
        cls = atom.cls
        if issubclass(cls, threading.local):
            reach.need(frame, node, "thread", f"{text} depends on its thread")
            return
        base, setter = reach.holdings.of_class(cls, "__setattr__")
        if base is not None and base is not object and not is_known(base):
            held = reach.holdings.constant(setter)
            _call_method(reach, frame, held, frozenset([atom]), base, Arguments([ONLY_DATA, value]), node)
        base, found = reach.holdings.of_class(cls, name)
        if is_a(found, property) and found.fset is not None:
            held = reach.holdings.constant(found.fset)
            _call_method(reach, frame, held, frozenset([atom]), base, Arguments([value]), node)
        elif base is not None and hasattr(type(found), "__set__") and not is_a(found, _SLOTS):
            reach.need(frame, node, "unread", f"{text} is not known")
        if issubclass(cls, pydantic.BaseModel) and cls.model_config.get("validate_assignment"):
            reach.use_type(frame, cls, node)
        dspy_calls.note_assignment(reach, frame, cls, name, value, node)
        reach.grow(reach.stored((cls, name)), value)


_SLOTS = (types.MemberDescriptorType, types.GetSetDescriptorType)


# Operators


def operate(reach: Reach, frame: Frame, value: Value, node: Any, only: frozenset[str] | None = None) -> Value:
    """An operator is used: arithmetic, comparisons, `str()`, iteration, items, or `only` some; returns what comes."""
    if value is ONLY_DATA or value == ONLY_DATA:
        return ONLY_DATA
    found = ONLY_DATA
    for atom in value:
        if atom is UNKNOWN:
            reach.need(frame, node, "unread", "operators of a value that is not known")
        elif isinstance(atom, (Held, Instance)):
            # An operator may use itself: on 3.13 those of Enum do.
            key = "operated", atom, value, only
            found |= reach.remembered(key, lambda: _operate(reach, frame, atom, value, node, only)) or NOTHING  # noqa: B023
    return found


DATA_GIVEN = Arguments([], {}, ONLY_DATA)
_TRUTH = frozenset(["__bool__", "__len__"])


def ask_truth(reach: Reach, frame: Frame, value: Value, node: Any) -> None:
    """A condition is tested."""
    operate(reach, frame, value, node, _TRUTH)


def _operate(reach: Reach, frame: Frame, atom: Any, operands: Value, node: Any, only: frozenset[str] | None) -> Value:
    cls: type = atom.cls
    if issubclass(cls, enum.EnumMeta) and isinstance(atom, Held):
        return NOTHING.union(*map(reach.constant, atom.value.__members__.values()))
    inner = contents(reach, atom) if only is None and is_record(cls) else NOTHING
    found = operate(reach, frame, inner, node) - ONLY_DATA
    if hands_out(cls):
        found |= inner
    if cls in METACLASSES or is_known_type(cls):
        return found
    if issubclass(cls, pydantic.BaseModel) and only is None:
        # What is computed, or turned into data, when a model is printed or dumped.
        decorators: Any = cls.__pydantic_decorators__
        for name in decorators.computed_fields:
            found |= attribute(reach, frame, atom, name, node, name)
        for name in (*decorators.field_serializers, *decorators.model_serializers):
            found |= reach.call(frame, attribute(reach, frame, atom, name, node, name), DATA_GIVEN, node, name)
    arguments = Arguments([], {}, operands | ONLY_DATA)
    for name, function, base in _operators_of(cls):
        if function is None:
            reach.need(frame, node, "unread", f"operators of {base.__module__}.{base.__qualname__}")
        elif only is None or name in only:
            reach.holdings.of_class(cls, name)
            held = reach.holdings.constant(function)
            result = _call_method(reach, frame, held, frozenset([atom]), base, arguments, node)
            if name in ("__reduce__", "__reduce_ex__"):  # whoever copies calls what they give
                result = reach.call(frame, result - ONLY_DATA, arguments, node, name)
            # An iterator is asked for items, and what `+` gives is added to the next.
            found |= result | operate(reach, frame, result - operands, node)
    return found


def _operators_of(cls: type) -> Iterator[tuple[str, Any, type]]:
    """Also what Python's own classes call of themselves: `random.Random.choice()` calls a subclass's `random()`."""
    theirs = {name for base in cls.__mro__ if _is_pythons(base) for name in vars(base)}
    for base in cls.__mro__:
        if base not in CALLERS and (is_known(base) or is_known_type(base) or is_harmless_class(base)):
            continue
        if base in CALLERS or not is_heap_type(base):
            yield "", None, base
            continue
        for name, value in vars(base).items():
            is_special = name.startswith("__") and name.endswith("__")
            if name not in _NOT_OPERATORS if is_special else name in theirs or name == "write":  # `print(file=...)`
                if is_a(value, types.FunctionType) and not is_generated(name, value):
                    yield name, value, base
                elif callable(value) and hasattr(type(value), "__get__") and not is_generated(name, value):
                    yield "", None, base


def _is_pythons(cls: type) -> bool:
    return cls is not object and package_of(cls) in sys.stdlib_module_names


def use_context(reach: Reach, frame: Frame, value: Value, node: Any) -> Value:
    """`with value`: what is bound to the name after `as`."""
    found = NOTHING
    for atom in value:
        if not isinstance(atom, (Held, Instance)):
            found |= frozenset([atom])
            if atom is UNKNOWN:
                reach.need(frame, node, "unread", "a context manager that is not known")
            continue
        for name in ("__enter__", "__exit__"):
            base, function = reach.holdings.of_class(atom.cls, name)
            if base is None:
                continue
            held = reach.holdings.constant(function)
            result = _call_method(reach, frame, held, frozenset([atom]), base, Arguments([ONLY_DATA] * 3), node)
            found |= result if name == "__enter__" else NOTHING
    return found
