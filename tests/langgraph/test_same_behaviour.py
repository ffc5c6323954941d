"""Each feature of LangGraph's, in one graph run stock and parallelised, sync and async, on every engine."""

from __future__ import annotations

import asyncio
import inspect
import operator
import sys
from functools import partial
from typing import Annotated, Any, Literal

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, Command, RetryPolicy, Send, interrupt
from typing_extensions import TypedDict

from dspy_parallel.langgraph import parallelize_graph
from tests.langgraph.comparing import assert_same, see


class State(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]
    n: int


def chain(*nodes: Any, **options: Any) -> StateGraph[Any]:
    """The nodes one after the other."""
    builder = StateGraph(State)
    builder.add_sequence([(f"node{i}", node) for i, node in enumerate(nodes)])
    builder.add_edge(START, "node0")
    return builder


def log(entry: Any) -> dict[str, Any]:
    return {"log": [entry]}


class Callable_:
    def __call__(self, state: State) -> Any:
        return log("object")

    def method(self, state: State) -> Any:
        return log("method")


async def asynchronous(state: State) -> Any:
    return log("async")


def test_kinds_of_nodes() -> None:
    """Functions, lambdas, partials, methods, objects, async functions, Runnables."""

    def named(name: str, state: State) -> Any:
        return log(name)

    assert_same(
        lambda: chain(
            lambda state: log("lambda"),
            partial(named, "partial"),
            Callable_().method,
            Callable_(),
            asynchronous,
            RunnableLambda(lambda state: log("runnable")),
            RunnableLambda(lambda state: state) | RunnableLambda(lambda state: log("sequence")),
        ),
        [{"n": 0}],
        asynchronous_only=True,
    )


def test_injection() -> None:
    """Config, runtime, writer, store and previous arrive where the signature asks for them."""
    from langgraph.runtime import Runtime
    from langgraph.store.base import BaseStore
    from langgraph.store.memory import InMemoryStore
    from langgraph.types import StreamWriter

    def node(
        state: State, config: RunnableConfig, writer: StreamWriter, store: BaseStore, runtime: Runtime[Any]
    ) -> Any:
        writer({"written": config["configurable"]["thread_id"]})
        store.put(("a",), "key", {"n": 1})
        found = store.get(("a",), "key")
        return log((found.value if found else None, runtime.store is store, config["metadata"]["langgraph_node"]))

    # The annotations are read from this module, where the names above are not.
    node.__annotations__ = {
        "state": State,
        "config": RunnableConfig,
        "writer": StreamWriter,
        "store": BaseStore,
        "runtime": Runtime[Any],
    }
    seen = assert_same(lambda: chain(node), [{"n": 0}], store=InMemoryStore())
    assert "('custom', {'written': '1'})" in seen.events[0]


def test_loop_with_conditional_edge() -> None:
    def step(state: State) -> Any:
        get_stream_writer()(state["n"])
        return {"n": state["n"] + 1, "log": [state["n"]]}

    def again(state: State) -> Literal["step", "__end__"]:
        return "step" if state["n"] < 4 else END

    again.__annotations__ = {"state": State, "return": Literal["step", "__end__"]}

    def build() -> StateGraph[Any]:
        return StateGraph(State).add_node(step).add_edge(START, "step").add_conditional_edges("step", again)

    assert_same(build, [{"n": 0}])
    assert_same(build, [{"n": 0}], config={"recursion_limit": 2})


def test_send_with_state() -> None:
    def work(state: State) -> Any:
        return log(state["n"] ** 2)

    def fan_out(state: State) -> list[Send]:
        return [Send("work", {"n": n}) for n in range(state["n"])]

    def build() -> StateGraph[Any]:
        return StateGraph(State).add_node(work).add_conditional_edges(START, fan_out, ["work"])

    assert_same(build, [{"n": 5}], races=True)
    assert_same(build, [{"n": 5}], races=True, config={"max_concurrency": 2})


def test_fan_out_and_deferred_merge() -> None:
    def build() -> StateGraph[Any]:
        builder = StateGraph(State)
        for name in "abc":
            builder.add_node(name, lambda state, name=name: log(name))
            builder.add_edge(START, name)
        builder.add_node("more", lambda state: log("more"))
        builder.add_edge("a", "more")
        builder.add_node("merge", lambda state: log(sorted(state["log"])), defer=True)
        for name in ("b", "c", "more"):
            builder.add_edge(name, "merge")
        return builder

    assert_same(build, [{"n": 0}], races=True)


