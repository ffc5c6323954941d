"""Makes a module's `aforward()` from its `forward()`, and its `acall()` from a `__call__` of its own."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import dspy

from . import seams
from .callables import is_coroutine_function, is_generator_function
from .errors import DecorationError
from .overlap.api import overlapping
from .placement import Engine
from .programs import start
from .seams.async_counterparts import is_counterpart

__all__ = ["check_module", "give_twins", "is_coverable", "look_up", "make_aforward", "remove_overlap", "replaces_call"]


def _is_sync(fn: Any) -> bool:
    return callable(fn) and not is_coroutine_function(fn) and not is_generator_function(fn)


def _definer(cls: type, name: str) -> type | None:
    return next((base for base in cls.__mro__ if name in vars(base)), None)


def replaces_call(cls: type) -> bool:
    """Whether the class does its work in a `__call__` of its own instead of `forward`."""
    return _definer(cls, "__call__") not in (dspy.Module, type, None)


def is_coverable(cls: type) -> bool:
    """Whether twins can be made for the class."""
    forward = getattr(cls, "forward", None)
    return _is_sync(forward) if forward is not None else replaces_call(cls) and _is_sync(cls.__call__)


def check_module(cls: type, forward: Any) -> None:
    """Raise the error that says why no `aforward()` can be made."""
    name = f"{cls.__qualname__}.forward"
    if forward is None:
        if not replaces_call(cls):
            raise DecorationError(f"{cls.__qualname__} has no forward() to make an aforward() from. Define one.")
        name, forward = f"{cls.__qualname__}.__call__", cls.__call__
    if not callable(forward):
        kind = type(forward).__qualname__
        raise DecorationError(f"{name} is an object of type {kind}, which cannot be called. Make it a method.")
    if is_generator_function(forward):
        raise DecorationError(
            f"{name} is a generator function, which dspy.Module does not run to its end. Return a dspy.Prediction, "
            "and stream with dspy.streamify."
        )
    if is_coroutine_function(forward):
        twin = "acall" if name.endswith("__call__") else "aforward"
        raise DecorationError(f"{name} is a coroutine function already. Rename it to {twin}; {name} must be sync.")


def _is_generated(cls: type, name: str) -> bool:
    return hasattr(getattr(cls, name, None), "__bridge_engine__")


def give_twins(cls: type, engine: Engine, *, keep: bool = False, overlap: bool = False) -> list[tuple[str, Any]]:
    """Add what is missing or stale of `aforward` and `acall`; return what was added.

    With `keep`, twins that were generated for the class or a base before, perhaps for another engine, stay. With
    `overlap`, both `forward` and its twin run with a scout ahead.
    """
    added: list[tuple[str, Any]] = []
    for sync, twin, make in (("forward", "aforward", make_aforward), ("__call__", "acall", _make_acall)):
        generated = _is_generated(cls, twin)
        if (generated and not keep) or not (generated or is_counterpart(cls, sync, twin)):
            if sync == "forward" and not hasattr(cls, "forward") and replaces_call(cls):
                continue
            made = make(cls, engine)
            setattr(cls, twin, made)
            added.append((twin, made))
    # Last: put over an inherited `forward`, it would make an inherited `aforward` look stale.
    return added + _give_overlap(cls, engine, overlap, keep=keep)


def _give_overlap(cls: type, engine: Engine, overlap: bool, *, keep: bool) -> list[tuple[str, Any]]:
    forward: Any = getattr(cls, "forward", None)
    if keep and hasattr(forward, "__overlap_original__"):
        return []
    if not overlap:
        if "forward" in vars(cls) and hasattr(forward, "__overlap_original__"):
            remove_overlap(cls)
        return []
    # As the class has it: of a static method, `forward` is a plain function, too.
    if not isinstance(inspect.getattr_static(cls, "forward", None), types.FunctionType):
        return []
    made = overlapping(getattr(forward, "__overlap_original__", forward), engine, "forward" not in vars(cls))
    cls.forward = made  # type: ignore[attr-defined]
    return [("forward", made)]


def remove_overlap(cls: Any) -> None:
    """Give a class its own `forward` back."""
    made = vars(cls)["forward"]
    if made.__overlap_inherited__:
        del cls.forward
    else:
        cls.forward = made.__overlap_original__


def make_aforward(owner: type, engine: Engine) -> Callable[..., Any]:
    """The `aforward()` that is to be put on the class `owner`."""

    async def aforward(self: Any, *args: Any, **kwargs: Any) -> Any:
        _arrive()
        cls = type(self)
        # Called as super().aforward(), it stands for super().forward().
        is_super = cls is not owner and _definer(cls, "aforward") is not owner
        forward = functools.partial(owner.forward, self) if is_super else look_up(self)  # type: ignore[attr-defined]
        # There may be a `forward` on the instance alone.
        overlapped = getattr(getattr(owner, "forward", None), "__overlap_start__", None)
        return await (overlapped or start)(forward, args, kwargs, engine)

    return _dressed(aforward, getattr(owner, "forward", owner.__call__), engine)


def _make_acall(owner: type, engine: Engine) -> Callable[..., Any]:
    """For a class that overrides `__call__` alone."""

    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        _arrive()
        cls = type(self)
        call = (cls if _definer(cls, "acall") is owner else owner).__call__
        return await start(functools.partial(call, self), args, kwargs, engine)

    return _dressed(acall, owner.__call__, engine)


def look_up(module: Any, *default: Any) -> Any:
    """The module's `forward` as its `__call__` finds it, be it patched in on the instance, as optimizers do.

    Code of any other name than `__call__` that reads `module.forward` is told by DSPy, in its log, that this is
    discouraged.
    """

    def __call__() -> Any:
        return getattr(module, "forward", *default)

    return __call__()


def _arrive() -> None:
    """A decorated class that was pickled by value may be the first to need the seams in its new process."""
    seams.install()


def _dressed(twin: Callable[..., Any], sync: Callable[..., Any], engine: Engine) -> Callable[..., Any]:
    name = twin.__name__
    functools.update_wrapper(twin, sync)
    twin.__name__ = name
    twin.__qualname__ = f"{sync.__qualname__.rpartition('.')[0]}.{name}"
    vars(twin).pop("__isabstractmethod__", None)
    twin.__bridge_engine__ = engine  # type: ignore[attr-defined]
    return twin
