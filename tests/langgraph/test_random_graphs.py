"""Random graphs compute the same, and write the same in each step, stock and parallelised."""

from __future__ import annotations

import asyncio
import dataclasses
import operator
from typing import Annotated, Any

from hypothesis import event, given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send
from typing_extensions import TypedDict

from dspy_parallel.langgraph import parallelize_graph
from tests.langgraph.comparing import plain


class State(TypedDict, total=False):
    # In the order in which the tasks of a step are written down, which is not that in which they end.
    log: Annotated[list[str], operator.add]
    total: Annotated[int, operator.add]
    steps: Annotated[int, lambda a, b: max(a, b)]


LAST_STEP = 4
"""Where loops end."""
RECURSION_LIMIT = 8


@dataclasses.dataclass(frozen=True)
class Node:
    """What a node does, and where the graph goes from it.

    Attributes:
        kind: How the node is written.
        value: Depends what it writes.
        fails: Whether it raises once the graph has taken that many steps.
        after: The nodes that lead here, all of which have lower numbers.
        joins: Whether it waits for all of those that lead here by plain edges.
        back: A node to return to, with the same or a lower number.
        routing: How the next nodes are reached.
        inner: A subgraph's nodes.
    """

    kind: str
    value: int
    fails: int | None
    after: tuple[int, ...]
    joins: bool
    back: int | None
    routing: str
    inner: tuple[Node, ...] = ()


@st.composite
def _nodes(draw: st.DrawFn, depth: int) -> tuple[Node, ...]:
    """All can be reached: each comes after at least one other."""
    nodes = []
    for number in range(draw(st.integers(2, 5 if depth == DEPTH else 3))):
        kind = draw(st.sampled_from(["sync", "async", "lambda", "object", *["subgraph"] * (2 if depth else 0)]))
        earlier = st.lists(st.integers(0, number - 1), min_size=1, max_size=2, unique=True) if number else st.just([])
        nodes.append(
            Node(
                kind=kind,
                value=draw(st.integers(0, 9)),
                fails=draw(st.sampled_from([None] * 12 + [1, 2, 3])),
                after=tuple(sorted(draw(earlier))),
                joins=draw(st.booleans()),
                back=draw(st.sampled_from([None, None, *range(number + 1)])),
                routing=draw(st.sampled_from(["edges", "edges", "path", "send", "command"])),
                inner=draw(_nodes(depth - 1)) if kind == "subgraph" else (),
            )
        )
    return tuple(nodes)


DEPTH = 2


class _Object:
    def __init__(self, fn: Any) -> None:
        self.fn = fn

    def __call__(self, state: State) -> Any:
        return self.fn(state)


def _function(name: str, node: Node, targets: list[str]) -> Any:
    def run(state: State) -> Any:
        steps = state.get("steps", 0)
        if node.fails is not None and steps >= node.fails:
            raise ValueError(f"{name} after {node.fails}")
        update = {"log": [f"{name} {node.value}"], "total": node.value + steps, "steps": steps + 1}
        if node.routing == "command":
            return Command(update=update, goto=targets if steps < LAST_STEP else [])
        return update

    async def arun(state: State) -> Any:
        return run(state)

    return {"sync": run, "async": arun, "lambda": lambda state: run(state), "object": _Object(run)}[node.kind]


def _targets(nodes: tuple[Node, ...], number: int) -> list[int]:
    back = nodes[number].back
    after = [other for other, node in enumerate(nodes) if number in node.after]
    return after if back is None or nodes[number].routing == "edges" else [*after, back]


def build(nodes: tuple[Node, ...], *, asynchronous: bool) -> StateGraph[Any]:
    builder = StateGraph(State).add_edge(START, "n0")
    plain_edges = {number for number, node in enumerate(nodes) if node.routing == "edges"}
    for number, node in enumerate(nodes):
        name, targets = f"n{number}", [f"n{target}" for target in _targets(nodes, number)]
        if node.kind == "subgraph":
            builder.add_node(name, build(node.inner, asynchronous=asynchronous).compile())
        else:
            if node.kind == "async" and not asynchronous:
                node = dataclasses.replace(node, kind="sync")
            builder.add_node(name, _function(name, node, targets), destinations=tuple(targets))
        if node.routing == "path" and targets:
            builder.add_conditional_edges(name, _path(targets), [*targets, END])
        elif targets and (node.routing == "send" or (node.routing == "command" and node.kind == "subgraph")):
            builder.add_conditional_edges(name, _sends(targets), [*targets, END])
        by_edges = [f"n{other}" for other in node.after if other in plain_edges]
        if by_edges:
            for start in [by_edges] if node.joins else by_edges:
                builder.add_edge(start, name)
    return builder


def _path(targets: list[str]) -> Any:
    return lambda state: targets if state.get("steps", 0) < LAST_STEP else END


def _sends(targets: list[str]) -> Any:
    def path(state: State) -> Any:
        if state.get("steps", 0) >= LAST_STEP:
            return END
        return [Send(target, {**state, "log": state.get("log", [])[-1:]}) for target in targets]

    return path


def _failing(nodes: tuple[Node, ...]) -> int:
    return sum(
        _failing(node.inner) if node.kind == "subgraph" else node.fails is not None and node.fails <= LAST_STEP
        for node in nodes
    )


def outcome(nodes: tuple[Node, ...], *, asynchronous: bool, engine: Any = None) -> Any:
    """The final state or the error, and the checkpoints with what was written in each step."""
    builder = build(nodes, asynchronous=asynchronous)
    graph = (parallelize_graph(builder, engine=engine) if engine else builder).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}, "recursion_limit": RECURSION_LIMIT}
    failed = False
    try:
        result = plain(_run(graph, config, asynchronous))
    except Exception as exc:
        failed = isinstance(exc, ValueError)
        # Which of several gets as far as that is a matter of chance, stock too.
        result = f"{type(exc).__name__}: {plain(exc) if not failed or _failing(nodes) == 1 else ''}"
    states = list(graph.get_state_history(config))
    history = [(plain(s.values), sorted(s.next), s.metadata and s.metadata["step"]) for s in states]
    if failed and _failing(nodes) > 1:
        return result
    # So is which siblings of a failed node have ended.
    tasks = [sorted((t.name, plain(t.result)) for t in s.tasks) for s in states[1 if failed else 0 :]]
    return result, history, tasks


def _run(graph: Any, config: Any, asynchronous: bool) -> Any:
    state = {"log": [], "total": 0, "steps": 0}
    # Otherwise a thread of stock invoke() saves what joins have seen when that may be true no longer.
    options: Any = {"durability": "sync"}
    return (
        asyncio.run(graph.ainvoke(state, config, **options)) if asynchronous else graph.invoke(state, config, **options)
    )


@settings(deadline=None)
@given(_nodes(DEPTH))
def test_same_state_and_writes(nodes: tuple[Node, ...]) -> None:
    expected = outcome(nodes, asynchronous=True)
    event(f"ends with {(expected if isinstance(expected, str) else expected[0]).split(':')[0]}")
    event(f"{0 if isinstance(expected, str) else len(expected[1])} checkpoints")
    assert outcome(nodes, asynchronous=False) == expected
    for engine in ("auto", "loop", "thread"):
        for asynchronous in (False, True):
            assert outcome(nodes, asynchronous=asynchronous, engine=engine) == expected, engine
