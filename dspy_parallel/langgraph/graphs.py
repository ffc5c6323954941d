"""`parallelize_graph()`: one line that makes a graph's nodes run concurrently."""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from langgraph._internal._runnable import coerce_to_runnable
from langgraph.graph import START, StateGraph, state
from langgraph.pregel import Pregel
from langgraph.pregel._read import DEFAULT_BOUND

from .. import seams
from ..bridge import Engine, check_engine
from ..errors import DecorationError, TargetError, UnknownEngineError, described
from ..overlap.entrance import converting
from .branches import convert_branch, convert_writer
from .compiled import is_parallel, parallel_class, same_name
from .nodes import Choice, convert_runnable
from .versions import check_langgraph

__all__ = ["converted", "parallelize_graph"]

G = TypeVar("G", bound="StateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any]")


_ERROR_HANDLER: str = getattr(state, "_DEFAULT_ERROR_HANDLER_NODE", "__default_error_handler__")


@dataclasses.dataclass(frozen=True)
class _Plan:
    """How the nodes of one graph are to run."""

    engine: Choice
    nodes: Mapping[str, Choice]
    overlap: bool = False

    def __str__(self) -> str:
        return f"engine={self.engine!r}, nodes={dict(self.nodes)!r}, overlap={self.overlap!r}"

    def choice(self, node: str) -> Choice:
        return self.nodes.get(node, self.engine)

    def check_names(self, known: Iterable[str]) -> None:
        if unknown := set(self.nodes) - {*known, START, _ERROR_HANDLER}:
            raise TargetError(
                f"parallelize_graph(nodes=...) names {', '.join(map(repr, sorted(unknown)))}, which the graph does not "
                f"have. It has {', '.join(map(repr, sorted({*known} - {START})))}."
            )

    def convert(self, node: str, runnable: Any) -> Any:
        with converting(overlap=self.overlap):
            return convert_runnable(runnable, self.choice(node), self.convert_graph)

    def convert_graph(self, graph: Any, choice: Choice) -> Any:
        return converted(graph, choice, overlap=self.overlap)


def parallelize_graph(
    graph: G, *, engine: Engine = "auto", nodes: Mapping[str, Choice] | None = None, overlap: bool = False
) -> G:
    """Make a LangGraph run its nodes concurrently: as many as there are, waiting on the event loop, not in threads.

    Sync nodes get an async twin in the bridge, so that their DSPy and LangChain calls suspend. Async nodes may call
    sync DSPy without blocking the loop. `dspy.Module` nodes are awaited through `acall()`. Conditional edges, error
    handlers, subgraphs, tool nodes and tasks are covered. `ainvoke`, `astream` and so on run on the caller's loop;
    `invoke`, `stream`, `batch`, `get_state` and so on, which stay as they are for their callers, run on one loop
    that this process keeps in a thread, and can be used from anywhere. A cancel, or a node's timeout, is raised in
    the node where it waits. `max_concurrency` in the config limits nodes as ever.

    The graph is changed in place and returned. Subgraphs in it are not changed: copies take their places.

    Args:
        graph: A `StateGraph`, or a compiled graph, also one made by `@entrypoint`. Nodes that are added to a
            `StateGraph` later are covered.
        engine: Where nodes run: `"auto"`, `"loop"` or `"thread"`, see `run()`.
        nodes: Another engine for some nodes, by name, or `"leave"` for nodes whose code shall not be in the bridge:
            a sync one then runs in a worker thread. A conditional edge goes with the node that it starts at.
        overlap: Whether independent predictor calls inside one node run at once, see docs/overlap.md.

    Returns:
        The graph itself.

    Raises:
        DecorationError: If it is neither a `StateGraph` nor a compiled graph, or has been parallelised in another way.
        TargetError: If `nodes` names one that the graph does not have; of a `StateGraph`, when it is compiled.
        UnknownEngineError: For an unknown engine.
        LangGraphVersionError: If the installed LangGraph is not one that can be converted.

    Example:
        ```python
        import dspy
        from dspy.utils import DummyLM
        from langgraph.graph import START, StateGraph
        from typing_extensions import TypedDict
        from dspy_parallel.langgraph import parallelize_graph

        class State(TypedDict):
            question: str
            answer: str

        def answer(state: State):
            return {"answer": dspy.Predict("question -> answer")(question=state["question"]).answer}

        builder = StateGraph(State).add_node(answer).add_edge(START, "answer")
        graph = parallelize_graph(builder).compile()
        with dspy.context(lm=DummyLM([{"answer": "four"}])):
            assert graph.invoke({"question": "2 + 2?"})["answer"] == "four"
        ```
    """
    check_engine(engine)
    for name, choice in (nodes or {}).items():
        if choice not in ("auto", "loop", "thread", "leave"):
            raise UnknownEngineError(
                f"nodes={{{name!r}: {choice!r}}} is not known. Choose one of 'auto', 'loop', 'thread', 'leave'."
            )
    check_langgraph()
    seams.install()
    plan = _Plan(engine, dict(nodes or {}), overlap)
    if isinstance(graph, StateGraph):
        _convert_builder(graph, plan)
    elif isinstance(graph, Pregel):  # pyright: ignore[reportUnnecessaryIsInstance]
        _convert_compiled(graph, plan)
    else:
        raise DecorationError(
            f"parallelize_graph() was given {described(graph)}, which is neither a StateGraph nor a compiled graph. "
            "Use async_node() for a single function."
        )
    return graph


