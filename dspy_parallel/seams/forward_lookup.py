"""Cheap attribute access on modules, for DSPy before 3.4.

To tell whether `forward` was looked up by `__call__`, older versions collect the whole call stack with source
lines, in every module call: up to 15 ms of CPU, more than the rest of the call. Hand-written async programs do
not pay that, so ours must not. This is the check that DSPy itself has since adopted.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from .table import Seam, register

__all__: list[str] = []

logger = logging.getLogger("dspy.primitives.module")


def _replacement(original: Callable[..., Any]) -> Callable[..., Any]:
    if "stack" not in original.__code__.co_names:
        return original

    def __getattribute__(self: Any, name: str) -> Any:
        attribute = object.__getattribute__(self, name)
        if name == "forward" and callable(attribute) and sys._getframe(1).f_code.co_name != "__call__":
            logger.warning(
                f"Calling module.forward(...) on {self.__class__.__name__} directly is discouraged. "
                f"Please use module(...) instead."
            )
        return attribute

    return __getattribute__


register(Seam("dspy.primitives.module:Module.__getattribute__", replacement=_replacement))
