"""Async twins: when one may stand in for a sync method, and how it is called.

An inherited async method may not stand in for a sync one that a subclass has replaced: the override means to be
used, and the inherited method knows nothing of it. Nor may one that is there only to say that there is none.
"""

from __future__ import annotations

import contextvars
import dis
import functools
from collections.abc import Awaitable, Callable
from types import CodeType
from typing import Any

from ..bridge import await_, call_in_thread, in_bridge, run_in_thread

__all__ = ["await_twin", "call_in_worker", "is_twin", "refuses", "running_twins"]

_running: contextvars.ContextVar[tuple[object, ...]] = contextvars.ContextVar("dspy_parallel_twins", default=())

running_twins = _running.get
"""The owners of the twins that are being awaited around the running code, outermost first.

Other than `in_bridge()`, also known in threads to which DSPy or asyncio hand a part of the call.
"""


def call_in_worker(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], reason: str) -> Any:
    """Call a blocking function in a worker thread, unless the program has a thread of its own.

    Raises:
        ThreadRequiredError: In a program pinned to `engine="loop"`, if the call is the program's own. What a
            library does inside an LM call is not: the OpenAI client asks a subprocess for the platform's name.
    """
    if running_twins() and in_bridge():
        return await_(run_in_thread(fn, args, kwargs))
    return call_in_thread(fn, args, kwargs, reason)


def _depth(cls: type, name: str) -> int | None:
    return next((depth for depth, base in enumerate(cls.__mro__) if name in vars(base)), None)


def refuses(cls: type, name: str) -> bool:
    """Whether the method does nothing but raise NotImplementedError, in whatever words."""
    code = getattr(getattr(cls, name, None), "__code__", None)
    return code is not None and "NotImplementedError" in code.co_names and _only_raises(code)


@functools.cache
def _only_raises(code: CodeType) -> bool:
    """Whether it neither waits for anything nor has a way out but an exception."""
    steps = {instruction.opname for instruction in dis.get_instructions(code)} - {"RETURN_GENERATOR"}
    return not any(step.startswith(("RETURN_", "YIELD_", "GET_AWAITABLE", "SEND")) for step in steps)


def is_twin(cls: type, sync: str, twin: str) -> bool:
    """Whether, in this class, the twin does something, and is defined at least as far down as the sync method.

    Args:
        cls: The class to look at.
        sync: The sync method's name.
        twin: The async method's name.
    """
    sync_depth, twin_depth = _depth(cls, sync), _depth(cls, twin)
    if twin_depth is None or (sync_depth is not None and twin_depth > sync_depth):
        return False
    # If both refuse, neither is in use: an LM's `forward` and `aforward`, where it has an `acall` of its own.
    return not refuses(cls, twin) or refuses(cls, sync)


def await_twin(
    twin: Callable[..., Awaitable[Any]],
    original: Callable[..., Any],
    owner: object,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    calls_back: bool = True,
) -> Any:
    """Wait for `twin(*args, **kwargs)` in place of a sync call.

    Args:
        twin: The async counterpart.
        original: The sync callable.
        owner: What the twin belongs to: the instance, or a function.
        args: Positional arguments of either.
        kwargs: Keyword arguments of either.
        calls_back: Whether the twin may be written as a call of the sync method, which would bring it here again
            and again. Then a call of the owner inside the twin runs the original, in a thread.
    """
    running = _running.get()
    if calls_back and any(other is owner for other in running):
        return call_in_thread(original, args, kwargs, "its async counterpart calls it")

    async def call() -> Any:
        token = _running.set((*running, owner))
        try:
            return await twin(*args, **kwargs)
        finally:
            _running.reset(token)

    return await_(call())
