"""Blocking calls of the standard library that are common in user code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from ..bridge import await_
from .table import Seam, in_thread, register

__all__: list[str] = []


def _sleep(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if len(args) != 1 or kwargs or not isinstance(args[0], (int, float)) or not 0 <= args[0] <= threading.TIMEOUT_MAX:
        original(*args, **kwargs)  # a bad argument: let it raise what it raises
    else:
        await_(asyncio.sleep(args[0]))


_wait = in_thread("it waits for a subprocess")

register(
    Seam("time:sleep", _sleep),
    Seam("subprocess:Popen.wait", _wait),
    Seam("subprocess:Popen.communicate", _wait),
)
