"""`@entrypoint`, `@task` and `async_node`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from dspy_parallel import DecorationError, UnknownEngineError, await_
from dspy_parallel.langgraph import async_node, parallelize_graph
from tests.langgraph.comparing import assert_same

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
            await asyncio.wait_for(everybody.wait(), 10)
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

    @task(timeout=0.05)
    @async_node
    def hang() -> None:
        try:
            await_(asyncio.sleep(60))
        except asyncio.CancelledError:
            cancelled.set()
            raise

    @entrypoint()
    def workflow(n: int) -> Any:
        return type(hang().exception()).__name__

    assert parallelize_graph(workflow).invoke(1) == "NodeTimeoutError"
    assert cancelled.wait(10)


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
