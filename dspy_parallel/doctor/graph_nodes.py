"""A LangGraph's nodes and conditional edges as programs. The only file here that knows how a graph is built."""

from __future__ import annotations

# First: it makes sure that LangGraph is built as we know it.
from ..langgraph.compiled_graph import choice_of, is_parallel

# isort: split
import functools
from collections.abc import Iterator
from typing import Any, cast

import dspy
from langchain_core.runnables import RunnableLambda, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import run_in_executor
from langgraph._internal._runnable import RunnableCallable, RunnableSeq
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from ..callables import is_coroutine_function
from .parts import MARK, Program, Where, tools_of

__all__ = ["is_parallelized", "programs_of_graph"]


def is_parallelized(graph: Any) -> bool:
    """Whether `parallelize_graph()` has been at work."""
    return is_parallel(graph) if isinstance(graph, Pregel) else hasattr(graph, "_parallel_plan")


def builder_of(graph: Any) -> Any:
    """The graph's builder; None for one made by `@entrypoint`."""
    return graph if isinstance(graph, StateGraph) else getattr(graph, "builder", None)


def programs_of_graph(graph: Any, prefix: str = "") -> list[Program]:
    """The nodes, conditional edges and tools of a graph and its subgraphs."""
    if isinstance(graph, Pregel):
        nodes = {name: node.bound for name, node in graph.nodes.items() if name != "__start__"}
    else:
        nodes = {name: spec.runnable for name, spec in graph.nodes.items()}

    def engine(name: str) -> str | None:
        plan = getattr(graph, "_parallel_plan", None)
        choice = choice_of(graph, name) if isinstance(graph, Pregel) else plan and plan.choice(name)
        return None if choice == "leave" else choice

    found = [
        part for name, runnable in nodes.items() for part in _of_runnable(prefix + name, runnable, "node", engine(name))
    ]
    for source, path in branches_of(graph):
        found += _of_runnable(f"{prefix}{source} →", path, "edge", engine(source))
    return found


def branches_of(graph: Any) -> Iterator[tuple[str, Any]]:
    """The runnable of each conditional edge, with the node that it starts at."""
    builder = builder_of(graph)
    for source, branches in getattr(builder, "branches", {}).items():
        for branch in branches.values():
            yield source, branch.path


def _of_runnable(name: str, runnable: Any, kind: Any, engine: str | None) -> Iterator[Program]:
    if isinstance(runnable, Pregel):
        yield from programs_of_graph(runnable, f"{name}/")
    elif isinstance(runnable, (RunnableSeq, RunnableSequence)):
        for step in cast("Any", runnable).steps:
            yield from _of_runnable(name, step, kind, engine)
    elif isinstance(runnable, RunnableBindingBase):
        yield from _of_runnable(name, runnable.bound, kind, engine)
    elif isinstance(runnable, (RunnableCallable, RunnableLambda)):
        func, afunc = getattr(runnable, "func", None), getattr(runnable, "afunc", None)
        yield from _of_functions(name, func, afunc, kind, engine)


def _of_functions(name: str, func: Any, afunc: Any, kind: Any, engine: str | None) -> Iterator[Program]:
    is_sync = afunc is None or (isinstance(afunc, functools.partial) and afunc.func is run_in_executor)
    function = func if func is not None else getattr(afunc, "__wrapped__", afunc)
    engine = engine or getattr(afunc, MARK, None)
    where: Where
    if engine is not None:
        where, why = "bridge", f"parallelize_graph(engine={engine!r})"
    elif is_sync and func is not None:
        where, why = "threads", "a sync node, in LangGraph's threads"
    else:
        where, why = "loop", "an async node"
    if isinstance(function, dspy.Module):
        yield Program(name, kind, _forward_of(function), where, engine or "", why, function)
        yield from tools_of(function, where, engine or "")
    elif function is not None and not (kind == "edge" and is_coroutine_function(function) and where == "threads"):
        yield Program(name, kind, function, where, engine or "", why, function)


def _forward_of(module: Any) -> Any:
    forward: Any = getattr(type(module), "forward", type(module).__call__)
    return forward.__get__(module)
