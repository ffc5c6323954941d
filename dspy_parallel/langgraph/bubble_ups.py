"""Carries LangGraph's exceptions through DSPy's `except Exception`, see `seams/exception_tunnel.py`.

`interrupt()` stops a graph by raising `GraphInterrupt`, and `Command(graph=Command.PARENT)` leaves a subgraph by
raising `ParentCommand`; both are `Exception`s. DSPy's agents swallow them, and the graph goes on as if nobody had asked
for a human: a question of safety, not only of correctness.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.runnables.config import var_child_runnable_config
from langgraph.errors import GraphBubbleUp

from ..seams.exception_tunnel import Carried, carry, leaving
from ..seams.table import Seam, register
from .node_run import current_node, in_node

__all__: list[str] = []


def _execute(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`dspy.Parallel` and `Evaluate`: their threads belong to the node's run, too."""
    node, config = current_node.get(), var_child_runnable_config.get()

    def execute(function: Callable[[Any], Any], data: Any) -> Any:
        def item(example: Any) -> Any:
            tokens = current_node.set(node), var_child_runnable_config.set(config)
            try:
                return function(example)
            except GraphBubbleUp as exc:
                carried = Carried(exc)
            finally:
                current_node.reset(tokens[0])
                var_child_runnable_config.reset(tokens[1])
            raise carried

        return original(item, data)

    try:
        return execute(*args, **kwargs)
    except Carried as exc:
        form = leaving(exc)
        if form is exc:
            raise
    raise form


# Not only in the bridge: DSPy's own threads are not bridged.
carry(GraphBubbleUp, when=in_node)
register(Seam("dspy.utils.parallelizer:ParallelExecutor.execute", _execute, when=in_node, layer="swallowing"))
