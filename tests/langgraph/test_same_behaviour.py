"""Each feature of LangGraph's, in one graph run stock and parallelised, sync and async, on every engine."""

from __future__ import annotations

import asyncio
import operator
import sys
import warnings
from functools import partial
from typing import Annotated, Any, Literal

import pytest
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import InjectedToolCallId, tool
from langchain_core.tracers.base import BaseTracer
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_config, get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from dspy_parallel.langgraph import parallelize_graph
from dspy_parallel.langgraph.compiled_graph import is_parallel
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
    """What LangGraph says it cannot do in async code before Python 3.11; also in what the node calls and awaits."""

    async def deeper() -> str:
        await asyncio.sleep(0)
        return str(get_config()["configurable"]["thread_id"])

    async def node(state: State) -> Any:
        get_stream_writer()("written")
        threads = [await deeper(), *await asyncio.gather(deeper(), deeper())]
        return log([interrupt("?"), *threads])

    for is_async in (False, True):
        seen = see(lambda: chain(node), [{"n": 0}, Command(resume="yes")], parallel="builder", is_async=is_async)
        assert "('custom', 'written')" in seen.events[0]
        assert "'log': [['yes', '1', '1', '1']]" in seen.states[-1]


def test_config_reaches_whatever_a_sync_node_calls() -> None:
    inner = RunnableLambda(lambda _: get_config()["configurable"]["thread_id"])

    def node(state: State) -> Any:
        return log([get_config()["configurable"]["thread_id"], inner.invoke(0), get_config()["metadata"]["n"]])

    seen = assert_same(lambda: chain(node), [{"n": 0}], config={"metadata": {"n": 7}})
    assert "'log': [['1', '1', 7]]" in seen.states[-1]


def test_command_to_parent() -> None:
    def leave(state: State) -> Any:
        return Command(graph=Command.PARENT, goto="target", update=log("from below"))

    def build() -> StateGraph[Any]:
        inner = StateGraph(State).add_node("leave", leave).add_edge(START, "leave").compile()
        builder = StateGraph(State).add_node("inner", inner).add_node("target", lambda s: log("target"))
        return builder.add_edge(START, "inner")

    assert_same(build, [{"n": 0}])


def test_failing_sibling() -> None:
    """So are those of nodes beside it, once they have ended; which is waited for, or it would be a matter of chance."""
    saved: list[str] = []
    calls: list[str] = []

    class Noticing(InMemorySaver):
        def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
            super().put_writes(config, writes, task_id, task_path)
            saved.extend(channel for channel, _ in writes if channel == "log")

        async def aput_writes(self, *args: Any, **kwargs: Any) -> None:
            self.put_writes(*args, **kwargs)

    async def fail(state: State) -> Any:
        while not saved:
            await asyncio.sleep(0)
        calls.append("fail")
        if len(calls) < 3:
            raise ValueError("no")
        return log("recovered")

    def succeed(state: State) -> Any:
        calls.append("succeed")
        return log(calls.count("succeed"))

    def build() -> StateGraph[Any]:
        saved.clear()
        calls.clear()
        builder = StateGraph(State).add_node(fail).add_node(succeed).add_edge(START, "fail").add_edge(START, "succeed")
        return builder.add_node("merge", lambda s: log("merged")).add_edge(["fail", "succeed"], "merge")

    # Updates are streamed after they are saved: whether before the run has failed, is a matter of chance in a thread.
    stream = {"stream_mode": ["values"]}
    seen = assert_same(
        build, [{"n": 0}, None], asynchronous_only=True, races=True, checkpointer=Noticing, stream=stream
    )
    assert "'log': ['recovered', 1, 'merged']" in seen.states[-1]
    assert calls == ["succeed", "fail", "fail"]


def test_input_schema_of_a_node() -> None:
    """A node sees those keys alone, also some that the graph's input lacks."""

    class Private(TypedDict, total=False):
        hidden: int
        n: int

    def hide(state: State) -> Any:
        return {"hidden": 7}

    def look(state: Any) -> Any:
        return log(sorted(state.items()))

    def build() -> StateGraph[Any]:
        builder = StateGraph(State).add_node(hide).add_node(look, input_schema=Private).add_edge(START, "hide")
        return builder.add_edge("hide", "look")

    seen = assert_same(build, [{"n": 0}])
    assert "'log': [[['hidden', 7], ['n', 0]]]" in seen.states[-1]


