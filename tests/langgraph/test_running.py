"""Where graphs can be run from, how many nodes run at once, and what stops them."""

from __future__ import annotations

import asyncio
import contextvars
import operator
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import dspy
import pytest
from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from dspy_parallel import async_module, await_, in_bridge, loop_safe
from dspy_parallel.langgraph import parallelize_graph
from dspy_parallel.testing import LMServer
from tests.seams.programs import VERSION
from tests.support.skipped_time import running_loop, skipping

ENGINES: Any = pytest.mark.parametrize("engine", ["auto", "loop", "thread"])


class State(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]
    n: int


class Log(TypedDict):
    log: list[Any]


def single(node: Any, engine: Any = "auto", **options: Any) -> Any:
    builder = StateGraph(State).add_node("node", node, **options).add_edge(START, "node")
    return parallelize_graph(builder, engine=engine).compile()


def fan_out(node: Any, width: int, engine: Any = "auto") -> Any:
    builder = StateGraph(State).add_node("node", node)
    builder.add_conditional_edges(START, lambda state: [Send("node", {"n": n}) for n in range(width)], ["node"])
    return parallelize_graph(builder, engine=engine).compile()


@pytest.fixture(scope="module")
def server() -> Any:
    with LMServer(latency=0.05) as server:
        yield server


@pytest.fixture
def lm(server: Any) -> Any:
    server.restore()
    server.reset_stats()
    with dspy.context(lm=dspy.LM("openai/model", api_base=server.api_base, api_key="none", cache=False)):
        yield server


class Question(dspy.Signature):  # not "question -> answer": Python's parser fails now and then if threads parse at once
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


def answer(state: State) -> Any:
    return {"log": [dspy.Predict(Question)(question=str(state["n"])).answer]}


async def answer_async(state: State) -> Any:
    return answer(state)


class Answer(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, state: State) -> Any:
        return {"log": [self.predict(question=str(state["n"])).answer]}


class AsyncAnswer(Answer):
    async def aforward(self, state: State) -> Any:
        return {"log": [(await self.predict.acall(question=str(state["n"]))).answer]}


@ENGINES
@pytest.mark.parametrize(
    "node", [answer, answer_async, Answer(), AsyncAnswer()], ids=["sync", "async", "module", "aforward"]
)
def test_all_calls_are_in_flight_at_once(lm: Any, node: Any, engine: Any) -> None:
    """The server answers nobody before forty requests have come in."""
    width = 40
    graph = fan_out(node, width, engine)
    lm.configure(gate=width)
    graph.invoke({"n": 0})
    assert lm.stats().peak_in_flight == width
    lm.reset_stats()
    lm.configure(gate=width)
    asyncio.run(graph.ainvoke({"n": 0}))
    assert lm.stats().peak_in_flight == width


@ENGINES
def test_max_concurrency(lm: Any, engine: Any) -> None:
    graph = fan_out(answer, 12, engine)
    graph.invoke({"n": 0}, {"max_concurrency": 3})
    assert lm.stats().peak_in_flight == 3
    lm.reset_stats()
    asyncio.run(graph.ainvoke({"n": 0}, {"max_concurrency": 2}))
    assert lm.stats().peak_in_flight == 2


@ENGINES
def test_conditional_edges_may_ask_an_lm(lm: Any, engine: Any) -> None:
    """Path functions wait on the loop, too, all of them at once."""
    width = 20

    def path(state: State) -> Any:
        return "yes" if answer(state)["log"] else "no"

    builder = StateGraph(State).add_node("node", lambda state: {"log": []}).add_node("yes", lambda state: {"log": [1]})
    builder.add_node("no", lambda state: {"log": [0]}).add_conditional_edges("node", path, ["yes", "no"])
    builder.add_conditional_edges(START, lambda state: [Send("node", {"n": n}) for n in range(width)], ["node"])
    lm.configure(gate=width)
    result = parallelize_graph(builder, engine=engine).compile().invoke({"n": 0})
    assert result["log"] == [1]
    assert lm.stats().peak_in_flight == width


@ENGINES
def test_from_a_running_loop_a_thread_and_a_node(engine: Any) -> None:
    def node(state: State) -> Any:
        await_(asyncio.sleep(0))
        return {"log": ["inner"]}

    inner = single(node, engine)

    def calling(state: State) -> Any:
        streamed = list(inner.stream({"n": 1}, stream_mode="updates"))
        return {"log": [inner.invoke({"n": 1})["log"], inner.batch([{"n": 1}] * 3)[2]["log"], len(streamed)]}

    outer = single(calling, engine)
    expected = [["inner"], ["inner"], 1]

    async def main() -> None:
        assert outer.invoke({"n": 0})["log"] == expected
        assert (await outer.ainvoke({"n": 0}))["log"] == expected
        assert (await asyncio.to_thread(outer.invoke, {"n": 0}))["log"] == expected

    asyncio.run(main())
    assert outer.invoke({"n": 0})["log"] == expected


