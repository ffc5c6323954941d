"""`parallelize_graph()`: one line that makes a graph's nodes run concurrently."""

from __future__ import annotations

import contextvars
import dataclasses
import functools
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from langgraph.graph import START, StateGraph, state
from langgraph.pregel import Pregel

from .. import seams
from ..errors import DecorationError, TargetError, UnknownEngineError, described
from ..placement import Engine, check_engine
from .compiled_graph import is_parallel, parallel_class, parallel_nodes, same_name
from .langgraph_version import check_langgraph
from .node_run import Choice

__all__ = ["is_compiling", "parallelize_graph"]

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


def parallelize_graph(
    graph: G, *, engine: Engine = "auto", nodes: Mapping[str, Choice] | None = None, overlap: bool = False
) -> G:
    """Make a LangGraph run its nodes concurrently: as many as there are, waiting on the event loop, not in threads.

    Sync nodes get an async counterpart in the bridge, so that their DSPy and LangChain calls suspend. Async nodes may
    call sync DSPy without blocking the loop. `dspy.Module` nodes are awaited through `acall()`. Conditional edges,
    error handlers, subgraphs, tool nodes and tasks are covered. `ainvoke`, `astream` and so on run on the caller's
    loop; there a cancel, or a node's timeout, is raised in the node where it waits. `invoke`, `stream` and so on run
    LangGraph's sync loop in the caller's thread and context, with nodes side by side in threads of their own; their LM
    calls, and async nodes, are on one loop that serves sync callers. `max_concurrency` in the config limits nodes as
    ever.

    The graph is changed in place and returned. What is in it is wrapped, not changed: other graphs may use it as well.

    Args:
        graph: A `StateGraph`, or a compiled graph, also one made by `@entrypoint`. Nodes that are added to a
            `StateGraph` later are covered.
        engine: Where nodes run: `"auto"`, `"loop"` or `"thread"`, see `run()`.
        nodes: Another engine for some nodes, by name, or `"leave"` for nodes whose code shall not be in the bridge:
            a sync one then runs in a worker thread. A conditional edge goes with the node that it starts at.
        overlap: Whether predictor calls that don't need each other run at once: those of one node, and those of later
            nodes, ahead of LangGraph's steps; see docs/langgraph.md.

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

_compiling: contextvars.ContextVar[bool] = contextvars.ContextVar("dspy_parallel_compiling", default=False)
is_compiling = _compiling.get
"""Whether the running code compiles a graph that will be converted: its nodes may have timeouts, also sync ones."""


@functools.cache
def _builder_class(cls: Any) -> Any:
    if hasattr(cls, _PLAN):
        return cls

    @functools.wraps(cls.compile)
    def compile(self: Any, *args: Any, **kwargs: Any) -> Any:
        plan = vars(self)[_PLAN]
        plan.check_names(self.nodes)
        token = _compiling.set(True)
        try:
            compiled = cls.compile(self, *args, **kwargs)
        finally:
            _compiling.reset(token)
        _convert_compiled(compiled, plan)
        return compiled

    return same_name(cls, {_PLAN: None, "compile": compile})


def _convert_builder(builder: Any, plan: _Plan) -> None:
    _check_is_new(vars(builder).get(_PLAN), plan)
    builder.__class__ = _builder_class(cast("Any", type(builder)))
    vars(builder)[_PLAN] = plan


# Compiled graphs


def _convert_compiled(graph: Any, plan: _Plan) -> None:
    plan.check_names(graph.nodes)
    if is_parallel(graph):
        # A copy made by with_config() is not known. What most people ask for changes nothing then.
        _check_is_new(_plans.get(graph, _Plan("auto", {})), plan)
        return
    _plans[graph] = plan
    graph.nodes = parallel_nodes(graph.nodes, plan.choice, overlap=plan.overlap)
    graph.__class__ = parallel_class(cast("Any", type(graph)))
