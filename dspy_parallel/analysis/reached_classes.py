"""What may happen when a class is called, or when an LM's reply is turned into its instances."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
from typing import Any

import dspy
import pydantic
import pydantic_core

from . import dspy_calls
from .abstract_values import DATA, NOTHING, ONLY_DATA, UNKNOWN, Bound, Value
from .effect_free import is_pure_type
from .harmless_calls import is_a, is_harmless_class, read
from .held_values import MISSING, Held
from .object_contents import hands_out
from .reach import Arguments, Frame, Reach
from .reached_attributes import METACLASSES, assign_attribute, described, operate, suspect
from .signature_types import use_text
from .trusted_types import is_code_of, is_dataclass, is_generated, is_known

__all__ = ["construct", "set_fields", "use_type"]


def construct(reach: Reach, frame: Frame, held: Held, arguments: Arguments, node: Any) -> Value:
    """A class is called that is none of plain data."""
    cls: type = held.value
    everything = arguments.all
    if is_harmless_class(cls):
        return frozenset([reach.instance(cls)])
    if issubclass(cls, dspy_calls.OBJECTS) and is_known(cls):
        return dspy_calls.construct(reach, frame, cls, arguments, node)
    if issubclass(cls, dspy.Signature):
        use_text(reach, frame, arguments, node)
        return ONLY_DATA | {held} | everything
    meta = type(cls)
    if meta not in METACLASSES and not is_code_of(meta.__call__, "dspy", "enum", "pydantic"):
        return reach.need(frame, node, "unread", f"the metaclass of {described(cls)} is not known")
    if issubclass(cls, enum.Enum):
        operate(reach, frame, everything, node)
        base, found = reach.holdings.of_class(cls, "_missing_")
        if base is not None and not is_known(base):
            function = reach.holdings.constant(_inner(found))
            reach.call(frame, frozenset([Bound(function, held, base)]), Arguments([ONLY_DATA]), node, "_missing_")
        return _members(reach, cls)
    instance = reach.instance(cls)
    reach.seen.add(("made", cls))
    owner = frozenset([instance])
    if hands_out(cls):
        reach.grow(reach.stored((cls, "*init")), everything)
    for name in ("__new__", "__init__", "__post_init__", "__del__"):
        base, found = reach.holdings.of_class(cls, name)
        found = _inner(found)
        if base is None or found is MISSING or base in (object, dspy.Module, BaseException, Exception):
            continue
        if is_known(base) and not is_generated(name, found) and not issubclass(base, pydantic.BaseModel):
            if not (is_harmless_class(base) or issubclass(base, (dspy.Module, dspy.Retrieve, dspy.Adapter, tuple))):
                suspect(reach, frame, node, found, base)
            continue
        first = frozenset([held]) if name == "__new__" else owner
        given = arguments if name in ("__new__", "__init__") else Arguments()
        if name == "__post_init__" and is_a(found, types.FunctionType):  # it is given those that are for it alone
            given = Arguments([everything | _defaults_of(reach, cls)] * (found.__code__.co_argcount - 1))
        if is_generated(name, found) and _fields_of(cls):
            set_fields(reach, frame, cls, Arguments([], {}, everything), node)
            for field in _fields_of(cls) if is_dataclass(cls) else ():  # by descriptors, or a `__setattr__`
                value = everything | reach.stores.get((cls, field), NOTHING)
                assign_attribute(reach, frame, instance, field, value, node, field)
        elif is_a(found, types.FunctionType) and not is_code_of(found, "pydantic"):
            method = Bound(reach.holdings.constant(found), next(iter(first)), base)
            reach.call(frame, frozenset([method]), given, node, name)
        elif not is_code_of(found, "pydantic") and not is_known(base):
            suspect(reach, frame, node, cls)
    if is_known(cls) and cls.__name__ in ("Image", "Audio", "File"):
        reach.need(frame, node, "blocks", f"{described(cls)}, which may read a file, may block")
    if issubclass(cls, pydantic.BaseModel):
        _validate(reach, frame, cls, everything, node)
    elif "__pydantic_validator__" in vars(cls):
        suspect(reach, frame, node, cls)  # Pydantic's kind of dataclass
    return owner


def _defaults_of(reach: Reach, cls: type) -> Value:
    init = reach.constant(inspect.getattr_static(cls, "__init__"))
    return NOTHING.union(*(reach.part_of(atom, "__defaults__") or NOTHING for atom in init if isinstance(atom, Held)))


def _inner(value: Any) -> Any:
    """The function in a class method, a static method, or Pydantic's wrapping of either."""
    if str(type(value).__module__).startswith("pydantic."):
        value = getattr(value, "wrapped", value)
    return value.__func__ if is_a(value, (classmethod, staticmethod)) else value


