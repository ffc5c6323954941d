"""Random graphs compute the same, and write the same in each step, stock and parallelised."""

from __future__ import annotations

import asyncio
import dataclasses
import operator
from typing import Annotated, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send
from typing_extensions import TypedDict

from dspy_parallel.langgraph import parallelize_graph
from tests.langgraph.comparing import plain


class State(TypedDict, total=False):
    log: Annotated[list[str], lambda a, b: sorted(a + b)]
    total: Annotated[int, operator.add]
    steps: Annotated[int, lambda a, b: max(a, b)]


@dataclasses.dataclass(frozen=True)
class Node:
    """What a node does, and where the graph goes from it.

    Attributes:
        kind: How the node is written.
        value: Depends what it writes.
        fails: Whether it raises once the graph has taken that many steps.
        targets: Nodes after it, all of which have greater numbers, or the same or a lower one in a loop.
        routing: How the targets are reached.
        inner: A subgraph's nodes.
    """

    kind: str
    value: int
    fails: int | None
    targets: tuple[int, ...]
    routing: str
    inner: tuple[Node, ...] = ()


def _nodes(depth: int) -> st.SearchStrategy[tuple[Node, ...]]:
    kinds = ["sync", "async", "lambda", "object"]
    inner = st.just(())
    if depth:
        kinds.append("subgraph")
        inner = st.deferred(lambda: _nodes(depth - 1))
    node = st.builds(
        Node,
        kind=st.sampled_from(kinds),
        value=st.integers(0, 9),
        fails=st.none() | st.none() | st.integers(2, 6),
        targets=st.lists(st.integers(0, 5), max_size=3, unique=True).map(tuple),
        routing=st.sampled_from(["edges", "path", "send", "command"]),
        inner=inner,
    )
    return st.lists(node, min_size=1, max_size=5).map(tuple)


class _Object:
    def __init__(self, fn: Any) -> None:
        self.fn = fn

    def __call__(self, state: State) -> Any:
        return self.fn(state)


def _function(name: str, node: Node, targets: list[str]) -> Any:
    def run(state: State) -> Any:
        if node.fails is not None and state.get("steps", 0) >= node.fails:
            raise ValueError(name)
        update = {"log": [name], "total": node.value + state.get("steps", 0), "steps": state.get("steps", 0) + 1}
        if node.routing == "command":
            return Command(update=update, goto=targets if state.get("steps", 0) < 5 else [])
        return update

    async def arun(state: State) -> Any:
        return run(state)

    return {"sync": run, "async": arun, "lambda": lambda state: run(state), "object": _Object(run)}[node.kind]


def build(nodes: tuple[Node, ...], *, asynchronous: bool) -> StateGraph[Any]:
    builder = StateGraph(State)
    names = [f"n{i}" for i in range(len(nodes))]
    for name, node in zip(names, nodes, strict=True):
        targets = [names[target] for target in node.targets if target < len(names)]
        forward = [target for target in targets if target > name]
        if node.kind == "subgraph":
            builder.add_node(name, build(node.inner, asynchronous=asynchronous).compile())
        else:
            if node.kind == "async" and not asynchronous:
                node = dataclasses.replace(node, kind="sync")
            builder.add_node(name, _function(name, node, targets), destinations=tuple(targets))
        if node.routing == "command" and node.kind != "subgraph":
            continue
        if node.routing == "path" and targets:
            builder.add_conditional_edges(
                name, lambda state, targets=targets: targets if state.get("steps", 0) < 5 else END, [*targets, END]
            )
        elif node.routing == "send" and targets:
            builder.add_conditional_edges(
                name,
                lambda state, targets=targets: (
                    [Send(t, {**state, "log": []}) for t in targets] if state.get("steps", 0) < 5 else END
                ),
                [*targets, END],
            )
        else:
            for target in forward:
                builder.add_edge(name, target)
    return builder.add_edge(START, "n0")


def outcome(nodes: tuple[Node, ...], *, asynchronous: bool, engine: Any = None) -> Any:
    """The final state or error, and the checkpoints with what was written in each step."""
    builder = build(nodes, asynchronous=asynchronous)
    graph = (parallelize_graph(builder, engine=engine) if engine else builder).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}, "recursion_limit": 12}
    try:
        result: Any = _run(graph, config, asynchronous)
    except Exception as exc:
        result = f"{type(exc).__name__}: {plain(exc)}"
    if isinstance(result, str):
        # Which siblings had ended when one failed is a matter of chance, stock too.
        return result if "Recursion" in result else "failed"
    history = [(plain(s.values), s.next, s.metadata and s.metadata["step"]) for s in graph.get_state_history(config)]
    writes = [sorted((t.name, plain(t.result)) for t in s.tasks) for s in graph.get_state_history(config)]
    return plain(result), history, writes


def _run(graph: Any, config: Any, asynchronous: bool) -> Any:
    if not asynchronous:
        return graph.invoke({"log": [], "total": 0, "steps": 0}, config)

    return asyncio.run(graph.ainvoke({"log": [], "total": 0, "steps": 0}, config))


@settings(deadline=None)
@given(_nodes(1))
def test_same_state_and_writes(nodes: tuple[Node, ...]) -> None:
    expected = outcome(nodes, asynchronous=True)
    assert outcome(nodes, asynchronous=False) == expected
    for engine in ("auto", "loop", "thread"):
        for asynchronous in (False, True):
            assert outcome(nodes, asynchronous=asynchronous, engine=engine) == expected, engine
