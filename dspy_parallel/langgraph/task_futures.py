"""`@task` functions called in converted graphs: they run in the bridge, and their results can be waited for.

In a sync function `task(...).result()` waits. On the event loop LangGraph hands out asyncio futures, whose
`result()` raises unless they are done; ours suspends. In an `async def`, `await task(...)` works as ever.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any

from langgraph._internal._future import chain_future

from ..bridge import await_, in_bridge
from .node_run import current_node
from .node_steps import Plan, convert_step

__all__ = ["convert_task", "waitable"]


class _SuspendingFuture(asyncio.Future[Any]):
    """What async code gets: it can await the future, or hand it to sync code that asks for the result."""

    def result(self) -> Any:
        if not self.done() and in_bridge():
            await_(asyncio.wait([self]))
        return super().result()


def waitable(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a task; give its future to the calling node in the form that its code can wait for."""
    future = original(*args, **kwargs)
    node = current_node.get()
    if node is None:
        return future
    if node.is_async:
        return chain_future(future, _SuspendingFuture(loop=asyncio.get_running_loop()))
    if not isinstance(future, asyncio.Future):
        return future
    # The kind of future that it would get in a thread; in the bridge, waiting for it suspends (seams/executors).
    return chain_future(future, concurrent.futures.Future())


def convert_task(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The runnable of a task that is called in a converted node, converted; LangGraph shares the original."""
    runnable = original(*args, **kwargs)
    node = current_node.get()
    if node is None:
        return runnable
    return convert_step(runnable, Plan(node.engine, overlap=False, convert_graph=lambda graph, *_: graph))
