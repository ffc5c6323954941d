"""`@entrypoint`, `@task` and `async_node`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
from typing import Any

import dspy
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from dspy_parallel import DecorationError, TargetError, UnknownEngineError, await_, in_bridge
from dspy_parallel.langgraph import async_node, parallelize_graph
from tests.langgraph.comparing import assert_same
from tests.support.skipped_time import skipping

ENGINES: Any = pytest.mark.parametrize("engine", ["auto", "loop", "thread"])


def both(graph: Any, given: Any, config: Any = None) -> list[Any]:
    return [graph.invoke(given, config), asyncio.run(graph.ainvoke(given, config))]


@ENGINES
def test_results_of_tasks_in_sync_code(engine: Any) -> None:
    @task
    def double(n: int) -> int:
        return 2 * n

    @entrypoint()
    def workflow(n: int) -> Any:
        futures = [double(i) for i in range(n)]
        doubled = [future.result() for future in futures]
        assert all(future.exception() is None for future in futures)
        more = [double(i) for i in range(n)]
        return doubled, sorted(future.result() for future in concurrent.futures.as_completed(more))

    assert both(parallelize_graph(workflow, engine=engine), 3) == [([0, 2, 4], [0, 2, 4])] * 2


@ENGINES
def test_tasks_run_at_the_same_time(engine: Any) -> None:
    """As many as are called: each waits until all have begun."""

    @task
    def meet(n: int) -> int:
        async def wait() -> int:
            begun.append(n)
            if len(begun) == 30:
                everybody.set()
            await asyncio.wait_for(everybody.wait(), 60)
            return n

        return await_(wait())

    @entrypoint()
    def workflow(n: int) -> Any:
        return [future.result() for future in [meet(i) for i in range(n)]]

    for run in (lambda graph: graph.invoke(30), lambda graph: asyncio.run(graph.ainvoke(30))):
        begun: list[int] = []
        everybody = asyncio.Event()
        assert run(parallelize_graph(workflow, engine=engine)) == list(range(30))


@ENGINES
def test_errors_of_tasks(engine: Any) -> None:
    @task
    def fail() -> None:
        raise ValueError("no")

    @entrypoint()
    def workflow(n: int) -> Any:
        with pytest.raises(ValueError, match="no"):
            fail().result()
        return str(fail().exception())

    assert both(parallelize_graph(workflow, engine=engine), 3) == ["no", "no"]


@ENGINES
def test_async_entrypoint_awaits_and_asks(engine: Any) -> None:
    """In async code a task's future can be awaited, gathered, or asked by a sync helper."""

    @task
    def double(n: int) -> int:
        return 2 * n

    @task
    async def increase(n: int) -> int:
        return n + 1

    def helper(n: int) -> int:
        return double(n).result()

    @entrypoint()
    async def workflow(n: int) -> Any:
        return [await double(n), helper(n), *(await asyncio.gather(double(3), increase(3)))]

    assert both(parallelize_graph(workflow, engine=engine), 5) == [[10, 10, 6, 4]] * 2


@ENGINES
def test_interrupt_and_previous(engine: Any) -> None:
    calls = []

    @task
    def work(n: int) -> int:
        calls.append(n)
        return n + 1

    @entrypoint(checkpointer=InMemorySaver())
    def workflow(n: int, *, previous: Any = None) -> Any:
        worked = work(n).result()
        return [worked, interrupt("?"), previous]

    graph = parallelize_graph(workflow, engine=engine)
    config: Any = {"configurable": {"thread_id": "1"}}
    graph.invoke(1, config)
    assert graph.invoke(Command(resume="yes"), config) == [2, "yes", None]
    assert calls == [1]
    graph.invoke(5, config)
    assert graph.invoke(Command(resume="no"), config) == [6, "no", [2, "yes", None]]


