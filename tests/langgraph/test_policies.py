"""Policies of nodes: retries, caches, timeouts, error handlers; stock and parallelised, on every engine."""

from __future__ import annotations

import asyncio
import inspect
import time
from types import SimpleNamespace
from typing import Any

import pytest
from langgraph.cache.memory import InMemoryCache
from langgraph.graph import START, StateGraph
from langgraph.types import CachePolicy, Command, RetryPolicy

from dspy_parallel import await_, in_bridge
from dspy_parallel.langgraph import parallelize_graph
from tests.langgraph.comparing import assert_same
from tests.langgraph.test_same_behaviour import State, chain, log

QUICK: Any = {"initial_interval": 0.001, "max_interval": 0.001, "jitter": False}
ADD_NODE = inspect.signature(StateGraph.add_node).parameters
since_12 = pytest.mark.skipif("timeout" not in ADD_NODE, reason="timeouts and error handlers came with LangGraph 1.2")


def test_retries_and_failure() -> None:
    class Flaky:
        def __init__(self, failures: int) -> None:
            self.failures = failures

        def __call__(self, state: State) -> Any:
            self.failures -= 1
            if self.failures >= 0:
                raise ConnectionError("not yet")
            return log("done")

    def build() -> StateGraph[Any]:
        policy = RetryPolicy(max_attempts=3, **QUICK)
        builder = StateGraph(State).add_node("flaky", Flaky(failures), retry_policy=policy)
        return builder.add_edge(START, "flaky")

    failures = 2
    assert_same(build, [{"n": 0}])
    failures = 3
    seen = assert_same(build, [{"n": 0}])
    assert "raised ConnectionError: ConnectionError('not yet')" in seen.events[0]


def test_cache_policy() -> None:
    """The second run takes the result from the cache, under the same key; the third has another input."""

    def build() -> StateGraph[Any]:
        calls = 0

        def node(state: State) -> Any:
            nonlocal calls
            calls += 1
            return log(f"call {calls}")

        policy = CachePolicy(key_func=lambda state: str(state["n"]))
        return StateGraph(State).add_node("node", node, cache_policy=policy).add_edge(START, "node")

    seen = assert_same(build, [{"n": 1}, {"n": 1}, {"n": 2}], cache=InMemoryCache)
    assert "'log': ['call 1', 'call 1', 'call 2']" in seen.states[-1]


def test_clear_cache() -> None:
    calls = []
    builder = StateGraph(State).add_node("node", lambda state: calls.append(1), cache_policy=CachePolicy())
    graph = parallelize_graph(builder.add_edge(START, "node")).compile(cache=InMemoryCache())
    for expected in (1, 1):
        graph.invoke({"n": 1})
        assert len(calls) == expected
    graph.clear_cache()
    asyncio.run(graph.ainvoke({"n": 1}))
    assert len(calls) == 2


class SyncOnlyCache(InMemoryCache[Any]):
    async def aget(self, keys: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} is sync")

    async def aset(self, keys: Any) -> None:
        raise NotImplementedError

    async def aclear(self, namespaces: Any = None) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("is_subgraph", [False, True])
def test_caches_without_an_async_side(is_subgraph: bool) -> None:
    calls = []
    builder = StateGraph(State).add_node("node", lambda state: calls.append(1), cache_policy=CachePolicy())
    builder.add_edge(START, "node")
    if is_subgraph:
        builder = StateGraph(State).add_node("inner", builder.compile()).add_edge(START, "inner")
    graph = parallelize_graph(builder).compile(cache=SyncOnlyCache())
    for _ in range(2):
        graph.invoke({"n": 1})
    asyncio.run(graph.with_config({"tags": ["copy"]}).ainvoke({"n": 1}))
    assert len(calls) == (3 if is_subgraph else 1)  # as stock: the keys of a subgraph's nodes hold the run's id
    if not is_subgraph:  # clear_cache() means the graph's own nodes
        graph.clear_cache()
        graph.invoke({"n": 1})
        assert len(calls) == 2


