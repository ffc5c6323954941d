"""Finds locks that a program holds while it waits.

A lock held across an await is harmless in a thread and a disaster on the event loop: the next program that
wants the lock blocks the very thread on which the holder would have to go on. (A reentrant lock is worse: all
programs on the loop share a thread, so it lets everybody in.) Python cannot say who holds a lock; what can be
seen is which locks the waiting code refers to (see `references`), and whether those are taken.
"""

from __future__ import annotations

import concurrent.futures
import logging
import os
import threading
import weakref
from dataclasses import dataclass
from types import FrameType
from typing import Any, cast

from .references import references

__all__ = ["HeldLock", "held_locks", "place_of", "see_semaphores"]

logger = logging.getLogger("dspy_parallel")

_LOCK = type(threading.Lock())
_RLOCK = type(threading.RLock())
_KINDS = (_LOCK, _RLOCK, threading.Condition, threading.Semaphore, threading.BoundedSemaphore)
_OWN_CODE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Executors and threads refer to locks of their own, a semaphore among them, while a program waits for them. And what
# is marked with offload has a thread in which it may hold locks.
_NOT_HOLDERS = (_OWN_CODE, threading.__file__, os.path.dirname(concurrent.futures.__file__))


@dataclass(frozen=True)
class HeldLock:
    """A lock that was taken when somebody looked.

    Attributes:
        lock: The lock.
        where: How the waiting code refers to it, for instance `"self._lock at app.py:12 in forward"`.
    """

    lock: Any
    where: str

    @property
    def is_held(self) -> bool:
        """Whether it is taken now."""
        return _is_held(self.lock)


def held_locks(frame: FrameType | None, until: FrameType | None) -> list[HeldLock]:
    """The taken locks that waiting code refers to.

    Args:
        frame: The innermost frame of the waiting code.
        until: The frame at which to stop: the one that called the program.
    """
    frames: list[FrameType] = []
    while frame is not None and frame is not until:
        if not frame.f_code.co_filename.startswith(_NOT_HOLDERS):
            frames.append(frame)
        frame = frame.f_back
    frames.reverse()  # the program's own code is around that of libraries
    try:
        found = references(frames, _KINDS, _NOT_HOLDERS)
        return [HeldLock(reference.value, str(reference)) for reference in found if _is_held(reference.value)]
    except Exception as exc:
        # Objects can lie about themselves in ways nobody thought of. A look from outside must not fail the program.
        logger.warning("The search for held locks failed by %s; engine='thread' does without it.", type(exc).__name__)
        return []


def place_of(frame: FrameType | None, until: FrameType | None) -> int:
    """A number for the place where code waits: equal if it has come there the same way."""
    place: list[tuple[int, int]] = []
    while frame is not None and frame is not until:
        place.append((id(frame.f_code), frame.f_lasti))
        frame = frame.f_back
    return hash(tuple(place))


def _is_held(lock: Any) -> bool:
    kind = type(lock)
    if kind is _LOCK:
        return bool(lock.locked())
    if kind is _RLOCK:
        return bool(lock._is_owned())
    if issubclass(kind, threading.Semaphore):
        return _is_entered(lock)
    inner = _own(lock)["_lock"]
    return type(inner) in (_LOCK, _RLOCK) and _is_held(inner)


def _own(lock: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", object.__getattribute__(lock, "__dict__"))


# Semaphores by their identity, and the highest value that each was seen to have.
_semaphores: dict[int, tuple[weakref.ref[threading.Semaphore], int]] = {}


def _is_entered(semaphore: threading.Semaphore) -> bool:
    """Whether its value has been higher; it does not know by itself, unless it is bounded."""
    number, value = id(semaphore), int(_own(semaphore)["_value"])
    highest = _own(semaphore).get("_initial_value", value)
    if number in _semaphores:
        highest = max(highest, _semaphores[number][1])
    _semaphores[number] = weakref.ref(semaphore, lambda _: _semaphores.pop(number, None)), highest
    return bool(value < highest)


def see_semaphores() -> None:
    """Look at all semaphores that are known, at a moment when a certain program does not wait inside of them."""
    for reference, _ in list(_semaphores.values()):
        semaphore = reference()
        if semaphore is not None:
            _is_entered(semaphore)
