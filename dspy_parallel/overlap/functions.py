"""Functions that are declared pure: their results are shared between main line and scout."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["shared"]


def shared(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function that takes the scout's result, if the scout was first."""

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        from .sharing import call_shared

        return call_shared(call, fn, args, kwargs)

    return call