def test_interrupt_and_resume() -> None:
    def ask(state: State) -> Any:
        first = interrupt("first?")
        return log((first, interrupt("second?")))

    assert_same(lambda: chain(lambda s: log("before"), ask), [{"n": 0}, Command(resume=1), Command(resume=2)])


def test_interrupt_before_and_after() -> None:
    nodes = [lambda s, i=i: log(i) for i in range(3)]
    assert_same(lambda: chain(*nodes), [{"n": 0}, None], interrupt_before=["node1"])
    assert_same(lambda: chain(*nodes), [{"n": 0}, None], interrupt_after=["node1"])


def test_interrupt_in_subgraph() -> None:
    def ask(state: State) -> Any:
        return log(interrupt("sub?"))

    def build() -> StateGraph[Any]:
        inner = chain(lambda s: log("inner"), ask).compile()
        return chain(lambda s: log("outer"), inner)

    assert_same(build, [{"n": 0}, Command(resume="yes")], stream={"subgraphs": True})


def test_subgraph_called_by_a_node() -> None:
    def build() -> StateGraph[Any]:
        inner = chain(lambda s: log("inner"), lambda s: log(interrupt("deep?"))).compile()

        def call(state: State) -> Any:
            return {"log": inner.invoke({"n": 1})["log"]}

        async def acall(state: State) -> Any:
            return {"log": (await inner.ainvoke({"n": 1}))["log"]}

        return chain(call) if sync else chain(acall)

    sync = True
    assert_same(build, [{"n": 0}, Command(resume="yes")])
    sync = False
    if sys.version_info >= (3, 11):  # before, there is no stock behaviour to compare with
        assert_same(build, [{"n": 0}, Command(resume="yes")], asynchronous_only=True)


def test_python_310_context_in_async_nodes() -> None:
    """What LangGraph says it cannot do in async code before Python 3.11."""

    async def node(state: State) -> Any:
        get_stream_writer()("written")
        return log(interrupt("?"))

    for is_async in (False, True):
        seen = see(lambda: chain(node), [{"n": 0}, Command(resume="yes")], parallel=True, is_async=is_async)
        assert "('custom', 'written')" in seen.events[0]
        assert "'log': ['yes']" in seen.states[-1]


def test_command_to_parent() -> None:
    def leave(state: State) -> Any:
        return Command(graph=Command.PARENT, goto="target", update=log("from below"))

    def build() -> StateGraph[Any]:
        inner = StateGraph(State).add_node("leave", leave).add_edge(START, "leave").compile()
        builder = StateGraph(State).add_node("inner", inner).add_node("target", lambda s: log("target"))
        return builder.add_edge(START, "inner")

    assert_same(build, [{"n": 0}])


def test_command_goto() -> None:
    def go(state: State) -> Any:
        return Command(goto=["a", Send("b", {"n": 7})], update=log("went"))

    def build() -> StateGraph[Any]:
        builder = StateGraph(State).add_node("go", go, destinations=("a", "b")).add_edge(START, "go")
        return builder.add_node("a", lambda s: log("a")).add_node("b", lambda s: log(s["n"]))

    assert_same(build, [{"n": 0}], races=True)


def test_retries_and_failure() -> None:
    class Flaky:
        def __init__(self, failures: int) -> None:
            self.failures = failures

        def __call__(self, state: State) -> Any:
            self.failures -= 1
            if self.failures >= 0:
                raise ConnectionError("not yet")
            return log("done")

    policy = RetryPolicy(initial_interval=0.001, max_interval=0.001, jitter=False, max_attempts=3)

    def build() -> StateGraph[Any]:
        builder = StateGraph(State).add_node("flaky", Flaky(failures), retry_policy=policy)
        return builder.add_edge(START, "flaky")

    failures = 2
    assert_same(build, [{"n": 0}])
    failures = 3
    seen = assert_same(build, [{"n": 0}])
    assert "raised ConnectionError: ConnectionError('not yet')" in seen.events[0]


