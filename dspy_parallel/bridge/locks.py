"""Finds locks that a program holds while it waits.

A lock held across an await is harmless in a thread and a disaster on the event loop: the next program that
wants the lock blocks the very thread on which the holder would have to go on. (A reentrant lock is worse: all
programs on the loop share a thread, so it lets everybody in.) Python cannot say who holds a lock; what can be
seen is which locks the waiting code *refers to*, in local variables, in the attributes of the objects that own
its methods, and in the globals that it names, and whether those are taken.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
from types import FrameType, ModuleType
from typing import Any

__all__ = ["held_lock"]

_LOCK = type(threading.Lock())
_RLOCK = type(threading.RLock())
_OWN_CODE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Executors and threads refer to locks of their own, a semaphore among them, while a program waits for them.
_NOT_HOLDERS = (_OWN_CODE, threading.__file__, os.path.dirname(concurrent.futures.__file__))


def _is_held(value: Any) -> bool:
    kind = type(value)
    if kind is _LOCK:
        return bool(value.locked())
    if kind is _RLOCK:
        return bool(value._is_owned())
    if isinstance(value, threading.Condition):
        return _is_held(getattr(value, "_lock", None))
    if isinstance(value, threading.BoundedSemaphore):
        return bool(vars(value)["_value"] < vars(value)["_initial_value"])
    # Any other semaphore does not know its initial value. One that a program refers to was made to limit
    # concurrency, so a program that waits near it is taken to be inside.
    return isinstance(value, threading.Semaphore)


def _named_values(frame: FrameType) -> list[tuple[str, Any]]:
    code = frame.f_code
    local = frame.f_locals
    values: list[tuple[str, Any]] = list(local.items())
    values += [(name, frame.f_globals[name]) for name in code.co_names if name in frame.f_globals]
    owner = code.co_varnames[0] if code.co_argcount else None
    for prefix, value in list(values):
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict) and not isinstance(value, type):
            # A method's owner may take its locks in other methods; of anything else, what this code names.
            names = list(attributes) if prefix == owner and not isinstance(value, ModuleType) else code.co_names
            values += [(f"{prefix}.{name}", attributes[name]) for name in names if name in attributes]
    return values


def held_lock(frame: FrameType | None, until: FrameType | None) -> str | None:
    """Name a taken lock that the waiting code refers to.

    Args:
        frame: The innermost frame of the waiting code.
        until: The frame at which to stop: the one that called the program.

    Returns:
        For instance `"self._lock at app.py:12 in forward"`, or None.
    """
    while frame is not None and frame is not until:
        if not frame.f_code.co_filename.startswith(_NOT_HOLDERS):
            for name, value in _named_values(frame):
                if _is_held(value):
                    return f"{name} at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return None
