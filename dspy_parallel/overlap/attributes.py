"""Attributes, read and set without running code of the user's."""

from __future__ import annotations

import inspect
import itertools
import random
import sys
import types
from typing import Any

import dspy
from dspy.dsp.utils.settings import Settings

from . import inert, purity
from .frame import Frame, reachable
from .inert import SCALARS, is_known, runs_on_access
from .outside import MISSING, NOT_STATE, is_written_plainly
from .strands import Halted

__all__ = ["get", "put"]


def get(frame: Frame, owner: Any, name: str) -> Any:
    """The value of an attribute."""
    cls = type(owner)
    if runs_on_access(cls):
        raise Halted(f"attributes of {cls.__qualname__} are code of your own")
    if cls in purity.RECORDS:
        return _of_record(frame, owner, name)
    if isinstance(owner, Settings):
        return _of_settings(frame, owner, name)
    if isinstance(owner, type):
        return _of_class(frame, owner, name)
    if isinstance(owner, types.ModuleType):
        return _of_module(frame, owner, name)
    if cls is super:
        return _of_super(owner, name)
    if purity.is_builtin(cls):
        return getattr(owner, name)
    value = _of_instance(frame, owner, name)
    if isinstance(owner, NOT_STATE) and not isinstance(value, _FIXED):
        raise Halted(f"`{name}` of a {cls.__qualname__} may be changed by any call")
    return value


_FIXED = (*SCALARS, dspy.BaseLM, type, types.MethodType)
_MARKS = frozenset(["history", "callbacks"])
"""What DSPy itself changes with each call."""


def _of_settings(frame: Frame, owner: Any, name: str) -> Any:
    if name in frame.strand.overrides:
        return frame.strand.overrides[name]
    value = getattr(owner, name)
    is_fixed = type(value) in SCALARS or isinstance(value, (dspy.BaseLM, dspy.Adapter))
    if name != "context" and not is_fixed:
        raise Halted(f"`dspy.settings.{name}` may be changed by any call")
    return value


def _of_record(frame: Frame, owner: Any, name: str) -> Any:
    frame.strand.touch(owner)
    if name in owner._store and not hasattr(type(owner), name):
        return owner._store[name]
    if name == "completions" or name in purity.READERS[type(owner)]:
        return getattr(owner, name)
    raise Halted(f"`{name}` of a {type(owner).__name__} is not understood")


def _of_class(frame: Frame, owner: type, name: str) -> Any:
    if not is_known(type(owner)) or name.startswith("__"):
        raise Halted(f"`{name}` of the class {owner.__qualname__} is not understood")
    value = inspect.getattr_static(owner, name, MISSING)
    if type(value) in (staticmethod, classmethod, types.FunctionType):
        return getattr(owner, name)
    if isinstance(value, owner):  # a member of an enum
        return value
    if value is MISSING or hasattr(type(value), "__get__"):
        if purity.is_builtin(owner) or owner is itertools.chain:
            return getattr(owner, name)
        raise Halted(f"`{owner.__name__}.{name}` runs code of your own")
    return frame.scout.outside.variable(_definer(owner, name), name, value)


def _of_module(frame: Frame, owner: types.ModuleType, name: str) -> Any:
    value = vars(owner).get(name, MISSING)
    if value is MISSING:
        package = str(vars(owner).get("__name__", "")).partition(".")[0]
        if package not in ("dspy", "pydantic") and package not in sys.stdlib_module_names:
            raise Halted(f"`{package}.{name}` is made when it is asked for")
        return frame.scout.outside.adopt(getattr(owner, name))  # imported when it is first read
    return frame.scout.outside.variable(vars(owner), name, value)


def _of_instance(frame: Frame, owner: Any, name: str) -> Any:
    cls = type(owner)
    static = _static(cls, name)
    if name == "__class__":
        return cls
    if isinstance(owner, (dspy.Module, dspy.BaseLM)) and name in _MARKS:
        raise Halted(f"`{name}` of a {cls.__qualname__} may be changed by any call")
    if isinstance(static, property):
        if static.fget is not None and not isinstance(owner, dspy.Predict) and not is_known(_definer(cls, name)):
            from . import calls

            return calls.enter(frame, static.fget, (owner,), {})
        raise Halted(f"`{name}` of {cls.__qualname__} is a property")
    if static is not MISSING and hasattr(type(static), "__set__"):
        is_name = cls in (types.FunctionType, types.BuiltinFunctionType, types.MethodType) and name == "__name__"
        if type(static) is type(inspect.getattr_static(inert.NAMED_TUPLE, "field")) or is_name:
            return _unshared(static.__get__(owner, cls))
        raise Halted(f"`{name}` of {cls.__qualname__} is a descriptor")
    if purity.is_box(cls):
        frame.strand.touch(owner)
        if name in vars(owner):
            return vars(owner)[name]
    elif getattr(cls, "__dictoffset__", 0) != 0:
        value = frame.scout.outside.read(owner, name)
        if value is not MISSING:
            return value
    if static is MISSING:
        raise Halted(f"{cls.__qualname__} has no attribute `{name}` yet")
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
        raise Halted(f"`{name}` of {cls.__qualname__} is a descriptor")
    return frame.scout.outside.variable(_definer(cls, name), name, static)


def _of_super(owner: Any, name: str) -> Any:
    self, after = owner.__self__, owner.__thisclass__
    order = type(self).__mro__
    static = next((vars(base)[name] for base in order[order.index(after) + 1 :] if name in vars(base)), MISSING)
    if isinstance(static, types.FunctionType):
        return types.MethodType(static, self)
    if static is MISSING or not is_known(next(base for base in order[order.index(after) + 1 :] if name in vars(base))):
        raise Halted(f"`super().{name}` is not understood")
    return getattr(owner, name)


def _unshared(value: Any) -> Any:
    if purity.is_box(type(value)):
        raise Halted("a container in a named tuple")
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
    if type(owner) in purity.RECORDS:

        def change() -> None:
            owner._store[name] = value

        frame.put_into(owner, value)
        frame.touch(owner, change, f"`.{name}`", writing=True)
        return
    if frame.strand.guess is not None:
        raise Halted("an attribute is set on one side of an undecided branch")
    # Whoever comes before and has yet to read it must find what is there now.
    frame.strand.wait_for_all_before()
    if purity.is_box(type(owner)):
        if not is_written_plainly(type(owner), name):
            raise Halted(f"setting `{name}` of {type(owner).__qualname__} runs code")
        vars(owner)[name] = value
        frame.put_into(owner, value)
        return
    frame.scout.verdicts.known.clear()
    frame.scout.outside.share(reachable([value]))
    frame.scout.outside.write(owner, name, value)
