"""Intrinsics: callees whose meaning the scout is told, instead of reading it from their source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .frame import Frame

__all__ = ["INTRINSICS", "Intrinsic"]

INTRINSICS: dict[Any, Callable[[Frame, list[Any], dict[str, Any]], Any]] = {}
"""Classes and functions of others, and what the scout does in their place: frame, arguments, keyword arguments."""


class Intrinsic:
    """A program that says by itself what it does when the scout runs it.

    Attributes:
        roots: What its run can get at.
    """

    roots: Sequence[Any] = ()

    def call(self, frame: Frame, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """What the call gives, perhaps `Pending`."""
        raise NotImplementedError
