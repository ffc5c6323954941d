"""Carries LangGraph's exceptions through DSPy's `except Exception`, see `seams/swallowing.py`.

`interrupt()` stops a graph by raising `GraphInterrupt`, which is an `Exception`. DSPy's agents swallow it, and the
graph goes on as if nobody had asked for a human: a question of safety, not only of correctness.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from langchain_core.runnables.config import var_child_runnable_config
from langgraph.errors import GraphBubbleUp

from ..bridge import Engine
from ..seams.swallowing import Carried, callers, callers_outside, carry, leaving
from ..seams.table import Seam, register

__all__ = ["NodeRun", "current_node", "running_node"]


class NodeRun:
    """What the code of one run of a node can ask about that run.

    Attributes:
        is_async: Whether the node's function is a coroutine function.
        engine: The node's engine.
    """

    __slots__ = ("engine", "is_async")

    def __init__(self, engine: Engine, *, is_async: bool) -> None:
        self.is_async = is_async
        self.engine: Engine = engine


current_node: contextvars.ContextVar[NodeRun | None] = contextvars.ContextVar("dspy_parallel_node", default=None)


@contextmanager
def running_node(node: NodeRun) -> Generator[None]:
    """The code inside is a node's; LangGraph's own exceptions leave it as they are."""
    tokens: Any = (current_node, current_node.set(node)), (callers_outside, callers_outside.set(len(callers())))
    try:
        yield
    except Carried as carried:
        raise carried.exception from None
    finally:
        for variable, token in tokens:
            try:
                variable.reset(token)
            except ValueError:
                pass  # the node's coroutine is being closed from elsewhere, in another context


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


def _in_node() -> bool:
    # And not only in the bridge: DSPy's own threads are not bridged.
    return current_node.get() is not None


carry(GraphBubbleUp, when=_in_node)
register(Seam("dspy.utils.parallelizer:ParallelExecutor.execute", _execute, when=_in_node, layer="swallowing"))