def _switch(instance: Any, classes: Callable[[Any], Any]) -> None:
    instance.__class__ = classes(type(instance))


_plans: weakref.WeakKeyDictionary[Any, _Plan] = weakref.WeakKeyDictionary()
"""Those of compiled graphs, whose copies are made of their attributes and must have no others."""


def _check_is_new(before: _Plan | None, plan: _Plan) -> None:
    if before not in (None, plan):
        raise DecorationError(
            f"parallelize_graph() was called for a graph that it has parallelised before, with {before}, and now with "
            f"{plan}. Once converted, nodes stay as they are: call it once, or build the graph anew."
        )


# Builders

_PLAN = "_parallel_plan"


@functools.cache
def _builder_class(cls: Any) -> Any:
    if hasattr(cls, _PLAN):
        return cls

    @functools.wraps(cls.compile)
    def compile(self: Any, *args: Any, **kwargs: Any) -> Any:
        plan = vars(self)[_PLAN]
        plan.check_names(self.nodes)
        _convert_specs(self, plan)
        compiled = _with_default_error_handler(self, plan, functools.partial(cls.compile, self, *args, **kwargs))
        _switch(compiled, parallel_class)
        _plans[compiled] = plan
        return compiled

    return same_name(cls, {_PLAN: None, "compile": compile})


def _convert_builder(builder: Any, plan: _Plan) -> None:
    _check_is_new(vars(builder).get(_PLAN), plan)
    _switch(builder, _builder_class)
    vars(builder)[_PLAN] = plan
    _convert_specs(builder, plan)


def _convert_specs(builder: Any, plan: _Plan) -> None:
    for name, spec in builder.nodes.items():
        spec.runnable = plan.convert(name, spec.runnable)
    for name, branches in builder.branches.items():
        for label, branch in branches.items():
            branches[label] = convert_branch(branch, plan.choice(name), plan.convert_graph)


def _with_default_error_handler(builder: Any, plan: _Plan, compile: Callable[[], Any]) -> Any:
    """`compile()` makes a node of the default error handler itself: give it one that is converted already."""
    defaults: Any = getattr(builder, "_node_defaults", None)
    handler = getattr(defaults, "error_handler", None)
    if handler is None:
        return compile()
    runnable = plan.convert(_ERROR_HANDLER, coerce_to_runnable(handler, name=_ERROR_HANDLER, trace=False))
    builder._node_defaults = dataclasses.replace(defaults, error_handler=runnable)
    try:
        return compile()
    finally:
        builder._node_defaults = defaults


# Compiled graphs

_converted: weakref.WeakKeyDictionary[Any, dict[tuple[Choice, bool], Any]] = weakref.WeakKeyDictionary()


def converted(graph: Any, engine: Choice = "auto", *, overlap: bool = False) -> Any:
    """A converted copy of a compiled graph, the same one each time; the graph itself if it has been converted."""
    if is_parallel(graph) or not isinstance(graph, Pregel):
        return graph
    copies = _converted.setdefault(graph, {})
    if (engine, overlap) not in copies:
        twin = object.__new__(type(graph))
        vars(twin).update(vars(graph))
        _convert_compiled(twin, _Plan(engine, {}, overlap))
        copies[engine, overlap] = twin
    return copies[engine, overlap]


def _convert_compiled(graph: Any, plan: _Plan) -> None:
    plan.check_names(graph.nodes)
    if is_parallel(graph):
        # A copy made by with_config() is not known. What most people ask for changes nothing then.
        _check_is_new(_plans.get(graph, _Plan("auto", {})), plan)
        return
    _plans[graph] = plan
    graph.nodes = {name: _convert_pregel_node(name, node, plan) for name, node in graph.nodes.items()}
    _switch(graph, parallel_class)


def _convert_pregel_node(name: str, node: Any, plan: _Plan) -> Any:
    # A node that only writes has a placeholder, which LangGraph knows by identity, and neither runs nor traces.
    bound = node.bound if node.bound is DEFAULT_BOUND else plan.convert(name, node.bound)
    writers = [convert_writer(writer, plan.choice(name), plan.convert_graph) for writer in node.writers]
    update: dict[str, Any] = {"bound": bound, "writers": writers}
    if isinstance(bound, Pregel):
        update["subgraphs"] = [bound]
    # A copy, because a node keeps the runnable that it has once put together.
    return node.copy(update)
