"""Types that users of LangGraph see. Checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.types import RetryPolicy
from typing_extensions import TypedDict, assert_type

from dspy_parallel.langgraph import async_node, parallelize_graph, retry_on


class State(TypedDict):
    n: int


def increase(state: State) -> State:
    return {"n": state["n"] + 1}


async def increase_async(state: State) -> State:
    return increase(state)


def graphs_stay_what_they_are(pregel: Pregel[State, None, State, State]) -> None:
    builder = StateGraph(State).add_node("increase", increase).add_edge(START, "increase")
    assert_type(parallelize_graph(builder), StateGraph[State, None, State, State])
    compiled = parallelize_graph(builder, engine="loop", nodes={"increase": "leave"}).compile()
    assert_type(compiled, CompiledStateGraph[State, None, State, State])
    assert_type(parallelize_graph(compiled), CompiledStateGraph[State, None, State, State])
    assert_type(parallelize_graph(pregel), Pregel[State, None, State, State])


def what_is_refused(builder: StateGraph[State]) -> None:
    parallelize_graph(builder, engine="fast")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    parallelize_graph(builder, nodes={"a": "fast"})  # type: ignore[dict-item] # pyright: ignore[reportArgumentType]
    parallelize_graph(increase)  # type: ignore[type-var] # pyright: ignore[reportArgumentType]


async def functions_keep_their_parameters() -> None:
    node = async_node(increase)
    assert_type(await node({"n": 1}), State)
    pinned: Callable[[State], Awaitable[State]] = async_node(engine="thread")(increase)
    assert_type(await pinned({"n": 1}), State)
    assert_type(await async_node(increase_async)({"n": 1}), State)
    builder: StateGraph[Any] = StateGraph(State)
    builder.add_node("increase", node)


def policies() -> None:
    assert_type(retry_on(ValueError()), bool)
    RetryPolicy(retry_on=retry_on)
