"""Attributes, read and set without running code of the user's."""

from __future__ import annotations

import enum
import inspect
import itertools
import random
import sys
import types
from typing import Any

import dspy
import pydantic
from dspy.dsp.utils.settings import Settings

from ...analysis import effect_free, trusted_types
from ...analysis.third_party_loggers import is_logger, method_of
from ...analysis.trusted_types import SCALARS, is_known, runs_on_access
from ..runtime.snapshot import LOGGERS, MISSING, NOT_STATE, is_written_plainly
from ..runtime.thunks import BailOut, Pending
from .frame import Frame, reachable

__all__ = ["attribute", "get", "put"]


def attribute(frame: Frame, owner: Any, name: str) -> Any:
    """An attribute of something that may be pending."""
    name = frame.unmangled(name)
    if type(owner) is Pending and not owner.done:
        what = f"`.{name}` of {owner.what}"
        boxes = [*reachable([owner]), frame.interpreter.snapshot.location(name)]
        is_plain = frame.fiber.is_free(owner) and _is_scalar_of(owner, name)
        return frame.fiber.fork(
            lambda fiber: get(frame.at(fiber), fiber.force(owner), name), what, boxes, is_plain=is_plain
        )
    known = frame.force(owner)
    location = frame.interpreter.snapshot.location(name)
    if not frame.fiber.is_free(location):
        return frame.fiber.fork(lambda fiber: get(frame.at(fiber), known, name), f"`.{name}`", [location])
    return get(frame, known, name)


def _is_scalar_of(owner: Pending, name: str) -> bool:
    """Whether a field of a reply is a text or a number, by its signature."""
    field = None if owner.call is None else getattr(owner.call.target, "signature", None)
    field = None if field is None else field.output_fields.get(name)
    return field is not None and field.annotation in (str, int, float, bool)


def get(frame: Frame, owner: Any, name: str) -> Any:
    """The value of an attribute."""
    cls = type(owner)
    if runs_on_access(cls):
        raise BailOut(f"attributes of {cls.__qualname__} are code of your own")
    if cls in effect_free.RECORDS:
        return _of_record(frame, owner, name)
    if isinstance(owner, Settings):
        return _of_settings(frame, owner, name)
    if isinstance(owner, type):
        return _of_class(frame, owner, name)
    if isinstance(owner, types.ModuleType):
        return _of_module(frame, owner, name)
    if cls is super:
        return _of_super(owner, name)
    if effect_free.is_digest(cls) and not frame.interpreter.snapshot.is_ours(owner):
        raise BailOut(f"what a {cls.__qualname__} has been fed is not known")
    if effect_free.is_builtin(cls):
        return getattr(owner, name)
    value = _of_instance(frame, owner, name)
    if isinstance(owner, NOT_STATE) and not isinstance(value, _FIXED):
        raise BailOut(f"`{name}` of a {cls.__qualname__} may be changed by any call")
    return value


_FIXED = (*SCALARS, dspy.BaseLM, type, types.MethodType)
_MARKS = frozenset(["history", "callbacks"])
"""What DSPy itself changes with each call."""


def _of_settings(frame: Frame, owner: Any, name: str) -> Any:
    value = frame.fiber.overrides[name] if name in frame.fiber.overrides else getattr(owner, name)
    is_fixed = type(value) in SCALARS or isinstance(value, (dspy.BaseLM, dspy.Adapter))
    if name != "context" and not is_fixed:
        raise BailOut(f"`dspy.settings.{name}` may be changed by any call")
    return value


def _of_record(frame: Frame, owner: Any, name: str) -> Any:
    frame.fiber.touch(owner)
    if name in owner._store and not hasattr(type(owner), name):
        return owner._store[name]
    if name == "completions" or name in effect_free.READERS[type(owner)]:
        return getattr(owner, name)
    raise BailOut(f"`{name}` of a {type(owner).__name__} is not understood")


def _of_class(frame: Frame, owner: type, name: str) -> Any:
    if name in ("__name__", "__qualname__") and is_known(type(owner)):
        return getattr(owner, name)
    if not is_known(type(owner)) or name.startswith("__"):
        raise BailOut(f"`{name}` of the class {owner.__qualname__} is not understood")
    value = inspect.getattr_static(owner, name, MISSING)
    if type(value) in (staticmethod, classmethod, types.FunctionType):
        return getattr(owner, name)
    if isinstance(value, owner):  # a member of an enum
        return value
    if value is MISSING or hasattr(type(value), "__get__"):
        if effect_free.is_builtin(owner) or owner is itertools.chain:
            return getattr(owner, name)
        raise BailOut(f"`{owner.__name__}.{name}` runs code of your own")
    return frame.interpreter.snapshot.variable(_definer(owner, name), name, value)


def _of_module(frame: Frame, owner: types.ModuleType, name: str) -> Any:
    value = vars(owner).get(name, MISSING)
    if value is MISSING:
        package = str(vars(owner).get("__name__", "")).partition(".")[0]
        if package not in ("dspy", "pydantic") and package not in sys.stdlib_module_names:
            raise BailOut(f"`{package}.{name}` is made when it is asked for")
        return frame.interpreter.snapshot.adopt(getattr(owner, name))  # imported when it is first read
    return frame.interpreter.snapshot.variable(vars(owner), name, value)


