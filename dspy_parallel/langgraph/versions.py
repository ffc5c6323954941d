"""What we rely on inside LangGraph, checked before anything is converted.

LangGraph's runnables, node specs and branches are not public. A release that renames one of them must give one
clear error here, not a graph that silently computes something else.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..errors import LangGraphVersionError

__all__ = ["check_langgraph"]

_ATTRIBUTES = (
    "langgraph._internal._constants:CONFIG_KEY_CHECKPOINTER",
    "langgraph._internal._runnable:RunnableCallable.ainvoke",
    "langgraph._internal._runnable:RunnableSeq.ainvoke",
    "langgraph._internal._runnable:run_in_executor",
    "langgraph._internal._runnable:coerce_to_runnable",
    "langgraph.errors:GraphBubbleUp",
    "langgraph.func:_TaskFunction.__call__",
    "langgraph.graph._branch:BranchSpec._route",
    "langgraph.graph._branch:BranchSpec._aroute",
    "langgraph.graph.state:StateGraph.compile",
    "langgraph.pregel:Pregel.astream",
    "langgraph.pregel:Pregel.ainvoke",
    "langgraph.pregel:Pregel.aget_state",
    "langgraph.pregel:Pregel.aget_state_history",
    "langgraph.pregel:Pregel.abulk_update_state",
    "langgraph.pregel._algo:get_runnable_for_task",
    "langgraph.pregel._call:CACHE",
    "langgraph.pregel._read:DEFAULT_BOUND",
    "langgraph.pregel._read:PregelNode.copy",
)
_PARAMETERS = {
    "langgraph._internal._runnable:RunnableCallable.__init__": {"func", "afunc", "name", "trace", "explode_args"},
    "langgraph.graph._node:StateNodeSpec.__init__": {"runnable", "ends", "defer"},
    "langgraph.graph._branch:BranchSpec.__new__": {"path", "ends", "input_schema"},
    "langgraph.pregel._read:PregelNode.__init__": {"bound", "writers", "subgraphs"},
}


def _missing(target: str, parameters: set[str]) -> str | None:
    module, _, path = target.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError):
        return target
    absent = parameters - set(inspect.signature(found).parameters) if parameters else set()
    return f"{target}({', '.join(sorted(absent))})" if absent else None


@functools.cache
def check_langgraph() -> None:
    """Make sure that LangGraph is installed, and built the way the conversion expects.

    Raises:
        LangGraphVersionError: If something is missing; the message names it.
        ModuleNotFoundError: If it is not installed.
    """
    try:
        installed = version("langgraph")
    except PackageNotFoundError:
        raise ModuleNotFoundError(
            "dspy_parallel.langgraph needs LangGraph, which is not installed: pip install 'dspy-parallel[langgraph]'",
            name="langgraph",
        ) from None
    missing = [found for target in _ATTRIBUTES if (found := _missing(target, set()))]
    missing += [found for target, names in _PARAMETERS.items() if (found := _missing(target, names))]
    if missing:
        raise LangGraphVersionError(
            f"This version of dspy_parallel cannot convert graphs of LangGraph {installed}: "
            f"{', '.join(missing)} is missing there. Update dspy_parallel, or use LangGraph 1.0 to 1.2."
        )