def _members(reach: Reach, cls: Any) -> Value:
    return NOTHING.union(*(reach.constant(member) for member in cls.__members__.values()), ONLY_DATA)


def set_fields(reach: Reach, frame: Frame, definer: type, arguments: Arguments, node: Any) -> Value:
    """A method that a dataclass or a named tuple has got: it sets fields, or compares them."""
    operate(reach, frame, arguments.all, node)
    for field in _fields_of(definer):
        reach.grow(reach.stored((definer, field)), arguments.all)
    for each in dataclasses.fields(definer) if is_dataclass(definer) else ():
        if each.default is not dataclasses.MISSING:
            reach.grow(reach.stored((definer, each.name)), reach.constant(each.default))
        if each.default_factory is not dataclasses.MISSING:
            factory = reach.constant(each.default_factory)
            reach.grow(reach.stored((definer, each.name)), reach.call(frame, factory, Arguments(), node, "a default"))
    return ONLY_DATA | arguments.all


def _fields_of(cls: type) -> list[str]:
    if is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    return list(read(cls, "_fields") or ())


def _validate(reach: Reach, frame: Frame, cls: Any, given: Value, node: Any) -> None:
    """A Pydantic model is made: fields are set, validators run."""
    _set_defaults(reach, frame, cls, node)
    for name in cls.model_fields:
        reach.grow(reach.stored((cls, name)), given)
    if cls.model_config.get("extra") == "allow":
        reach.grow(reach.stored((cls, "*")), given)
    if reach.once(("validated", cls)) and not is_pure_type(cls):
        use_type(reach, frame, cls, node)


def _set_defaults(reach: Reach, frame: Frame, cls: Any, node: Any) -> None:
    for name, info in (*cls.model_fields.items(), *cls.__private_attributes__.items()):
        made = frozenset[Any]() if info.default is pydantic_core.PydanticUndefined else reach.constant(info.default)
        if info.default_factory is not None:
            made |= reach.call(frame, reach.constant(info.default_factory), Arguments(missing=ONLY_DATA), node, name)
        reach.grow(reach.stored((cls, name)), made)


def use_type(reach: Reach, frame: Frame, hint: Any, node: Any) -> Value:
    """A value of this type is made from what an LM has said; returns what it may be."""
    found: set[Any] = {DATA}
    for part in typing.get_args(hint):
        found |= use_type(reach, frame, part, node)
    if str(type(hint).__module__).startswith("pydantic.") and hasattr(hint, "func"):  # AfterValidator and its like
        reach.call(frame, reach.constant(hint.func), Arguments([], {}, ONLY_DATA), node, "a validator")
    if not is_a(hint, type) or is_known(hint) or typing.get_origin(hint) is not None:
        return frozenset(found)
    if issubclass(hint, enum.Enum):
        return frozenset(found) | _members(reach, hint)
    instance = reach.instance(hint)
    found.add(instance)
    reach.seen.add(("made", hint))
    if not reach.once(("type", hint)):
        return frozenset(found)
    for base in hint.__mro__:
        if is_known(base):
            continue
        for name, value in vars(base).items():
            function = _inner(value)
            if not is_a(function, types.FunctionType) or is_generated(name, value):
                continue
            reach.holdings.of_class(hint, name)
            if _runs_by_itself(hint, name):
                method = Bound(reach.holdings.constant(function), instance, base)
                arguments = Arguments([], {}, ONLY_DATA | {instance} | reach.constant(hint))
                reach.call(frame, frozenset([method]), arguments, node, name)
    fields = dict[str, Any](read(hint, "__annotations__") or {})
    if issubclass(hint, pydantic.BaseModel):
        for name, info in hint.model_fields.items():
            fields[name] = info.annotation
            for note in info.metadata:
                use_type(reach, frame, note, node)
        _set_defaults(reach, frame, hint, node)
    for name, field in fields.items():
        if not isinstance(field, str):
            reach.grow(reach.stored((hint, name)), use_type(reach, frame, field, node))
        else:
            reach.grow(reach.stored((hint, name)), frozenset([UNKNOWN]))
    return frozenset(found)


def _runs_by_itself(cls: Any, name: str) -> bool:
    """Whether a function in a class runs without being called: dunders, validators, serializers."""
    if name.startswith("__") or name in ("model_post_init", "_missing_") or issubclass(cls, dspy.Type):
        return True
    decorators: Any = read(cls, "__pydantic_decorators__")
    kinds = [] if decorators is None else [getattr(decorators, f.name) for f in dataclasses.fields(decorators)]
    return any(name in kind for kind in kinds if isinstance(kind, dict))