def test_failing_sibling() -> None:
    """The results of siblings that have ended are kept, and are not computed again."""

    def fail(state: State) -> Any:
        if state["n"] == 0:
            raise ValueError("no")
        return log("recovered")

    def build() -> StateGraph[Any]:
        return chain(lambda s: log("first"), fail)

    assert_same(build, [{"n": 0}, None])


def test_cache_policy() -> None:
    from langgraph.cache.memory import InMemoryCache

    calls: list[int] = []

    def node(state: State) -> Any:
        calls.append(1)
        return log("computed")

    for parallel in (False, True):
        for is_async in (False, True):
            calls.clear()
            build = lambda: StateGraph(State).add_node("n", node, cache_policy=CachePolicy()).add_edge(START, "n")  # noqa: E731
            builder = build()
            graph = (parallelize_graph(builder) if parallel else builder).compile(cache=InMemoryCache())
            for _ in range(2):
                if is_async:
                    assert asyncio.run(graph.ainvoke({"n": 1}))["log"] == ["computed"]
                else:
                    assert graph.invoke({"n": 1})["log"] == ["computed"]
            assert len(calls) == 1, (parallel, is_async)


def test_error_handler() -> None:
    if "error_handler" not in inspect.signature(StateGraph.add_node).parameters:
        pytest.skip("error handlers came with LangGraph 1.2")
    from langgraph.errors import NodeError

    def handler(state: State, error: NodeError) -> Any:
        return log(("handled", error.node, str(error.error)))

    handler.__annotations__ = {"state": State, "error": NodeError}

    def fail(state: State) -> Any:
        raise ValueError("no")

    assert_same(
        lambda: StateGraph(State).add_node("fail", fail, error_handler=handler).add_edge(START, "fail"), [{"n": 0}]
    )
    assert_same(
        lambda: (
            StateGraph(State).set_node_defaults(error_handler=handler).add_node("fail", fail).add_edge(START, "fail")
        ),
        [{"n": 0}],
    )


def test_time_travel() -> None:
    """Running again from an earlier checkpoint, and from an edited one."""

    def build() -> StateGraph[Any]:
        return chain(*[lambda s, i=i: log(i) for i in range(3)])

    results = []
    for parallel in (False, True):
        builder = build()
        graph = (parallelize_graph(builder) if parallel else builder).compile(checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "1"}}
        graph.invoke({"n": 0}, config)
        earlier = next(s for s in graph.get_state_history(config) if s.next == ("node1",))
        replayed = graph.invoke(None, earlier.config)
        edited = graph.invoke(None, graph.update_state(earlier.config, {"log": ["edited"]}))
        results.append((replayed, edited))
    assert results[0] == results[1]
    assert "edited" in results[1][1]["log"]


def test_drawn_graph_and_schemas() -> None:
    def build() -> StateGraph[Any]:
        inner = chain(lambda s: log("inner")).compile()
        return chain(lambda s: log("a"), inner, asynchronous)

    stock, parallel = build().compile(), parallelize_graph(build()).compile()
    assert stock.get_graph(xray=True).to_json() == parallel.get_graph(xray=True).to_json()
    assert stock.get_graph(xray=True).draw_mermaid() == parallel.get_graph(xray=True).draw_mermaid()
    assert stock.get_input_jsonschema() == parallel.get_input_jsonschema()
    assert stock.get_output_jsonschema() == parallel.get_output_jsonschema()
    assert [name for name, _ in stock.get_subgraphs()] == [name for name, _ in parallel.get_subgraphs()] == ["node1"]
    assert type(parallel).__name__ == type(stock).__name__
    assert isinstance(parallel, type(stock))


def test_with_config_keeps_the_conversion() -> None:
    graph = parallelize_graph(chain(lambda s: log("a"))).compile().with_config({"tags": ["x"]})
    assert graph.invoke({"n": 0})["log"] == ["a"]
    assert type(graph).invoke is not type(chain(lambda s: log("a")).compile()).invoke


def test_shared_objects_are_not_changed() -> None:
    """A runnable, a subgraph and a function that another graph uses, too, are as they were."""
    inner = chain(lambda s: log("inner")).compile()
    runnable = RunnableLambda(lambda s: log("runnable"))
    before = dict(vars(inner)), dict(vars(runnable)), type(inner)
    parallelize_graph(chain(inner, runnable)).compile().invoke({"n": 0})
    assert (dict(vars(inner)), dict(vars(runnable)), type(inner)) == before