def test_same_events_and_checkpoints_as_stock() -> None:
    """Of a workflow with tasks, an interrupt and a memory, over three runs."""

    def build() -> Any:
        @task
        def work(n: int) -> int:
            get_stream_writer()({"working on": n})
            return n + 1

        @entrypoint(checkpointer=InMemorySaver())
        def workflow(n: int, *, previous: Any = None) -> Any:
            return [work(n).result(), interrupt("?"), work(10 * n).result(), previous]

        return workflow

    stream = {"stream_mode": ["updates", "custom", "values"]}
    seen = assert_same(build, [1, Command(resume="yes"), 2], stream=stream)
    assert any("[2, 'yes', 11, None]" in event for event in seen.events[1])


def test_timeout_of_a_sync_task() -> None:
    """Legal with async_node, and raised where the task waits."""
    pytest.importorskip("langgraph.errors", reason="").__dict__.get("NodeTimeoutError") or pytest.skip("LangGraph 1.2")
    cancelled = threading.Event()  # LangGraph does not wait for what it cancels

    async def wait() -> None:
        with skipping(asyncio.get_running_loop(), 51):
            await asyncio.Event().wait()

    @task(timeout=50)
    @async_node
    def hang() -> None:
        try:
            await_(wait())
        except asyncio.CancelledError:
            cancelled.set()
            raise

    @entrypoint()
    def workflow(n: int) -> Any:
        return type(hang().exception()).__name__

    assert parallelize_graph(workflow).invoke(1) == "NodeTimeoutError"
    assert cancelled.wait(60)


class State(TypedDict, total=False):
    n: int


def increase(state: State) -> Any:
    """Docstring."""
    return {"n": state["n"] + 1}


def test_async_node_in_a_stock_graph() -> None:
    node = async_node(increase)
    assert asyncio.iscoroutinefunction(node)
    assert (node.__name__, node.__doc__) == ("increase", "Docstring.")
    graph = StateGraph(State).add_node(node).add_edge(START, "increase").compile()
    assert asyncio.run(graph.ainvoke({"n": 1})) == {"n": 2}


@ENGINES
def test_async_node_in_a_converted_graph(engine: Any) -> None:
    graph = StateGraph(State).add_node(async_node(engine=engine)(increase)).add_edge(START, "increase")
    assert both(parallelize_graph(graph).compile(), {"n": 1}) == [{"n": 2}] * 2


def test_refusals() -> None:
    def generator(state: State) -> Any:
        yield {}

    with pytest.raises(DecorationError, match="not a plain function"):
        async_node(generator)
    with pytest.raises(UnknownEngineError):
        async_node(increase, engine="fast")  # type: ignore[call-overload]
    with pytest.raises(DecorationError, match="neither a StateGraph nor a compiled graph"):
        parallelize_graph(increase)  # type: ignore[type-var]
    with pytest.raises(UnknownEngineError):
        parallelize_graph(StateGraph(State), nodes={"increase": "fast"})  # type: ignore[dict-item]


class Module(dspy.Module):
    def forward(self, state: Any) -> Any:
        raise AssertionError("the sync side was called")

    async def aforward(self, state: Any) -> Any:
        await asyncio.sleep(0)
        return {"n": state["n"] + 1}


@ENGINES
def test_async_node_of_a_module_and_a_partial(engine: Any) -> None:
    """Under the names that LangGraph would give them; a module by its own async side."""

    def add(m: int, state: State) -> Any:
        return {"n": state["n"] + m}

    nodes = [async_node(Module(), engine=engine), async_node(functools.partial(add, 2), engine=engine)]
    assert [node.__name__ for node in nodes] == ["Module", "add"]  # type: ignore[attr-defined]
    builder = StateGraph(State).add_node(nodes[0]).add_node(nodes[1]).add_edge(START, "Module")
    builder.add_edge("Module", "add")
    assert asyncio.run(builder.compile().ainvoke({"n": 1})) == {"n": 4}
    assert both(parallelize_graph(builder).compile(), {"n": 1}) == [{"n": 4}] * 2


def test_async_node_as_an_entrypoint() -> None:
    @entrypoint()
    @async_node
    def workflow(n: int) -> Any:
        return await_(asyncio.sleep(0, n + 1)), in_bridge()

    assert asyncio.run(workflow.ainvoke(1)) == (2, True)
    assert both(parallelize_graph(workflow), 1) == [(2, True)] * 2