def test_trace_policy() -> None:
    """What is recorded of a node's run is not what the node gets."""
    types = pytest.importorskip("langgraph.types")
    if not hasattr(types, "TracePolicy"):
        pytest.skip("trace policies came with LangGraph 1.2")

    class Recorder(BaseTracer):
        seen: list[Any]

        def _persist_run(self, run: Any) -> None:
            self.seen = [(child.name, child.inputs, child.outputs) for child in (run, *run.child_runs)]

    def recorded(graph: Any, *, is_async: bool) -> list[Any]:
        recorder = Recorder()
        call = graph.ainvoke({"n": 1}, {"callbacks": [recorder]}) if is_async else None
        result = asyncio.run(call) if call else graph.invoke({"n": 1}, {"callbacks": [recorder]})
        assert result["log"] == [1]
        return recorder.seen

    def build() -> StateGraph[Any]:
        policy = types.TracePolicy(process_inputs=lambda i: "hidden", process_outputs=lambda o: "hidden, too")
        options: Any = {"trace_policy": policy}
        return StateGraph(State).add_node("node", lambda state: log(state["n"]), **options).add_edge(START, "node")

    expected = recorded(build().compile(), is_async=False)
    assert expected[1] == ("node", {"input": "hidden"}, {"output": "hidden, too"})
    for is_async in (False, True):
        assert recorded(parallelize_graph(build()).compile(), is_async=is_async) == expected
        assert recorded(parallelize_graph(build().compile()), is_async=is_async) == expected


def test_react_agent() -> None:
    """LangGraph's prebuilt one: a compiled graph with a model, sync tools and a loop."""
    prebuilt = pytest.importorskip("langgraph.prebuilt", exc_type=ImportError)

    class Model(FakeMessagesListChatModel):
        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            return self

    # Messages that have ids: others get one while a thread of stock invoke() may be saving them.

    @tool
    def add(a: int, b: int, tool_call_id: Annotated[str, InjectedToolCallId]) -> Any:
        """Add."""
        return ToolMessage(str(a + b), tool_call_id=tool_call_id, id="2")

    def build() -> Any:
        call: Any = {"name": "add", "args": {"a": 1, "b": 2}, "id": "1", "type": "tool_call"}
        model = Model(responses=[AIMessage(content="", tool_calls=[call]), AIMessage(content="three")])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has been deprecated for another package's
            return prebuilt.create_react_agent(model, [add], checkpointer=InMemorySaver())

    seen = assert_same(build, [{"messages": [HumanMessage("1 + 2?", id="1")]}])
    assert "content='3'" in seen.states[-1]
    assert "content='three'" in seen.states[-1]


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
    deeper = chain(chain(build().compile()).compile())
    names = [name for name, _ in deeper.compile().get_subgraphs(recurse=True)]
    found = dict(parallelize_graph(deeper).compile().get_subgraphs(recurse=True))
    assert list(found) == names == ["node0", "node0|node0", "node0|node0|node1"]
    assert all(is_parallel(graph) for graph in found.values())
    assert type(parallel).__name__ == type(stock).__name__
    assert isinstance(parallel, type(stock))


def test_with_config_keeps_the_conversion() -> None:
    graph = parallelize_graph(chain(lambda s: log("a"))).compile().with_config({"tags": ["x"]})
    assert graph.invoke({"n": 0})["log"] == ["a"]
    assert is_parallel(graph)


def test_shared_objects_are_not_changed() -> None:
    """A runnable, a subgraph and a function that another graph uses, too, are as they were."""
    inner = chain(lambda s: log("inner")).compile()
    runnable = RunnableLambda(lambda s: log("runnable"))
    chain(inner, runnable).compile()  # LangGraph itself notes what a RunnableLambda depends on
    before = dict(vars(inner)), dict(vars(runnable)), type(inner)
    parallelize_graph(chain(inner, runnable)).compile().invoke({"n": 0})
    assert (dict(vars(inner)), dict(vars(runnable)), type(inner)) == before