def _of_instance(frame: Frame, owner: Any, name: str) -> Any:
    cls = type(owner)
    static = _static(cls, name)
    if name == "__class__":
        return cls
    if isinstance(owner, (dspy.Module, dspy.BaseLM)) and name in _MARKS:
        raise BailOut(f"`{name}` of a {cls.__qualname__} may be changed by any call")
    if is_logger(cls) and (method := method_of(owner, name)) is not None:
        return method
    if cls in LOGGERS and isinstance(static, types.FunctionType):
        return types.MethodType(static, owner)
    if name in ("name", "value") and issubclass(cls, enum.Enum) and _definer(cls, name) is enum.Enum:
        return frame.interpreter.snapshot.adopt(vars(owner)[f"_{name}_"])
    if isinstance(static, property):
        if static.fget is not None and not isinstance(owner, dspy.Predict) and not is_known(_definer(cls, name)):
            return frame.enter(static.fget, (owner,), {})
        raise BailOut(f"`{name}` of {cls.__qualname__} is a property")
    if static is not MISSING and hasattr(type(static), "__set__"):
        is_name = cls in (types.FunctionType, types.BuiltinFunctionType, types.MethodType) and name == "__name__"
        is_of_exception = isinstance(owner, BaseException) and type(static) is types.MemberDescriptorType
        if (
            type(static) is type(inspect.getattr_static(trusted_types.NAMED_TUPLE, "field"))
            or is_name
            or is_of_exception
        ):
            return _unshared(static.__get__(owner, cls))
        raise BailOut(f"`{name}` of {cls.__qualname__} is a descriptor")
    if effect_free.is_box(cls):
        frame.fiber.touch(owner)
        if name in vars(owner):
            return vars(owner)[name]
    elif getattr(cls, "__dictoffset__", 0) != 0:
        frame.fiber.touch(frame.interpreter.snapshot.location(name))
        value = frame.interpreter.snapshot.read(owner, name)
        if value is not MISSING:
            return value
    if static is MISSING:
        raise BailOut(f"{cls.__qualname__} has no attribute `{name}` yet")
    if isinstance(static, types.FunctionType):
        return types.MethodType(static, owner)
    if isinstance(static, staticmethod):
        return static.__func__
    if isinstance(static, classmethod):
        return types.MethodType(static.__func__, cls)
    if hasattr(type(static), "__get__"):
        wrapped = getattr(static, "__wrapped__", None)
        if isinstance(wrapped, types.FunctionType) and is_known(_definer(cls, name)):  # one of our seams
            return types.MethodType(wrapped, owner)
        if cls is random.Random:
            return getattr(owner, name)
        raise BailOut(f"`{name}` of {cls.__qualname__} is a descriptor")
    return frame.interpreter.snapshot.variable(_definer(cls, name), name, static)


def _of_super(owner: Any, name: str) -> Any:
    self, after = owner.__self__, owner.__thisclass__
    order = type(self).__mro__
    static = next((vars(base)[name] for base in order[order.index(after) + 1 :] if name in vars(base)), MISSING)
    if isinstance(static, types.FunctionType):
        return types.MethodType(static, self)
    if static is MISSING or not is_known(next(base for base in order[order.index(after) + 1 :] if name in vars(base))):
        raise BailOut(f"`super().{name}` is not understood")
    return getattr(owner, name)


def _unshared(value: Any) -> Any:
    if effect_free.is_box(type(value)):
        raise BailOut("a container in a named tuple")
    return value


def _definer(cls: type, name: str) -> type:
    return next(base for base in cls.__mro__ if name in vars(base))


def _static(cls: type, name: str) -> Any:
    for base in cls.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return MISSING


def put(frame: Frame, owner: Any, name: str, value: Any) -> None:
    """Set an attribute, as the scout sees it."""
    if type(owner) in effect_free.RECORDS:

        def change() -> None:
            owner._store[name] = value

        frame.put_into(owner, value)
        frame.touch(owner, change, f"`.{name}`", writing=True)
        return
    if effect_free.is_box(type(owner)):
        if not is_written_plainly(type(owner), name):
            raise BailOut(f"setting `{name}` of {type(owner).__qualname__} runs code")

        def change_field() -> None:
            vars(owner)[name] = value
            if isinstance(owner, pydantic.BaseModel):
                owner.__pydantic_fields_set__.add(name)

        frame.put_into(owner, value)
        frame.touch(owner, change_field, f"`.{name}`", writing=True)
        return
    snapshot = frame.interpreter.snapshot
    snapshot.check_writable(owner, name)

    def change_attribute() -> None:
        attempt = frame.fiber.attempt
        if attempt is not None:
            attempt.log(frame.fiber.here, snapshot.restorer_of(owner, name))
        frame.interpreter.verdicts.known.clear()
        snapshot.share(reachable([value]))
        snapshot.write(owner, name, value)

    frame.touch(snapshot.location(name), change_attribute, f"`.{name}`", writing=True)
