"""Streams of tokens and events, stock and parallelised, and the batch methods."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, StateGraph

from dspy_parallel.langgraph import parallelize_graph
from tests.langgraph.comparing import assert_same, plain
from tests.langgraph.test_same_behaviour import State, chain, log

model: Any = FakeListChatModel(responses=["hello world"])


def ask(state: State) -> Any:
    return log(model.invoke("hi").content)


async def ask_async(state: State) -> Any:
    return log((await model.ainvoke("hi")).content)


def test_messages() -> None:
    """Tokens as they come, with their metadata, from the graph and from a subgraph."""

    def build() -> StateGraph[Any]:
        return chain(ask, chain(ask).compile())

    stream = {"stream_mode": ["messages", "updates"], "subgraphs": True}
    seen = assert_same(build, [{"n": 0}], stream=stream)
    assert sum("AIMessageChunk(content='w'" in event for event in seen.events[0]) == 2
    for mode in ("messages", "debug", "tasks", "checkpoints"):
        assert_same(build, [{"n": 0}], stream={"stream_mode": mode})


@pytest.mark.skipif(sys.version_info < (3, 11), reason="stock async nodes do not trace what they call there; ours do")
@pytest.mark.parametrize("node", [ask, ask_async])
def test_astream_events(node: Any) -> None:
    """Every run that LangChain traces: kind, name, tags, metadata, parents, in order."""

    def build() -> StateGraph[Any]:
        named = RunnableLambda(lambda state: log("named")).with_config(run_name="named", tags=["tagged"])
        builder = chain(node, named, chain(lambda s: log("inner")).compile())
        return builder.add_conditional_edges("node2", lambda state: "__end__")

    async def events(graph: Any) -> list[Any]:
        seen = [event async for event in graph.astream_events({"n": 0}, version="v2")]
        begun = list(dict.fromkeys(event["run_id"] for event in seen))
        runs = [(begun.index(e["run_id"]), [begun.index(parent) for parent in e["parent_ids"]]) for e in seen]
        texts = [(e["event"], e["name"], e["tags"], plain(e["metadata"]), plain(e.get("data"))) for e in seen]
        return [*zip(runs, texts, strict=True)]

    async def main() -> None:
        expected = await events(build().compile())
        assert len(expected) > 20
        assert await events(parallelize_graph(build()).compile()) == expected
        assert await events(parallelize_graph(build().compile())) == expected

    asyncio.run(main())


def test_what_callbacks_are_told_runs_are_called() -> None:
    """Also those without a name, as of a lambda that decides where to go."""

    class Names(BaseCallbackHandler):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def on_chain_start(self, *args: Any, name: Any = None, **kwargs: Any) -> None:
            self.seen.append(name)

    def names(graph: Any) -> list[Any]:
        handler = Names()
        graph.invoke({"n": 0}, {"callbacks": [handler]})
        return handler.seen

    def build() -> StateGraph[Any]:
        return chain(lambda state: log("node")).add_conditional_edges("node0", lambda state: "__end__")

    expected = names(build().compile())
    assert len(expected) == 3
    assert names(parallelize_graph(build()).compile()) == expected


def test_batches() -> None:
    def node(state: State) -> Any:
        if state["n"] == 1:
            raise ValueError("one")
        return log(state["n"])

    graph = parallelize_graph(StateGraph(State).add_node(node).add_edge(START, "node")).compile()
    given = [{"n": n} for n in range(3)]

    def check(results: list[Any]) -> None:
        assert [plain(result) for result in results] == [
            "{'log': [0], 'n': 0}",
            "ValueError('one')",
            "{'log': [2], 'n': 2}",
        ]

    async def main() -> None:
        check(await graph.abatch(given, return_exceptions=True))
        pairs = [pair async for pair in graph.abatch_as_completed(given, return_exceptions=True)]
        check([result for _, result in sorted(pairs, key=lambda pair: pair[0])])

    check(graph.batch(given, return_exceptions=True))
    pairs = graph.batch_as_completed(given, return_exceptions=True)
    check([result for _, result in sorted(pairs, key=lambda pair: pair[0])])
    asyncio.run(main())
    with pytest.raises(ValueError, match="one"):
        graph.batch(given)
