"""What calling a function gives: a result, a coroutine or a generator."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal

__all__ = ["is_coroutine_function", "is_generator_function", "kind_of"]


def kind_of(fn: Callable[..., Any]) -> Literal["sync", "coroutine", "generator"]:
    """What calling it gives; sees through partials and callable objects."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    code = getattr(fn, "__code__", None)
    if code is None:
        fn = getattr(type(fn), "__call__", fn)  # noqa: B004 - the method itself is wanted
        code = getattr(fn, "__code__", None)
    flags = code.co_flags if code is not None else 0
    if flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        return "generator"
    # That heeds the mark of inspect.markcoroutinefunction (3.12), too.
    return "coroutine" if flags & inspect.CO_COROUTINE or inspect.iscoroutinefunction(fn) else "sync"


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine."""
    return kind_of(fn) == "coroutine"


def is_generator_function(fn: Callable[..., Any]) -> bool:
    """Whether calling it gives a generator, sync or async."""
    return kind_of(fn) == "generator"
