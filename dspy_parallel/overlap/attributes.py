"""Attributes, read and set without running code of the user's."""

from __future__ import annotations

import inspect
import types
from typing import Any

import dspy
import pydantic
from dspy.dsp.utils.settings import Settings

from . import purity
from .frame import Frame
from .outside import MISSING
from .strands import Halted

__all__ = ["get", "put"]


def get(frame: Frame, owner: Any, name: str) -> Any:
    """The value of an attribute."""
    cls = type(owner)
    if cls in purity.RECORDS:
        return _of_record(frame, owner, name)
    if isinstance(owner, Settings):
        return frame.strand.overrides[name] if name in frame.strand.overrides else getattr(owner, name)
    if isinstance(owner, (types.ModuleType, type)):
        return _of_namespace(frame, owner, name)
    if purity.is_builtin(cls) or cls is super:
        return getattr(owner, name)
    return _of_instance(frame, owner, name)


def _of_record(frame: Frame, owner: Any, name: str) -> Any:
    frame.strand.touch(owner)
    if name in owner._store and not hasattr(type(owner), name):
        return owner._store[name]
    if name == "completions":
        return owner.completions
    return getattr(owner, name)


def _of_namespace(frame: Frame, owner: Any, name: str) -> Any:
    if isinstance(owner, type):
        value = inspect.getattr_static(owner, name, MISSING)
        if isinstance(value, (staticmethod, classmethod, types.FunctionType)) or purity.is_plain(type(value)):
            return frame.scout.outside.adopt(getattr(owner, name))
        if isinstance(value, owner):  # a member of an enum
            return value
        if value is MISSING or hasattr(type(value), "__get__"):
            if owner.__module__ in ("builtins", "datetime", "itertools", "collections"):
                return getattr(owner, name)
            raise Halted(f"`{owner.__name__}.{name}` runs code of your own")
        return value
    value = vars(owner).get(name, MISSING)
    # A module may import an attribute when it is first read.
    return frame.scout.outside.adopt(getattr(owner, name) if value is MISSING else value)


def _of_instance(frame: Frame, owner: Any, name: str) -> Any:
    cls = type(owner)
    static = _static(cls, name)
    if isinstance(static, property):
        if static.fget is not None and not isinstance(owner, (dspy.Predict, pydantic.BaseModel)):
            from . import calls

            return calls.enter(frame, static.fget, (owner,), {})
        raise Halted(f"`{name}` of {cls.__name__} is a property")
    if static is not MISSING and hasattr(type(static), "__set__"):
        if isinstance(static, (types.MemberDescriptorType, types.GetSetDescriptorType)):
            return frame.scout.outside.adopt(getattr(owner, name))
        raise Halted(f"`{name}` of {cls.__name__} is a descriptor")
    if getattr(cls, "__dictoffset__", 0) != 0:
        value = frame.scout.outside.read(owner, name)
        if value is not MISSING:
            return value
    if static is MISSING:
        raise Halted(f"{cls.__name__} has no attribute `{name}` yet")
    if isinstance(static, types.FunctionType):
        return types.MethodType(static, owner)
    if isinstance(static, staticmethod):
        return static.__func__
    if isinstance(static, classmethod):
        return types.MethodType(static.__func__, cls)
    wrapped = getattr(static, "__wrapped__", None)
    if hasattr(type(static), "__get__"):
        if isinstance(wrapped, types.FunctionType) and isinstance(owner, dspy.Module):
            return types.MethodType(wrapped, owner)
        if cls.__module__.partition(".")[0] in ("re", "datetime", "logging", "random", "pathlib", "_random", "uuid"):
            return getattr(owner, name)
        raise Halted(f"`{name}` of {cls.__name__} is a descriptor")
    return frame.scout.outside.adopt(static)


def _static(cls: type, name: str) -> Any:
    for base in cls.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return MISSING


def put(frame: Frame, owner: Any, name: str, value: Any) -> None:
    """Set an attribute, as the scout sees it."""
    if type(owner) in purity.RECORDS:

        def change() -> None:
            owner._store[name] = value

        frame.touch(owner, change, f"`.{name}`", writing=True)
        return
    if frame.strand.guess is not None:
        raise Halted("an attribute is set on one side of an undecided branch")
    # Whoever comes before and has yet to read it must find what is there now.
    frame.strand.wait_for_all_before()
    frame.scout.outside.write(owner, name, value)
