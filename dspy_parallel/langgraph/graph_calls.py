"""Rows of the seam table for LangGraph: what LangGraph calls for a converted graph, and graphs that a node calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from langgraph.pregel import Pregel
from langgraph.pregel._retry import arun_with_retry

from ..bridge import await_, in_bridge, run_in_thread, run_sync
from ..callables import is_coroutine_function
from ..seams.async_counterparts import refuses
from ..seams.table import Seam, everywhere, register
from .compiled_graph import converted, is_parallel
from .graph_scout import follow, followed
from .node_run import called_here, current_node, in_node, run_node
from .node_steps import ParallelNode
from .parallelization import is_compiling
from .task_futures import convert_task, waitable
from .tool_order import Turn, count_in_turn
from .worker_executor import executor_of, executor_of_tools, growing, is_growing, left

__all__: list[str] = []

_END = object()


# Graphs


def _on_loop() -> bool:
    """Whether the running code is bridged code on an event loop, which must not block; a thread may."""
    return in_bridge() and asyncio._get_running_loop() is not None


def _for_node(graph: Any) -> Any:
    """The converted counterpart of a graph that a node calls, on the node's engine; the graph if nobody's node does."""
    if is_parallel(graph) or not in_bridge():
        return graph
    node = current_node.get()
    return converted(graph, node.engine if node is not None else "auto")


def _by_converted(name: str) -> Callable[..., Any]:
    """A method that waits. On an event loop its async counterpart is awaited: LangGraph's sync loop would block there.

    Below whatever a subclass of the graph class overrides, so that its overrides are called, once.
    """
    awaited: Any = getattr(Pregel, f"a{name}", None)

    def handler(original: Callable[..., Any], graph: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not isinstance(graph, Pregel):
            return original(*args, **kwargs)
        mine = _for_node(graph)
        if awaited is None or not _on_loop():
            return original(*args, **kwargs) if mine is graph else getattr(mine, name)(*args, **kwargs)
        result = awaited(mine, *args, **kwargs)
        return _iterate(result) if isinstance(result, AsyncIterator) else await_(result)

    return handler


def _iterate(items: AsyncIterator[Any]) -> Iterator[Any]:
    """All in the program's task: an async generator's cleanup must run in the task in which its body ran."""

    async def following() -> Any:
        return await anext(items, _END)

    try:
        while (item := await_(following())) is not _END:
            yield item
    finally:
        if in_bridge():  # not if the garbage collector closes it
            await_(items.aclose())  # type: ignore[attr-defined]


def _batch(name: str) -> Callable[..., Any]:
    """A converted graph's batches are as wide as is asked for."""
    by_converted = _by_converted(name)

    def handler(original: Callable[..., Any], graph: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not isinstance(graph, Pregel) or not (is_parallel(graph) or in_bridge()):
            return original(*args, **kwargs)
        if _on_loop():
            return by_converted(original, graph, args, kwargs)
        mine = _for_node(graph)
        if mine is not graph:
            return getattr(mine, name)(*args, **kwargs)
        if name == "batch":
            with growing():
                return original(*args, **kwargs)
        return _grown(original(*args, **kwargs))

    return handler


def _grown(items: Iterator[Any]) -> Iterator[Any]:
    with growing():  # the executor is made before the first item
        first = next(items, _END)
    if first is not _END:
        yield first
        yield from items


def _enter_loop(original: Callable[..., Any], loop: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """LangGraph's sync loop makes the executor of a run's parallel nodes."""
    if not any(isinstance(node, ParallelNode) for node in loop.nodes.values()):
        return original(*args, **kwargs)
    with growing():
        return original(*args, **kwargs)


# Nodes and tasks under `invoke`


def _run_with_retry(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A task with a timeout, which LangGraph has for async ones only: the async one, on the loop of sync callers."""
    with followed(args[0]):
        if getattr(args[0], "timeout", None) is None:  # since LangGraph 1.2
            return original(*args, **kwargs)
        return run_sync(arun_with_retry, *args, **kwargs)


async def _arun_with_retry(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with followed(args[0]) as session:
        if session is not None:
            await session.let_scout_go_first()
        return await original(*args, **kwargs)


def _tick(original: Callable[..., Any], loop: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """LangGraph prepares the tasks of its next step."""
    more = original(*args, **kwargs)
    if more:
        follow(loop)
    return more


def _call_task(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An async `@task`, which LangGraph refuses under `invoke`: its sync counterpart, under the same name."""
    task, fn, *rest = args
    if is_coroutine_function(fn):
        fn = called_here(fn, current_node.get().engine)  # type: ignore[union-attr]
    return original(task, fn, *rest, **kwargs)


# Nodes and tools under `ainvoke`


def _in_executor(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The sync side of something that LangChain has no async side of, and would run in the loop's default executor."""
    executor, fn, *rest = args
    if executor is not None and not isinstance(executor, dict):
        return original(*args, **kwargs)
    engine = current_node.get().engine  # type: ignore[union-attr]
    if engine == "leave":
        return left(fn)(*rest, **kwargs)
    return run_node(fn, tuple(rest), kwargs, engine)


def _tool_in_executor(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same for tools, which have worker threads in which DSPy reaches the loop. They begin in order."""
    return _in_turn(args[1], args[2:], kwargs)


def _ainvoke_tool(original: Callable[..., Any], tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same for a tool whose `_arun()` is there only to raise."""
    if not refuses(type(tool), "_arun"):
        return original(*args, **kwargs)
    return _in_turn(tool.invoke, args, kwargs)


def _in_turn(tool: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    turn = Turn()
    return run_in_thread(turn.of(tool), args, kwargs, submit=turn.begin)


def _run_tool(original: Callable[..., Any], tools: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A sync `wrap_tool_call` alone would block the loop for as long as the tool takes: it waits in the bridge."""
    wrap = tools._wrap_tool_call
    if wrap is None or tools._awrap_tool_call is not None:
        return original(*args, **kwargs)
    engine = current_node.get().engine  # type: ignore[union-attr]

    async def awrap(request: Any, execute: Callable[[Any], Any]) -> Any:
        return await run_node(wrap, (request, lambda request: await_(execute(request))), {}, engine)

    return original.__func__(_Wrapping(tools, awrap), *args, **kwargs)  # type: ignore[attr-defined]


class _Wrapping:
    """A `ToolNode` as it is, but for the wrapper of its tool calls."""

    def __init__(self, tools: Any, awrap: Callable[..., Any]) -> None:
        self._tools = tools
        self._awrap_tool_call = awrap

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tools, name)


def _has_node() -> bool:
    return current_node.get() is not None


_BASE = "langchain_core.runnables.base"
_TOOLS = ("base", "simple", "structured")

register(
    *(
        Seam(f"langgraph.pregel.main:Pregel.{name}", _by_converted(name))
        # What the others of these methods call: invoke() streams, update_state() is a bulk of one.
        for name in ("stream", "get_state", "get_state_history", "bulk_update_state", "clear_cache")
    ),
    Seam("langgraph.pregel.main:Pregel.astream", _by_converted("astream")),
    # Inherited from Runnable.
    Seam(f"{_BASE}:Runnable.batch", _batch("batch"), when=everywhere, layer="graphs"),
    Seam(f"{_BASE}:Runnable.batch_as_completed", _batch("batch_as_completed"), when=everywhere, layer="graphs"),
    *(
        Seam(f"{_BASE}:Runnable.{name}", _by_converted(name), layer="graphs")
        for name in ("abatch", "abatch_as_completed")
    ),
    Seam("langgraph.pregel._loop:SyncPregelLoop.__enter__", _enter_loop, when=everywhere),
    Seam("langgraph.pregel._executor:get_executor_for_config", executor_of, when=is_growing),
    Seam(f"{_BASE}:get_executor_for_config", executor_of, when=is_growing),
    Seam("langgraph.prebuilt.tool_node:get_executor_for_config", executor_of_tools, when=in_node),
    Seam("langgraph.pregel.main:validate_timeout_supported", lambda *_: None, when=is_compiling, since="1.2"),
    Seam("langgraph.pregel._runner:run_with_retry", _run_with_retry, when=everywhere),
    Seam("langgraph.pregel._runner:arun_with_retry", _arun_with_retry, when=everywhere),
    Seam("langgraph.pregel._loop:PregelLoop.tick", _tick, when=everywhere),
    Seam("langgraph.pregel._runner:_call", _call_task, when=in_node),
    Seam("langgraph.pregel._algo:LazyAtomicCounter.__call__", count_in_turn, when=in_node),
    Seam("langgraph.func:_TaskFunction.__call__", waitable),
    # Not in the bridge: called by the graph's own tasks, for a node.
    Seam("langgraph.pregel._algo:get_runnable_for_task", convert_task, when=in_node),
    Seam(f"{_BASE}:run_in_executor", _in_executor, when=_has_node),
    *(
        Seam(f"langchain_core.{module}:run_in_executor", _in_executor, when=in_node)
        for module in ("retrievers", "language_models.llms", "language_models.chat_models", "output_parsers.base")
    ),
    *(Seam(f"langchain_core.tools.{module}:run_in_executor", _tool_in_executor, when=in_node) for module in _TOOLS),
    Seam("langchain_core.tools.base:BaseTool.ainvoke", _ainvoke_tool, when=in_node),
    Seam("langgraph.prebuilt.tool_node:ToolNode._arun_one", _run_tool, when=in_node),
)