def test_names_of_nodes_that_do_not_exist() -> None:
    def builder() -> Any:
        return StateGraph(State).add_node(increase).add_edge(START, "increase")

    choices: Any = {"increese": "thread", "__start__": "loop"}
    with pytest.raises(TargetError, match=r"names 'increese', which .* not have. It has 'increase'\."):
        parallelize_graph(builder().compile(), nodes=choices)
    later = parallelize_graph(builder(), nodes=choices)
    with pytest.raises(TargetError, match="'increese'"):
        later.compile()
    assert later.add_node("increese", increase).compile().invoke({"n": 1}) == {"n": 2}


def test_twice() -> None:
    """The same again changes nothing; something else cannot be had any more."""

    def builder() -> Any:
        return StateGraph(State).add_node(increase).add_edge(START, "increase")

    once = parallelize_graph(builder(), engine="thread")
    for graph in (once, once.compile(), parallelize_graph(builder().compile(), engine="thread")):
        assert parallelize_graph(graph, engine="thread") is graph
        with pytest.raises(DecorationError, match=r"engine='thread'.* and now with engine='loop'"):
            parallelize_graph(graph, engine="loop")
    copied = parallelize_graph(builder()).compile().with_config({"tags": ["copy"]})
    assert parallelize_graph(copied).invoke({"n": 1}) == {"n": 2}


@pytest.mark.parametrize("choice", ["loop", "thread", "leave"])
def test_a_subgraph_runs_on_its_nodes_engine(choice: Any) -> None:
    """And so does a graph that a node calls itself."""
    threads: list[threading.Thread] = []

    def note(state: State) -> Any:
        threads.append(threading.current_thread())

    inner = StateGraph(State).add_node(note).add_edge(START, "note").compile()

    def call(state: State) -> Any:
        inner.invoke(state)

    async def main() -> None:
        for node in (inner, call):
            builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
            engine: Any = "loop" if choice != "loop" else "thread"
            await parallelize_graph(builder, engine=engine, nodes={"node": choice}).compile().ainvoke({"n": 1})
        here = threading.current_thread()
        assert [thread is here for thread in threads] == [choice == "loop"] * 2
        assert all(thread is here or thread.name.startswith("dspy-parallel") for thread in threads)

    asyncio.run(main())


@ENGINES
def test_batches_of_a_graph_that_a_node_calls(engine: Any) -> None:
    """Its saver has no async side, which a graph that was not converted would ask for in tasks of its own."""
    sqlite = pytest.importorskip("langgraph.checkpoint.sqlite")
    given: Any = [{"n": 1}, {"n": 2}], [{"configurable": {"thread_id": str(n)}} for n in range(2)]

    def batch(state: State) -> Any:
        assert [after["n"] for after in inner.batch(*given)] == [2, 3]
        return {"n": sum(after["n"] for _, after in inner.batch_as_completed(*given))}

    async def abatch(state: State) -> Any:
        assert [after["n"] for after in await inner.abatch(*given)] == [2, 3]
        return {"n": sum([after["n"] async for _, after in inner.abatch_as_completed(*given)])}

    for node in (batch, abatch):
        with sqlite.SqliteSaver.from_conn_string(":memory:") as saver:
            inner = StateGraph(State).add_node(increase).add_edge(START, "increase").compile(checkpointer=saver)
            builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
            assert parallelize_graph(builder, engine=engine).compile().invoke({"n": 0}) == {"n": 5}


def test_engine_for_each_node() -> None:
    threads: dict[str, Any] = {}

    def note(name: str) -> Any:
        def node(state: State) -> Any:
            threads[name] = threading.current_thread()

        return node

    builder = StateGraph(State)
    for name in ("loop", "thread", "leave", "later"):
        builder.add_node(name, note(name))
        builder.add_edge(START, name)
    parallelize_graph(builder, engine="loop", nodes={"thread": "thread", "leave": "leave"})
    graph = builder.compile()

    async def main() -> None:
        await graph.ainvoke({"n": 1})
        assert threads["loop"] is threads["later"] is threading.current_thread()
        assert threads["thread"].name.startswith("dspy-parallel")
        assert threads["leave"].name.startswith("dspy-parallel")  # though not in the bridge

    asyncio.run(main())
