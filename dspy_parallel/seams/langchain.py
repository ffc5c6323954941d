"""What LangChain's users call synchronously: chat models, retrievers, tools, batches.

The async twins are LangChain's own. Where a class has only the sync side, LangChain's async side would run it in
the event loop's default executor, a few threads for everybody; here it gets a worker thread that is bridged.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

from ..bridge import await_, call_in_thread, in_bridge
from .async_counterparts import await_counterpart, is_beside, is_counterpart, running_counterparts
from .table import Seam, register

__all__ = ["has_async_side", "has_own", "parts_of"]

_END = object()


_INNER = (
    ("_generate", "_agenerate"),
    ("_call", "_acall"),
    ("_get_relevant_documents", "_aget_relevant_documents"),
    ("_run", "_arun"),
)
"""What LangChain's own `invoke()` and `ainvoke()` call, in models, chains, retrievers and tools."""


def has_async_side(owner: Any, *methods: str, is_beside: Callable[[type, str, str], bool] = is_counterpart) -> bool:
    """Whether the async counterparts of `invoke()`, and of more methods, do what these do.

    Not so if they would run the sync side in the event loop's default executor.
    """
    cls = type(owner)
    if has_own(owner, "coroutine") and has_own(owner, "func"):  # a tool made of functions
        return owner.coroutine is not None
    if has_own(owner, "_transform") and not has_own(owner, "_atransform"):  # RunnableGenerator: ainvoke() raises
        return False
    inner = [pair for pair in _INNER if hasattr(cls, pair[0]) and hasattr(cls, pair[1])]
    own = (*((name, f"a{name}") for name in ("invoke", *methods)), *inner)
    if not all(is_beside(cls, *pair) for pair in own):
        return False
    return all(has_async_side(part, *methods, is_beside=is_beside) for part in parts_of(owner))


def has_own(owner: Any, name: str) -> bool:
    """`hasattr()` that asks no `__getattr__`: that of one with fallbacks evaluates type hints, and may raise."""
    return inspect.getattr_static(owner, name, _END) is not _END


def parts_of(runnable: Any) -> list[Any]:
    """The runnables that a sequence, a parallel one, a binding or one with fallbacks is made of."""
    if not str(type(runnable).__module__).startswith("langchain_core.runnables"):
        return []
    return [part for name in _PARTS if has_own(runnable, name) for part in _flat(getattr(runnable, name))]


_PARTS = ("bound", "runnable", "mapper", "default", "steps", "fallbacks", "steps__", "branches", "runnables")


def _flat(found: Any) -> Iterator[Any]:
    if isinstance(found, Mapping):
        found = list(cast("Mapping[str, Any]", found).values())
    if isinstance(found, Sequence):  # of branches, each is a pair
        for each in found:
            yield from _flat(each)
    elif not isinstance(found, Iterator):  # the property `runnables` of one with fallbacks: `runnable` and those
        yield found


_has_async_side = partial(has_async_side, is_beside=is_beside)
"""In a seam, a patch around ours has run by now; `await_counterpart` sees those beneath."""


def _invoke(original: Callable[..., Any], owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if _has_async_side(owner):
        return await_counterpart(owner.ainvoke, original, owner, args, kwargs)
    return call_in_thread(original, args, kwargs, f"{type(owner).__qualname__} has no async counterpart")


def _stream(original: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if _has_async_side(model, "stream") and is_beside(type(model), "_stream", "_astream"):
        return _awaited(model.astream(*args, **kwargs), model)
    return _threaded(original(*args, **kwargs), f"{type(model).__qualname__} has no async counterpart")


def _awaited(source: Any, owner: Any) -> Iterator[Any]:
    try:
        while True:
            try:
                item = await_counterpart(source.__anext__, next, owner, (), {}, calls_back=False)
            except StopAsyncIteration:
                return
            yield item
    finally:
        if in_bridge():  # not if the garbage collector closes it
            await_(source.aclose())


def _threaded(source: Iterator[Any], reason: str) -> Iterator[Any]:
    while (item := call_in_thread(next, (source, _END), {}, reason)) is not _END:
        yield item


def _batch(original: Callable[..., Any], runnable: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if _has_async_side(runnable, "batch") and not _is_lambda(runnable):
        return await_counterpart(runnable.abatch, original, runnable, args, kwargs)
    return call_in_thread(original, args, kwargs, "it waits for threads")


def _is_lambda(runnable: Any) -> bool:
    return hasattr(runnable, "func") and not hasattr(runnable, "afunc")


def _lambda(original: Callable[..., Any], owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A coroutine function is awaited, be it the only one; a sync one is called where it stands."""
    if not _is_lambda(owner):
        return await_counterpart(owner.ainvoke, original, owner, args, kwargs)
    return original(*args, **kwargs)


def _tool(original: Callable[..., Any], owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if _has_async_side(owner):
        return await_counterpart(owner.ainvoke, original, owner, args, kwargs)
    return original(*args, **kwargs)


_LIBRARIES = ("langchain_core.", "langgraph.")


def _is_users(owner: Any, method: str) -> bool:
    """Whether a method and its async counterpart are written by somebody who gives each its own code."""
    cls = type(owner)
    definer = next(base for base in cls.__mro__ if method in vars(base))
    return (
        not str(definer.__module__).startswith(_LIBRARIES)
        and _has_async_side(owner, method)
        and not hasattr(cls.ainvoke, "__bridge_engine__")  # ours, made of the sync side
        and all(other is not owner for other in running_counterparts())
    )


def _own_invoke(original: Callable[..., Any], owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if _is_users(owner, "invoke"):
        return await_counterpart(owner.ainvoke, original, owner, args, kwargs)
    return original(*args, **kwargs)


def _own_stream(original: Callable[..., Any], owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if _is_users(owner, "stream"):
        return _awaited(owner.astream(*args, **kwargs), owner)
    return original(*args, **kwargs)


register(
    Seam("langchain_core.language_models.chat_models:BaseChatModel.invoke", _invoke, overrides=True),
    Seam("langchain_core.language_models.chat_models:BaseChatModel.stream", _stream, overrides=True),
    Seam("langchain_core.language_models.llms:BaseLLM.invoke", _invoke, overrides=True),
    Seam("langchain_core.language_models.llms:BaseLLM.stream", _stream, overrides=True),
    Seam("langchain_core.retrievers:BaseRetriever.invoke", _invoke, overrides=True),
    Seam("langchain_core.tools.base:BaseTool.invoke", _tool),
    Seam("langchain_core.runnables.base:RunnableLambda.invoke", _lambda),
    Seam("langchain_core.runnables.base:RunnableParallel.invoke", _invoke),
    Seam("langchain_core.runnables.base:Runnable.batch", _batch),
    # Runnables that are none of LangChain's own.
    Seam("langchain_core.runnables.base:Runnable.invoke", _own_invoke, overrides=True, layer="users"),
    Seam("langchain_core.runnables.base:Runnable.stream", _own_stream, overrides=True, layer="users"),
)
