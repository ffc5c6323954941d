"""Code interpreters, which wait for a subprocess.

They run in worker threads, one call after the other. `PythonInterpreter` accepts calls only from the first thread
that used it. A bridged program has no thread of its own, and the same program may be called without the bridge
before and after: so the ownership is lent to the worker for each call, and given back.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

from ..bridge import call_in_thread
from .table import Seam, in_thread, register

__all__: list[str] = []

_REASON = "the interpreter waits for its subprocess"


class _Turns:
    """Lets one thread at a time use an interpreter; a tool that the interpreter calls may use it again."""

    __slots__ = ("__weakref__", "_lock")  # no __dict__: the bridge, in search of locks held across awaits, means others

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def take(self, interpreter: Any, method: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._lock.acquire()
        owner = getattr(interpreter, "_owner_thread", None)
        if owner is not None and owner != threading.get_ident():
            interpreter._owner_thread = None
        try:
            return method(*args, **kwargs)
        finally:
            # None: it has been shut down, or has no owners (before DSPy 3.1)
            if getattr(interpreter, "_owner_thread", None) is not None:
                interpreter._owner_thread = owner
            self._lock.release()


_turns: weakref.WeakKeyDictionary[Any, _Turns] = weakref.WeakKeyDictionary()


def _in_turn(original: Callable[..., Any], interpreter: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    turns = _turns.setdefault(interpreter, _Turns())
    return call_in_thread(turns.take, (interpreter, original, args, kwargs), {}, _REASON)


register(
    *(
        Seam(f"dspy.primitives.python_interpreter:PythonInterpreter.{method}", _in_turn, since=since)
        for method, since in (("execute", ""), ("start", "3.1.2"), ("shutdown", ""))
    ),
    *(
        Seam(f"dspy.primitives.local_interpreter:LocalInterpreter.{method}", in_thread(_REASON), since="3.4")
        for method in ("execute", "start", "shutdown")
    ),
)
