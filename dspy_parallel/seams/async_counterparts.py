"""Async counterparts: when one may stand in for a sync method, and how it is called.

An inherited async method may not stand in for a sync one that a subclass has replaced: the override means to be
used, and the inherited method knows nothing of it. Nor may one that is there only to say that there is none.
"""

from __future__ import annotations

import contextvars
import dis
import functools
from collections.abc import Awaitable, Callable
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import wrapt

from ..bridge import await_, call_in_thread, in_bridge, run_in_thread
from .patches import Patch

__all__ = [
    "await_counterpart",
    "call_in_worker",
    "inner_counterpart",
    "is_beside",
    "is_bypassed",
    "is_counterpart",
    "refuses",
    "running_counterparts",
]

_running: contextvars.ContextVar[tuple[object, ...]] = contextvars.ContextVar("dspy_parallel_counterparts", default=())

running_counterparts = _running.get
"""The owners of the counterparts that are being awaited around the running code, outermost first.

Other than `in_bridge()`, also known in threads to which DSPy or asyncio hand a part of the call.
"""


def call_in_worker(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], reason: str) -> Any:
    """Call a blocking function in a worker thread, unless the program has a thread of its own.

    Raises:
        ThreadRequiredError: In a program pinned to `engine="loop"`, if the call is the program's own. What a
            library does inside an LM call is not: the OpenAI client asks a subprocess for the platform's name.
    """
    if running_counterparts() and in_bridge():
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


def is_beside(cls: type, sync: str, counterpart: str) -> bool:
    """Whether, in this class, the counterpart does something, and is defined at least as far down as the sync method.

    Args:
        cls: The class to look at.
        sync: The sync method's name.
        counterpart: The async method's name.
    """
    sync_depth, async_depth = _depth(cls, sync), _depth(cls, counterpart)
    if async_depth is None or (sync_depth is not None and async_depth > sync_depth):
        return False
    # If both refuse, neither is in use: an LM's `forward` and `aforward`, where it has an `acall` of its own.
    return not refuses(cls, counterpart) or refuses(cls, sync)


def is_counterpart(cls: type, sync: str, counterpart: str) -> bool:
    """Whether the async method may be called where the sync one is meant: it is beside it, and that is unpatched."""
    if not is_beside(cls, sync, counterpart):
        return False
    # In a class of the user's, a decorator looks the same, and who writes both sides means the async one to be called.
    definer = next((base for base in cls.__mro__ if sync in vars(base)), cls)
    if not str(definer.__module__).startswith(_LIBRARIES):
        return True
    return not is_bypassed(vars(definer).get(sync), getattr(cls, counterpart))


_LIBRARIES = ("dspy.", "langchain_core.", "langgraph.")
"""Whose classes others patch. They decorate methods of their own, too."""


_OURS: Any = (Patch, Patch.__bound_function_wrapper__, MethodType, wrapt.PartialCallableObjectProxy)
"""The last is what wrapt makes of a method that is called on its class, as wrappers around ours do."""


def _patched_by(method: Any) -> str | None:
    """The module of what stands around a method, or in its place, other than our patches; None if nothing does.

    A method as its class defines it is code by its own name, and of the module that it says. A wrapper that takes over
    name and module (`functools.wraps`) is code by another name, or of another module.
    """
    while (kind := type(method)) in _OURS:
        method = method.__func__ if kind is MethodType else method.__wrapped__
    if issubclass(kind, wrapt.ObjectProxy):  # whatever its `__class__` says
        wrapper = getattr(method, "_self_wrapper", method)
        return getattr(wrapper, "__module__", None) or type(wrapper).__module__
    if kind is not FunctionType:
        # A builtin is nobody's patch; a mock or another callable object is.
        return None if kind in (BuiltinFunctionType, type(None)) else kind.__module__
    author = str(method.__globals__.get("__name__"))
    inner = getattr(method, "__wrapped__", None)
    if inner is not None and author.startswith(_LIBRARIES):
        return _patched_by(inner)
    *path, name = method.__qualname__.split(".")
    is_own = method.__code__.co_name == name and author == method.__module__ and bool(path) and path[-1] != "<locals>"
    return None if is_own else author


def is_bypassed(sync: Any, counterpart: Any) -> bool:
    """Whether calling the counterpart would leave out a patch of the sync side.

    Not if both sides have one of the same origin, as tracing's often are: each does for its side what is to be done.
    """
    author = _patched_by(sync)
    return author is not None and author != _patched_by(counterpart)


def inner_counterpart(owner: Any, sync: str, counterpart: str) -> Any:
    """The async method, without what the same author has put around our patch of the sync one, and which has run.

    So are tracers that come after us, and have a span for each side.
    """
    cls = type(owner)
    definitions: list[Any] = [
        next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None) for name in (sync, counterpart)
    ]
    outer, method = definitions
    authors: set[str | None] = set()
    while outer is not None and type(outer) not in _OURS:
        authors.add(_patched_by(outer))
        outer = getattr(outer, "__wrapped__", None)
    if outer is None or not authors or counterpart in getattr(owner, "__dict__", {}):
        return getattr(owner, counterpart)
    while (author := _patched_by(method)) is not None and author in authors:
        method = method.__wrapped__
    return method.__get__(owner, cls)


def await_counterpart(
    counterpart: Callable[..., Awaitable[Any]],
    original: Callable[..., Any],
    owner: object,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    beside: Any = None,
    calls_back: bool = True,
) -> Any:
    """Wait for `counterpart(*args, **kwargs)` in place of a sync call.

    Args:
        counterpart: The async counterpart.
        original: The sync callable.
        owner: What the counterpart belongs to: the instance, or a function.
        args: Positional arguments of either.
        kwargs: Keyword arguments of either.
        beside: The async method that stands beside the sync one, if that is not `counterpart` itself.
        calls_back: Whether the counterpart may be written as a call of the sync method, which would bring it here again
            and again. Then a call of the owner inside the counterpart runs the original, in a thread.
    """
    # Somebody's patch was there before ours: it is what the program calls, and calls what it has found there.
    # (One that came after ours is around it, and has run by now.)
    if is_bypassed(original, beside or counterpart):
        return call_in_thread(original, args, kwargs, "somebody has patched it, and not its async counterpart")
    if getattr(counterpart, "__self__", None) is owner:
        counterpart = inner_counterpart(owner, str(original.__name__), counterpart.__name__)
    running = _running.get()
    if calls_back and any(other is owner for other in running):
        return call_in_thread(original, args, kwargs, "its async counterpart calls it")

    async def call() -> Any:
        token = _running.set((*running, owner))
        try:
            return await counterpart(*args, **kwargs)
        finally:
            _running.reset(token)

    return await_(call())
