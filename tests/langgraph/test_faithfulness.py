"""What a user's objects, methods, contexts and threads are in a parallelised graph: the user's own."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import operator
import threading
from concurrent.futures import Future
from typing import Annotated, Any
from unittest.mock import MagicMock

import pytest
import wrapt
from langchain_core.callbacks import CallbackManager
from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers.base import BaseTracer
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from dspy_parallel import await_
from dspy_parallel.langgraph import async_node, parallelize_graph, tool_order


class State(TypedDict, total=False):
    n: Any
    log: Annotated[list[Any], operator.add]


def chain(*nodes: Any) -> StateGraph[Any]:
    builder = StateGraph(State)
    names = [f"node{number}" for number in range(len(nodes))]
    for name, node in zip(names, nodes, strict=True):
        builder.add_node(name, node)
    for before, after in zip([START, *names], names, strict=False):
        builder.add_edge(before, after)
    return builder


def both(graph: Any, given: Any) -> list[Any]:
    return [graph.invoke(given), asyncio.run(graph.ainvoke(given))]


# What is converted is wrapped, never copied


class Counting(Runnable[Any, Any]):
    calls, step = 0, 1

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        self.calls += 1
        return {"n": input["n"] + self.step}


class Tracked(CompiledStateGraph):  # type: ignore[type-arg]
    runs = 0

    def stream(self, *args: Any, **kwargs: Any) -> Any:
        self.runs += 1
        return super().stream(*args, **kwargs)


@pytest.mark.parametrize(
    "around", [lambda r: r, lambda r: r.with_config(tags=["x"]), lambda r: RunnableLambda(lambda s: s) | r | dict]
)
def test_the_users_own_runnable_runs(around: Any) -> None:
    counting = Counting()
    graph = parallelize_graph(chain(around(counting))).compile()
    assert both(graph, {"n": 0}) == [{"n": 1, "log": []}] * 2
    assert counting.calls == 2
    counting.step = 10
    assert both(graph, {"n": 0}) == [{"n": 10, "log": []}] * 2


def test_the_users_own_model_runs() -> None:
    model = FakeMessagesListChatModel(responses=[AIMessage(text) for text in ("one", "two", "three")])
    replies = RunnableLambda(lambda s: "hi") | model | (lambda message: {"n": message.content})
    graph = parallelize_graph(chain(replies)).compile()
    assert [graph.invoke({})["n"], model.i] == ["one", 1]
    model.i = 0
    assert [asyncio.run(graph.ainvoke({}))["n"], model.i] == ["one", 1]


def test_the_users_own_tool_node_runs() -> None:
    prebuilt = pytest.importorskip("langgraph.prebuilt", exc_type=ImportError)
    from langgraph.graph import MessagesState

    class Counted(prebuilt.ToolNode):  # type: ignore[misc, name-defined]
        parsed = 0

        def _parse_input(self, *args: Any) -> Any:
            self.parsed += 1
            return super()._parse_input(*args)

    @tool
    def double(n: int) -> str:
        """Double."""
        return str(2 * n)

    node = Counted([double])
    graph = parallelize_graph(StateGraph(MessagesState).add_node("tools", node).add_edge(START, "tools")).compile()
    call = AIMessage("", tool_calls=[{"name": "double", "args": {"n": 2}, "id": "1"}])
    assert [result["messages"][-1].content for result in both(graph, {"messages": [call]})] == ["4", "4"]
    assert node.parsed == 2


def test_a_subgraph_shares_its_state_with_its_counterpart() -> None:
    inner: Any = chain(lambda s: {"n": s["n"] + 1}).compile()
    inner.__class__ = Tracked
    graph = parallelize_graph(chain(inner)).compile()
    assert graph.invoke({"n": 1})["n"] == 2
    assert inner.runs == 1
    inner.runs = 5
    graph.invoke({"n": 1})
    assert inner.runs == 6


@pytest.mark.parametrize("is_compiled", [False, True])
def test_stateless_subgraphs_stay_hidden(is_compiled: bool) -> None:
    child = chain(lambda s: {"n": interrupt("?")}).compile(checkpointer=False)
    builder, options = chain(child), {"checkpointer": InMemorySaver()}
    graph: Any = parallelize_graph(builder.compile(**options)) if is_compiled else None
    graph = graph or parallelize_graph(builder).compile(**options)
    config: Any = {"configurable": {"thread_id": "1"}}
    graph.invoke({"n": 0}, config)
    assert [*graph.get_subgraphs()] == []
    assert graph.get_state(config, subgraphs=True).next == ("node0",)


# Callables


class Named:
    """Names itself, and has nothing else of a function."""

    __slots__ = ("__name__",)

    def __init__(self) -> None:
        self.__name__ = "named"

    def __call__(self, state: State) -> Any:
        return {"n": state["n"] + 1}


class Odd:
    __name__: Any = 7

    def __call__(self, state: State) -> Any:
        return {"n": state["n"] + 1}


class Raising:
    @property
    def __name__(self) -> str:
        raise RuntimeError("no name")

    def __call__(self, state: State) -> Any:
        return {"n": state["n"] + 1}


@functools.singledispatch
def dispatched(state: Any) -> Any:
    return {"n": state["n"] + 1}


CALLABLES = [
    Named(),
    Odd(),
    MagicMock(return_value={"n": 2}),
    dispatched,
    wrapt.CallableObjectProxy(dispatched),
    functools.partial(lambda m, s: {"n": m}, 2),
]


@pytest.mark.parametrize("fn", CALLABLES, ids=lambda fn: type(fn).__name__)
def test_callables_without_attributes_of_functions(fn: Any) -> None:
    assert [result["n"] for result in both(parallelize_graph(chain(fn)).compile(), {"n": 1})] == [2, 2]
    assert asyncio.run(async_node(fn)({"n": 1}))["n"] == 2  # type: ignore[arg-type]


def test_a_callable_whose_attributes_raise() -> None:
    assert asyncio.run(async_node(Raising())({"n": 1}))["n"] == 2  # type: ignore[arg-type]


def test_async_node_of_what_has_not_even_a_signature() -> None:
    get: Any = async_node(operator.itemgetter("n"))
    assert asyncio.run(get({"n": 2})) == 2


# Methods, contexts, threads


def test_overridden_sync_methods_are_called() -> None:
    called: list[str] = []

    def audited(name: str) -> Any:
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            called.append(name)
            return getattr(CompiledStateGraph, name)(self, *args, **kwargs)

        return method

    names = ["invoke", "stream", "get_state", "get_state_history", "update_state"]
    graph: Any = chain(lambda s: {"n": 2}).compile(checkpointer=InMemorySaver())
    graph.__class__ = type("Audited", (CompiledStateGraph,), {name: audited(name) for name in names})
    config: Any = {"configurable": {"thread_id": "1"}}
    parallelize_graph(graph)
    graph.invoke({"n": 1}, config)
    graph.get_state(config)
    list(graph.get_state_history(config))
    graph.update_state(config, {"n": 3})
    assert called == names


def test_each_step_of_a_stream_has_the_context_of_whoever_asks_for_it() -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
    graph = parallelize_graph(chain(*[lambda s: {"n": tenant.get()}] * 2)).compile()
    items = graph.stream({}, stream_mode="updates")
    found = []
    for name in ("first", "second"):
        tenant.set(name)
        found += [update["n"] for update in next(items).values()]
    assert found == ["first", "second"]


def test_a_step_with_one_sync_node_runs_in_the_callers_thread() -> None:
    def where(state: State) -> Any:
        return {"log": [threading.current_thread()]}

    def path(state: State) -> str:
        where_paths.append(threading.current_thread())
        return "__end__"

    where_paths: list[Any] = []
    here = threading.current_thread()
    graph = parallelize_graph(chain(where, where).add_conditional_edges("node1", path, ["__end__"])).compile()
    assert graph.invoke({})["log"] == [here, here]
    assert [*graph.stream({})][1]["node1"]["log"] == [here]
    assert graph.batch([{}])[0]["log"] == [here, here]
    assert where_paths == [here] * 3


def test_sync_nodes_get_the_sync_callback_manager() -> None:
    def node(state: State, config: RunnableConfig) -> Any:
        return {"n": isinstance(config["callbacks"], CallbackManager)}

    assert parallelize_graph(chain(node)).compile().invoke({})["n"]


def test_only_langsmiths_own_tracer_is_a_parent_of_langsmiths(monkeypatch: pytest.MonkeyPatch) -> None:
    """With another tracer's run as its parent, LangSmith traces, and sends, although it is switched off."""
    from langsmith.utils import tracing_is_enabled

    class Tracer(BaseTracer):
        def _persist_run(self, run: Any) -> None:
            pass

    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    graph = parallelize_graph(chain(lambda s: {"n": tracing_is_enabled()})).compile()
    config: Any = {"callbacks": [Tracer()]}
    assert [graph.invoke({}, config)["n"], asyncio.run(graph.ainvoke({}, config))["n"]] == [False, False]