@ENGINES
def test_cancelling_closes_the_requests(lm: Any, engine: Any) -> None:
    went_on = []

    def node(state: State) -> Any:
        answer(state)
        went_on.append(state["n"])
        return answer(state)

    lm.configure(latency=60)
    graph = fan_out(node, 5, engine)

    async def main() -> None:
        running = asyncio.ensure_future(graph.ainvoke({"n": 0}))
        await lm.await_for(in_flight=5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await lm.await_for(in_flight=0)

    asyncio.run(main())
    assert lm.stats().disconnects == 5
    # Neither DSPy nor the nodes have tried again.
    lm.configure(latency=0.05)
    asyncio.run(single(answer).ainvoke({"n": 0}))
    assert lm.stats().requests == 6
    assert not went_on


@ENGINES
def test_node_timeout(lm: Any, engine: Any) -> None:
    errors = pytest.importorskip("langgraph.errors")
    if not hasattr(errors, "NodeTimeoutError"):
        pytest.skip("timeouts came with LangGraph 1.2")
    lm.configure(hold=True)
    loops: list[asyncio.AbstractEventLoop] = []

    def node(state: State) -> Any:
        loops.append(await_(running_loop()))
        return answer(state)

    graph = single(node, engine, timeout=50)
    with ThreadPoolExecutor(1) as threads, dspy.context(lm=dspy.settings.lm):
        running = threads.submit(contextvars.copy_context().run, graph.invoke, {"n": 0})
        lm.wait_for(held=1)
        with skipping(loops[0], 51), pytest.raises(errors.NodeTimeoutError):
            running.result()
    lm.wait_for(in_flight=0)
    assert lm.stats().disconnects == 1


@ENGINES
def test_closing_a_stream_early_stops_the_nodes(lm: Any, engine: Any) -> None:
    """An async one; in a sync one, nodes that have begun run to their end, as in stock."""
    lm.configure(latency=60)
    builder = StateGraph(State).add_node("quick", lambda state: {"log": [1]}).add_node("slow", answer)
    graph = parallelize_graph(builder.add_edge(START, "quick").add_edge(START, "slow"), engine=engine).compile()

    async def main() -> None:
        stream = graph.astream({"n": 0}, stream_mode="updates")
        assert await anext(stream) == {"quick": {"log": [1]}}
        await lm.await_for(in_flight=1)
        await stream.aclose()

    asyncio.run(main())
    lm.wait_for(in_flight=0)
    lm.configure(latency=0.05)


def test_streams_are_lazy() -> None:
    ran = []
    graph = single(lambda state: ran.append(1))
    stream = graph.stream({"n": 0})
    assert not ran
    list(stream)
    assert ran == [1]


def test_blocking_nodes_run_in_threads_in_the_first_run() -> None:
    """All of a blocking fan-out at once, more than LangGraph has threads: a barrier lets nobody through before."""
    barrier = threading.Barrier(50, timeout=60)

    def node(state: State) -> Any:
        barrier.wait()
        return {"log": [state["n"]]}

    graph = fan_out(node, 50)
    assert len(graph.invoke({"n": 0})["log"]) == 50


def test_nodes_that_are_left_have_threads_of_their_own() -> None:
    """As many as there are, outside the bridge, in the caller's context; LangGraph's few are needed by `LM.acall`."""
    width = 50
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    barrier = threading.Barrier(width, timeout=60)

    def node(state: State) -> Any:
        barrier.wait()
        return {"log": [(variable.get(), in_bridge())]}

    class Sync(Runnable[Any, Any]):
        def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
            return node(input)

    def path(state: State) -> Any:
        node(state)
        return "__end__"

    def fan_out(name: str) -> Any:
        return lambda state: [Send(name, {"n": n}) for n in range(width)]

    left: Any = {"node": "leave"}
    for kind in (node, RunnableLambda(node), RunnableLambda(lambda state: state) | RunnableLambda(node), Sync()):
        builder = StateGraph(State).add_node("node", kind).add_conditional_edges(START, fan_out("node"), ["node"])
        inner = StateGraph(State, output_schema=Log).add_node("inner", kind).add_edge(START, "inner").compile()
        outer = StateGraph(State).add_node("node", inner).add_conditional_edges(START, fan_out("node"), ["node"])
        variable.set("set")
        for graph in (parallelize_graph(builder, nodes=left), parallelize_graph(outer, nodes=left)):
            assert graph.compile().invoke({"n": 0})["log"] == [("set", False)] * width
            assert asyncio.run(graph.compile().ainvoke({"n": 0}))["log"] == [("set", False)] * width
    builder = StateGraph(State).add_node("node", lambda state: {"log": [0]}).add_conditional_edges("node", path)
    builder.add_conditional_edges(START, fan_out("node"), ["node"])
    assert parallelize_graph(builder, nodes=left).compile().invoke({"n": 0})["log"] == [0] * width


def test_left_nodes_that_call_a_graph_do_not_keep_it_from_its_lm(lm: Any) -> None:
    """The LM calls of the inner graph hop through the default executor, which nobody may fill."""
    inner = single(answer)

    def node(state: State) -> Any:
        return {"log": inner.invoke({"n": state["n"]})["log"]}

    builder = StateGraph(State).add_node("node", node)
    builder.add_conditional_edges(START, lambda state: [Send("node", {"n": n}) for n in range(40)], ["node"])
    lm.configure(gate=40)
    parallelize_graph(builder, nodes={"node": "leave"}).compile().invoke({"n": 0})
    assert lm.stats().peak_in_flight == 40


def test_callers_in_several_threads_do_not_wait_for_each_other() -> None:
    """They share one loop, but not for nodes that block: all four must be in theirs at once."""
    barrier = threading.Barrier(4, timeout=60)

    def node(state: State) -> Any:
        barrier.wait()
        return {"log": [state["n"]]}

    graph = single(node)
    with ThreadPoolExecutor(4) as threads:
        for _ in range(3):
            results = threads.map(lambda n: graph.invoke({"n": n})["log"], range(4))
            assert list(results) == [[0], [1], [2], [3]]


@loop_safe
def look_up(key: str) -> str:
    """Look something up."""
    return key.upper()


def think(state: State) -> Any:
    return {"log": [dspy.ChainOfThought("question -> answer")(question=str(state["n"])).answer]}


def react(state: State) -> Any:
    trajectory = dspy.ReAct("question -> answer", tools=[look_up], max_iters=2)(question="?").trajectory
    assert trajectory["tool_name_0"] == "look_up"
    return {"log": [trajectory["observation_0"]]}


def cached(state: State) -> Any:
    with dspy.context(lm=dspy.settings.lm.copy(cache=True)):
        return answer(state)


@pytest.mark.parametrize(
    "node",
    [answer, answer_async, Answer(), think, react, cached],
    ids=["sync", "async", "module", "ChainOfThought", "ReAct", "cached"],
)
def test_blockbuster(lm: Any, node: Any) -> None:
    """What `langgraph dev` looks for: nothing in these nodes blocks the event loop."""
    blockbuster = pytest.importorskip("blockbuster")
    if node is cached and VERSION < (3, 4):
        pytest.skip("DSPy looked into its cache on the event loop")
    # The strict engine: by the usual one, the first runs of a sync node would be in threads, where nothing is found.
    graph = single(node, "loop")

    async def main() -> None:
        expected = await graph.ainvoke({"n": 0})  # imports
        with blockbuster.blockbuster_ctx():
            assert await graph.ainvoke({"n": 0}) == expected
            assert await graph.ainvoke({"n": 1})

    asyncio.run(main())
    if node is cached:
        assert lm.stats().requests == 2


def test_blockbuster_finds_a_node_that_blocks(tmp_path: Path) -> None:
    """On the loop, which is asked for here, its error leads to the line. In threads, where such nodes stay, none is."""
    blockbuster = pytest.importorskip("blockbuster")
    path = tmp_path / "file"
    path.write_text("text")

    def node(state: State) -> Any:
        with open(path) as file:
            return {"log": [file.read()]}

    async def main() -> None:
        assert (await single(node).ainvoke({"n": 0}))["log"] == ["text"]  # imports
        with blockbuster.blockbuster_ctx():
            assert (await single(node, "thread").ainvoke({"n": 0}))["log"] == ["text"]
            with pytest.raises(blockbuster.BlockingError) as raised:
                await single(node, "loop").ainvoke({"n": 0})
        assert any(str(entry.path) == __file__ and entry.name == "node" for entry in raised.traceback)

    asyncio.run(main())


class Decorated(Answer):
    """Has its bridge already, which must not be run inside another one."""


async_module(Decorated)


@ENGINES
def test_decorated_module(lm: Any, engine: Any) -> None:
    graph = fan_out(Decorated(), 12, engine)
    lm.configure(gate=12)
    assert len(graph.invoke({"n": 0})["log"]) == 12
    assert lm.stats().peak_in_flight == 12
