"""Rows of the seam table for LangGraph: graphs, tasks and tools that a converted node calls itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from langgraph.pregel import Pregel

from ..bridge import run_in_thread
from ..seams.table import Seam, register
from ..seams.twins import refuses
from .compiled import is_parallel
from .graphs import converted
from .swallowing import current_node
from .tasks import convert_task, waitable

__all__: list[str] = []


def _by_converted(name: str) -> Callable[..., Any]:
    """A graph that was not converted, called in the bridge: its converted copy is called instead.

    On the engine of the node that calls it, if one does.
    """

    def handler(original: Callable[..., Any], graph: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if is_parallel(graph) or not isinstance(graph, Pregel):
            return original(*args, **kwargs)
        node = current_node.get()
        return getattr(converted(graph, node.engine if node is not None else "auto"), name)(*args, **kwargs)

    return handler


def _ainvoke(original: Callable[..., Any], tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The async side of a sync tool, as ToolNode calls it: in a worker thread that is bridged.

    LangChain would take the event loop's default executor, a few threads for everybody.
    """
    if getattr(tool, "coroutine", None) is not None:
        return original(*args, **kwargs)
    return run_in_thread(tool.invoke, args, kwargs)


def _ainvoke_class(original: Callable[..., Any], tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same for a tool whose `_arun()` is there only to raise."""
    return run_in_thread(tool.invoke, args, kwargs) if refuses(type(tool), "_arun") else original(*args, **kwargs)


def _arun(original: Callable[..., Any], tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same for tools that are classes with a `_run()`."""
    run_manager = kwargs.get("run_manager")
    if run_manager is not None and "run_manager" in inspect.signature(tool._run).parameters:
        kwargs = {**kwargs, "run_manager": run_manager.get_sync()}
    return run_in_thread(tool._run, args, kwargs)


def _in_node() -> bool:
    return current_node.get() is not None


register(
    *(
        Seam(f"langgraph.pregel.main:Pregel.{name}", _by_converted(name))
        for name in (
            "invoke",
            "stream",
            "astream",
            "get_state",
            "get_state_history",
            "update_state",
            "bulk_update_state",
        )
    ),
    # Inherited from Runnable. Each would call the graph's ainvoke() in tasks that are not bridged.
    *(
        Seam(f"langchain_core.runnables.base:Runnable.{name}", _by_converted(name), layer="graphs")
        for name in ("batch", "batch_as_completed", "abatch", "abatch_as_completed")
    ),
    Seam("langgraph.func:_TaskFunction.__call__", waitable),
    # Not in the bridge: called by the graph's own tasks, for a node.
    Seam("langgraph.pregel._algo:get_runnable_for_task", convert_task, when=_in_node),
    Seam("langchain_core.tools.structured:StructuredTool.ainvoke", _ainvoke, when=_in_node),
    Seam("langchain_core.tools.simple:Tool.ainvoke", _ainvoke, when=_in_node),
    Seam("langchain_core.tools.base:BaseTool.ainvoke", _ainvoke_class, when=_in_node),
    Seam("langchain_core.tools.base:BaseTool._arun", _arun, when=_in_node),
)