def _handler() -> Any:
    from langgraph.errors import NodeError

    def handler(state: State, error: NodeError) -> Any:
        return Command(update=log(f"handled {error.error} of {error.node}"), goto="after")

    handler.__annotations__ = {"state": State, "error": NodeError}
    return handler


def fail(state: State) -> Any:
    raise ValueError("no")


@since_12
def test_error_handlers() -> None:
    """A node's own, the default of all nodes, in a subgraph, and after the last attempt."""

    def build(**options: Any) -> StateGraph[Any]:
        builder = StateGraph(State).add_node("fail", fail, **options).add_node("after", lambda s: log("after"))
        return builder.add_edge(START, "fail")

    def with_default() -> StateGraph[Any]:
        return build().set_node_defaults(error_handler=_handler())

    # Under stock invoke, too, the handler's events race with those of the failure, from a thread of its own.
    seen = assert_same(lambda: build(error_handler=_handler()), [{"n": 0}], races=True)
    assert "'log': ['handled no of fail', 'after']" in seen.states[-1]
    assert_same(with_default, [{"n": 0}], races=True)
    assert_same(lambda: chain(with_default().compile()), [{"n": 0}], stream={"subgraphs": True}, races=True)
    retried = RetryPolicy(max_attempts=2, retry_on=ValueError, **QUICK)
    assert_same(lambda: build(error_handler=_handler(), retry_policy=retried), [{"n": 0}], races=True)


@since_12
@pytest.mark.parametrize("is_default", [False, True])
def test_error_handlers_run_in_the_bridge(is_default: bool) -> None:
    def handler(state: State) -> Any:
        await_(asyncio.sleep(0))
        return log(in_bridge())

    options: Any = {} if is_default else {"error_handler": handler}
    builder: Any = StateGraph(State).add_node("fail", fail, **options).add_edge(START, "fail")
    if is_default:
        builder.set_node_defaults(error_handler=handler)
    graph = parallelize_graph(builder).compile()
    assert graph.invoke({"n": 0})["log"] == [True]
    assert asyncio.run(graph.ainvoke({"n": 0}))["log"] == [True]


@since_12
def test_timeouts() -> None:
    """Stock allows them for async nodes only, and under `ainvoke` only."""
    from langgraph.errors import NodeTimeoutError

    async def hang(state: State) -> Any:
        await asyncio.sleep(60)

    def build(**options: Any) -> StateGraph[Any]:
        builder = StateGraph(State).add_node("hang", hang, timeout=0.05, **options)
        return builder.add_node("after", lambda s: log("after")).add_edge(START, "hang")

    def handler(state: State) -> Any:
        return Command(update=log("too late"), goto="after")

    retried = RetryPolicy(max_attempts=2, retry_on=NodeTimeoutError, **QUICK)
    seen = assert_same(build, [{"n": 0}], asynchronous_only=True)
    assert "raised NodeTimeoutError" in seen.events[0][-1]
    assert_same(lambda: build(retry_policy=retried), [{"n": 0}], asynchronous_only=True)
    # Under `invoke`, a future tells LangGraph's loop that it has failed before it calls back, which notes the failure:
    # whether that or the handler is streamed first is a matter of chance there.
    seen = assert_same(lambda: build(error_handler=handler), [{"n": 0}], asynchronous_only=True, races=True)
    assert "'log': ['too late', 'after']" in seen.states[-1]


@since_12
def test_idle_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """LangGraph's clock stands still until all is written."""
    from langgraph.config import get_stream_writer
    from langgraph.types import TimeoutPolicy

    now = 0.0
    monkeypatch.setattr("langgraph.pregel._retry.time", SimpleNamespace(**{**vars(time), "monotonic": lambda: now}))

    async def writes_and_hangs(state: State) -> Any:
        nonlocal now
        for n in range(3):
            get_stream_writer()(n)
            await asyncio.sleep(0)
        now += 1.0
        await asyncio.Event().wait()

    def build() -> StateGraph[Any]:
        policy = TimeoutPolicy(idle_timeout=0.2)
        return StateGraph(State).add_node("node", writes_and_hangs, timeout=policy).add_edge(START, "node")

    seen = assert_same(build, [{"n": 0}], asynchronous_only=True)
    assert "('custom', 2)" in seen.events[0]
