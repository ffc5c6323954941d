"""LangGraph's nodes and steps, in stock and in converted graphs."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated

import dspy
import pytest
from dspy.utils import DummyLM

from dspy_parallel import record

pytest.importorskip("langgraph")

import httpx
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from dspy_parallel.langgraph import parallelize_graph


class State(TypedDict):
    answers: Annotated[list[str], operator.add]


class Ask(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.ask(question=question)


PROGRAM = Ask()


def one(state):
    return {"answers": [PROGRAM(question="one").answer]}


def many(state):
    return {"answers": [PROGRAM(question=str(state)).answer]}


def fan_out(state):
    return [Send("many", number) for number in range(3)]


def build(converted):
    builder = StateGraph(State).add_node("one", one).add_node("many", many).add_edge(START, "one")
    builder.add_conditional_edges("one", fan_out, ["many"])
    return (parallelize_graph(builder) if converted else builder).compile()


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream"])
@pytest.mark.parametrize("converted", [False, True])
def test_nodes_and_steps_hold_what_runs_in_them(converted, how):
    graph = build(converted)
    with dspy.context(lm=DummyLM([{"answer": "yes"}] * 9)), record() as timeline:
        if how == "ainvoke":
            result = asyncio.run(graph.ainvoke({"answers": []}))
            assert result == {"answers": ["yes"] * 4}
        elif how == "invoke":
            assert graph.invoke({"answers": []}) == {"answers": ["yes"] * 4}
        else:
            assert len(list(graph.stream({"answers": []}))) == 4
    spans = timeline.spans

    def above(span, kind):
        while span.kind != kind:
            assert span.parent is not None, f"no {kind} around it"
            span = spans[span.parent]
        return span

    calls = timeline.lm_calls
    assert [above(call, "node").name for call in calls] == ["one", "many", "many", "many"]
    assert len({above(call, "node").id for call in calls}) == 4
    assert [above(call, "node").facts["step"] for call in calls] == [1, 2, 2, 2]
    assert len({above(call, "graph").id for call in calls}) == 1


@pytest.mark.parametrize("converted", [False, True])
def test_turns_of_one_task_stand_beside_each_other(converted):
    graph = build(converted)

    async def converse():
        for _ in range(3):
            await graph.ainvoke({"answers": []})

    with dspy.context(lm=DummyLM([{"answer": "yes"}] * 12)), record() as timeline:
        asyncio.run(converse())
    turns = [span for span in timeline.spans if span.kind == "graph"]
    assert [turn.parent for turn in turns] == [None] * 3
    assert {turn.id for turn in turns} <= {segment.span for segment in timeline.critical_path}


def test_subgraphs_are_graphs_in_nodes():
    inner = StateGraph(State).add_node("deep", one).add_edge(START, "deep").compile()
    outer = StateGraph(State).add_node("sub", inner).add_edge(START, "sub").compile()
    with dspy.context(lm=DummyLM([{"answer": "yes"}] * 9)), record() as timeline:
        outer.invoke({"answers": []})
    spans = timeline.spans
    span, names = timeline.lm_calls[0], []
    while span is not None:
        names.append((span.kind, span.name))
        span = None if span.parent is None else spans[span.parent]
    kinds = [kind for kind, _ in reversed(names)]
    assert kinds == ["graph", "node", "graph", "node", "module", "predictor", "lm"]


def test_a_stream_that_is_left_leaves_nothing_behind():
    graph = build(False)
    with dspy.context(lm=DummyLM([{"answer": "yes"}] * 9)), record() as timeline:
        for _ in graph.stream({"answers": []}):
            break
        PROGRAM(question="outside")
    last = [span for span in timeline.spans if span.kind == "module"][-1]
    assert last.parent is None


class Served(BaseChatModel):
    """A model of LangChain's that asks over HTTP, as those of providers do."""

    url: str

    @property
    def _llm_type(self):
        return "served"

    def _get_ls_params(self, stop=None, **kwargs):
        return {"ls_model_name": "small"}

    def _result(self, response):
        answer = response.json()["choices"][0]["message"]["content"]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(answer))])

    def _body(self, messages):
        return {"model": "any", "messages": [{"role": "user", "content": m.content} for m in messages]}

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        with httpx.Client() as client:
            return self._result(client.post(f"{self.url}/chat/completions", json=self._body(messages)))

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        async with httpx.AsyncClient() as client:
            return self._result(await client.post(f"{self.url}/chat/completions", json=self._body(messages)))


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "converted"])
def test_a_model_of_langchains_is_an_lm_call_with_its_waits(lm_server, how):
    lm_server.configure(latency=0.05)
    model = Served(url=lm_server.api_base)

    def chat(state):
        return {"answers": [model.invoke("?").content]}

    async def achat(state):
        return {"answers": [(await model.ainvoke("?")).content]}

    builder = StateGraph(State).add_node("chat", achat if how == "ainvoke" else chat).add_edge(START, "chat")
    graph = (parallelize_graph(builder) if how == "converted" else builder).compile()
    with record() as timeline:
        result = graph.invoke({"answers": []}) if how == "invoke" else asyncio.run(graph.ainvoke({"answers": []}))
    assert len(result["answers"]) == 1
    (call,) = timeline.lm_calls
    assert (call.name, call.facts) == ("small", {"requests": 1})
    spans = timeline.spans
    (reply,) = [span for span in spans if span.name == "reply"]
    assert reply.parent == call.id
    while spans[call.parent].kind == "thread":
        call = spans[call.parent]
    assert (spans[call.parent].kind, spans[call.parent].name) == ("node", "chat")


@pytest.mark.parametrize("how", ["stream", "astream"])
def test_what_is_called_between_the_pieces_of_a_stream_is_no_part_of_it(how):
    model = FakeListChatModel(responses=["yes"])

    async def astream():
        async for _ in model.astream("?"):
            PROGRAM(question="?")

    with dspy.context(lm=DummyLM([{"answer": "yes"}] * 9)), record() as timeline:
        if how == "astream":
            asyncio.run(astream())
        else:
            for _ in model.stream("?"):
                PROGRAM(question="?")
    assert [span.name for span in timeline.lm_calls] == ["FakeListChatModel", *["dummy"] * 3]
    assert timeline.figures.lm_calls == 4


def test_without_a_recording_there_is_no_handler():
    seen = []

    def node(state, config):
        seen.append([type(h).__name__ for h in getattr(config.get("callbacks"), "handlers", [])])
        return {"answers": []}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
    with record():
        graph.invoke({"answers": []})
    graph.invoke({"answers": []})
    assert seen[0] != []
    assert seen[1] == []
