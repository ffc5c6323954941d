"""One run of a node's code: in the bridge, and known to be a node's."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any

from ..bridge import Engine, is_coroutine_function, is_generator_function, start
from ..overlap import entrance
from .spawning import drive
from .swallowing import NodeRun, running_node

__all__ = ["MARK", "bridged", "can_be_bridged", "looking_like", "run_awaited", "run_node"]

MARK = "__bridge_engine__"
"""Set on coroutine functions that bring their own bridge, with the engine as value."""


async def run_node(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], engine: Engine) -> Any:
    """Run a node's sync or async function in the bridge, and let LangGraph's own exceptions out as they are."""
    return await _run(fn, args, kwargs, NodeRun(engine, is_async=is_coroutine_function(fn)), start)


async def _run(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], node: NodeRun, begin: Callable[..., Any]
) -> Any:
    with running_node(node):
        result = await begin(fn, args, kwargs, node.engine, fn)
        if type(result) is CoroutineType:
            # A lambda around a coroutine function: LangGraph takes it for a sync node, and so did we.
            node.is_async = True
            return await drive(result, node.engine)
        return result


async def run_awaited(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], engine: Engine) -> Any:
    """The same for a coroutine function that brings its own bridge."""
    with running_node(NodeRun(engine, is_async=True)):
        return await fn(*args, **kwargs)


def bridged(fn: Callable[..., Any], engine: Engine) -> Callable[..., Awaitable[Any]]:
    """The async twin of a sync function, or an async function whose sync calls can wait.

    Keeps name, signature and `__wrapped__`, through which LangGraph finds subgraphs in closures.
    """
    if hasattr(fn, MARK):
        return fn

    is_async = is_coroutine_function(fn)
    begin = entrance.start if entrance.is_wanted() else start

    async def twin(*args: Any, **kwargs: Any) -> Any:
        return await _run(fn, args, kwargs, NodeRun(engine, is_async=is_async), begin)

    return looking_like(fn, twin, engine)


def looking_like(fn: Any, twin: Callable[..., Any], engine: Engine) -> Callable[..., Awaitable[Any]]:
    """The twin under the function's name; a module or another object has that of its class, as nodes are named."""
    # Without the function's __dict__: for an object with __call__ that would be all its attributes.
    functools.update_wrapper(twin, fn, updated=())
    while isinstance(fn, functools.partial):
        fn = fn.func
    named = fn if hasattr(fn, "__name__") else type(fn)
    twin.__name__, twin.__qualname__ = named.__name__, named.__qualname__
    setattr(twin, MARK, engine)
    return twin


def can_be_bridged(fn: Callable[..., Any]) -> bool:
    """Whether calling `fn` runs its code; a generator function's runs later, wherever it is consumed."""
    return not is_generator_function(fn)
