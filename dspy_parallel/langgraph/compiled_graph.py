"""Converted graphs as classes of their own, and converted counterparts of graphs that others use as well.

A converted graph is LangGraph's own in all that it does. Under `invoke` and `stream` LangGraph's sync loop runs in the
caller's thread: contexts, the callbacks' manager, methods that a subclass overrides, and savers are those of stock by
construction. Under `ainvoke` it is LangGraph's async loop, with savers and caches that have an async side.

What differs is a subclass of the graph's own class, not something on the instance: `Pregel.copy()`, and so
`with_config()`, makes a new instance. The subclass keeps module and name, which show in drawn graphs.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping
from typing import Any, cast

from langgraph.pregel import Pregel

from .caches import adapted_cache
from .node_run import Choice
from .node_steps import ParallelNode, Plan
from .savers import adapted

__all__ = ["choice_of", "converted", "is_parallel", "parallel_class", "parallel_nodes", "same_name"]

_MARK = "_is_parallel"


def is_parallel(graph: object) -> bool:
    """Whether the graph has been converted."""
    return hasattr(type(graph), _MARK)


def choice_of(graph: Any, node: str) -> Choice | None:
    """Where a converted graph's node runs; None if the graph has not been converted."""
    found = graph.nodes.get(node)
    return found.plan.choice if isinstance(found, ParallelNode) else None


def _saver_of_runs(cls: Any) -> dict[str, Any]:
    """How runs and state methods get at the saver."""
    if hasattr(Pregel, "_resolve_checkpointer"):

        def _resolve_checkpointer(self: Any, config: Any) -> Any:
            return adapted(cls._resolve_checkpointer(self, config))

        return {"_resolve_checkpointer": _resolve_checkpointer}
    # Before LangGraph 1.2, every method reads the attribute.
    return {"checkpointer": _adapted_attribute("checkpointer", adapted)}


def _adapted_attribute(name: str, adapt: Callable[[Any], Any]) -> property:
    return property(lambda self: adapt(vars(self).get(name)), lambda self, value: vars(self).update({name: value}))


@functools.cache
def parallel_class(cls: Any) -> Any:
    """The class that a converted instance of this class of graph has."""
    if hasattr(cls, _MARK):
        return cls
    return same_name(cls, {_MARK: True, "cache": _adapted_attribute("cache", adapted_cache), **_saver_of_runs(cls)})


def same_name(cls: Any, namespace: dict[str, Any]) -> Any:
    """A subclass that looks like its base, and whose instances can be had by exchanging `__class__`."""
    # With a second base, the layout of instances would differ.
    return type(cls)(
        cls.__name__,
        (cls,),
        {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__, **namespace},
    )


def parallel_nodes(nodes: Mapping[str, Any], choice: Callable[[str], Choice], *, overlap: bool) -> dict[str, Any]:
    """Converted nodes, each in the place of its original."""

    def convert(graph: Any, choice: Choice, overlap: bool) -> Any:
        return converted(graph, choice, overlap=overlap)

    return {
        name: node
        if isinstance(node, ParallelNode)
        else ParallelNode.of(node, Plan(choice(name), overlap=overlap, convert_graph=convert))
        for name, node in nodes.items()
    }


_counterparts: weakref.WeakKeyDictionary[Any, dict[tuple[Choice, bool], Any]] = weakref.WeakKeyDictionary()


def converted(graph: Any, engine: Choice = "auto", *, overlap: bool = False) -> Any:
    """A compiled graph's converted counterpart, the same one each time; the graph itself if it has been converted.

    It is another object with the same attributes, not with copies of them, so that what one of the two sets is seen
    in the other. Only the nodes are its own.
    """
    if is_parallel(graph) or not isinstance(graph, Pregel):
        return graph
    made = _counterparts.setdefault(graph, {})
    if (engine, overlap) not in made:
        made[engine, overlap] = _counterpart(graph, engine, overlap)
    return made[engine, overlap]


def _counterpart(graph: Any, engine: Choice, overlap: bool) -> Any:
    nodes = parallel_nodes(graph.nodes, lambda name: engine, overlap=overlap)
    # `Pregel.copy()` calls the constructor, which sets the nodes: to these it need not.
    own, cls = property(lambda self: nodes, lambda self, _: None), cast("Any", type(graph))
    counterpart = object.__new__(same_name(parallel_class(cls), {"nodes": own}))
    object.__setattr__(counterpart, "__dict__", vars(graph))
    return counterpart
