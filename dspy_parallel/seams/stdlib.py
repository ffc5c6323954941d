"""Blocking calls of the standard library that are common in user code."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import threading
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any

from ..bridge import await_
from ..errors import ThreadRequiredError
from .async_counterparts import call_in_worker
from .table import Seam, in_thread, register

__all__: list[str] = []


def _sleep(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if len(args) != 1 or kwargs or not isinstance(args[0], (int, float)) or not 0 <= args[0] <= threading.TIMEOUT_MAX:
        return original(*args, **kwargs)  # a bad argument: let it raise what it raises
    if isinstance(original, BuiltinFunctionType):
        return await_(asyncio.sleep(args[0]))
    if isinstance(original, FunctionType):  # somebody's patch that was there before ours, and may well wait
        return call_in_worker(original, args, kwargs, "time.sleep is patched")
    return original(*args, **kwargs)  # a mock


_wait = in_thread("it waits for a subprocess")


def _communicate(original: Callable[..., Any], process: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return call_in_worker(original, args, kwargs, "it waits for a subprocess")
    except ThreadRequiredError:
        # `subprocess.run()` kills it for any error, and then waits, for which it would be refused a thread once more.
        process.kill()
        inspect.unwrap(subprocess.Popen.wait)(process)
        raise


register(
    Seam("time:sleep", _sleep), Seam("subprocess:Popen.wait", _wait), Seam("subprocess:Popen.communicate", _communicate)
)
