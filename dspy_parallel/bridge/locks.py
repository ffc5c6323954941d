"""Finds locks that a program holds while it waits.

A lock held across an await is harmless in a thread and a disaster on the event loop: the next program that
wants the lock blocks the very thread on which the holder would have to go on. (A reentrant lock is worse: all
programs on the loop share a thread, so it lets everybody in.) Python cannot say who holds a lock; what can be
seen is which locks the waiting code *refers to*, in local variables, in the attributes of the objects that own
its methods, and in the globals that it names, and whether those are taken.
"""

from __future__ import annotations

import threading
from types import FrameType
from typing import Any

__all__ = ["held_lock"]

_LOCK = type(threading.Lock())
_RLOCK = type(threading.RLock())
_MISSING = object()


def _is_held(value: object) -> bool:
    kind = type(value)
    if kind is _LOCK:
        return value.locked()  # type: ignore[attr-defined,no-any-return]
    if kind is _RLOCK:
        return value._is_owned()  # type: ignore[attr-defined,no-any-return]
    if isinstance(value, threading.Condition):
        return _is_held(value._lock)  # type: ignore[attr-defined]
    # A semaphore does not know its initial value unless it is bounded. One that a program refers to
    # was made to limit concurrency, so a program that waits near it is taken to be inside.
    return isinstance(value, threading.Semaphore)


def _named_values(frame: FrameType) -> list[tuple[str, Any]]:
    code = frame.f_code
    local = frame.f_locals
    values = list(local.items())
    owner = local.get(code.co_varnames[0], None) if code.co_argcount else None
    attributes = getattr(owner, "__dict__", None)
    if isinstance(attributes, dict):
        values += [(f"{code.co_varnames[0]}.{name}", value) for name, value in list(attributes.items())]
    for name in code.co_names:
        value = frame.f_globals.get(name, _MISSING)
        if value is not _MISSING:
            values.append((name, value))
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
        for name, value in _named_values(frame):
            if _is_held(value):
                return f"{name} at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return None
