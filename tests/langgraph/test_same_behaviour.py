"""Each feature of LangGraph's, in one graph run stock and parallelised, sync and async, on every engine."""

from __future__ import annotations

import operator
import sys
from functools import partial
from typing import Annotated, Any, Literal

import pytest
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
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
    seen = assert_same(lambda: chain(node), [{"n": 0}], store=InMemoryStore)
    assert seen.stored == ["(('a',), 'key', {'n': 1})"]
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


def test_interrupts_of_siblings_are_answered_together() -> None:
    def ask(state: State) -> Any:
        return log([state["n"], interrupt(state["n"])])

    def fan_out(state: State) -> list[Send]:
        return [Send("ask", {"n": n}) for n in range(state["n"])]

    def answers(snapshot: Any) -> Any:
        return Command(resume={i.id: f"answer {i.value}" for i in snapshot.interrupts})

    def build() -> StateGraph[Any]:
        return StateGraph(State).add_node(ask).add_conditional_edges(START, fan_out, ["ask"])

    seen = assert_same(build, [{"n": 3}, answers], races=True)
    assert "[0, 'answer 0'], [1, 'answer 1'], [2, 'answer 2']" in seen.states[-1]


@pytest.mark.parametrize("durability", ["exit", "async", "sync"])
def test_durability(durability: str) -> None:
    """How often checkpoints are written."""
    seen = assert_same(
        lambda: chain(*[lambda s, i=i: log(i) for i in range(3)]), [{"n": 0}], stream={"durability": durability}
    )
    assert len(seen.history) == (1 if durability == "exit" else 5)


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


def test_nested_subgraphs() -> None:
    """Three deep, with an interrupt at the bottom, and a subgraph that keeps a memory of its own."""

    def ask(state: State) -> Any:
        return log(interrupt("bottom?"))

    def build() -> StateGraph[Any]:
        remembering = chain(lambda s: log(len(s["log"]))).compile(checkpointer=True)
        bottom = chain(lambda s: log("bottom"), ask).compile()
        middle = chain(lambda s: log("middle"), bottom, remembering).compile()
        return chain(middle, lambda s: log("top"))

    seen = assert_same(build, [{"n": 0}, Command(resume="yes"), {"n": 1}], stream={"subgraphs": True})
    assert any("bottom?" in event for event in seen.events[0])


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
        seen = see(lambda: chain(node), [{"n": 0}, Command(resume="yes")], parallel="builder", is_async=is_async)
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


def test_failing_sibling() -> None:
    """The results of siblings that have ended are kept, and are not computed again."""

    def fail(state: State) -> Any:
        if state["n"] == 0:
            raise ValueError("no")
        return log("recovered")

    def build() -> StateGraph[Any]:
        return chain(lambda s: log("first"), fail)

    assert_same(build, [{"n": 0}, None])


def test_drawn_graph_and_schemas() -> None:
    def build() -> StateGraph[Any]:
        inner = chain(lambda s: log("inner")).compile()
        builder = chain(lambda s: log("a"), inner, asynchronous)
        builder.add_node("leave", leave, metadata={"owner": "me"}, defer=True).add_edge("node2", "leave")
        return builder.add_conditional_edges("node0", again, {"more": "node1", "enough": END})

    def leave(state: State) -> Command[Literal["node0", "__end__"]]:
        return Command(goto=END)

    def again(state: State) -> Literal["more", "enough"]:
        return "more"

    leave.__annotations__ = {"state": State, "return": Command[Literal["node0", "__end__"]]}
    again.__annotations__ = {"state": State, "return": Literal["more", "enough"]}
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