async def answers_of(functions: list[Any], *, is_async: bool, most: int = 9) -> tuple[list[str], list[Any]]:
    """What the tools of one node ask, in the order in which a person is shown it; what each gets."""
    prebuilt = pytest.importorskip("langgraph.prebuilt", exc_type=ImportError)
    from langgraph.graph import MessagesState

    calls = [{"name": fn.__name__, "args": {}, "id": fn.__name__} for fn in functions]
    tools = prebuilt.ToolNode([tool(fn, description="A tool.") for fn in functions])
    builder = StateGraph(MessagesState).add_node("tools", tools).add_edge(START, "tools")
    graph = parallelize_graph(builder).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}

    async def run(given: Any) -> Any:
        return await graph.ainvoke(given, config) if is_async else graph.invoke(given, config)

    shown: list[str] = []
    state = await run({"messages": [AIMessage("", tool_calls=calls)]})
    while "__interrupt__" in state and len(shown) < most:
        shown.append(state["__interrupt__"][0].value)
        state = await run(Command(resume=f"answer to {shown[-1]}"))
    return shown, [message.content for message in state["messages"][1:]]


@pytest.mark.parametrize("is_async", [False, True])
def test_tools_of_one_node_ask_in_order(is_async: bool) -> None:
    """Even if the first is taken off before it asks, in every run."""
    last = threading.Event()

    def refund() -> str:
        assert last.wait(60)
        last.clear()
        return str(interrupt("refund?"))

    def rename() -> str:
        return str(interrupt("rename?"))

    def delete() -> str:
        last.set()
        return str(interrupt("delete?"))

    shown, answers = asyncio.run(answers_of([refund, rename, delete], is_async=is_async))
    assert answers == ["answer to refund?", "answer to rename?", "answer to delete?"]
    assert shown == ["refund?", "rename?", "delete?"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_tool_that_waits_lets_the_next_one_ask(is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool_order, "MOST_SECONDS", None)
    asked: list[str] = []
    answered: Future[None] = Future()

    async def until_answered() -> None:
        await asyncio.wrap_future(answered)

    def refund() -> str:
        await_(until_answered())
        asked.append("refund")
        return str(interrupt("refund?"))

    def delete() -> str:
        try:
            return str(interrupt("delete?"))
        finally:
            asked.append("delete")
            if not answered.done():
                answered.set_result(None)

    asyncio.run(answers_of([refund, delete], is_async=is_async, most=0))
    assert asked[0] == "delete"
