"""LangGraph with `overlap=True`: graphs of which calls could be made sooner, against the same calls written by hand."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import dspy
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from benchmarks.langgraph_fanout import STOCK, Run, Turn, ainvoking, invoking, measure, show
from benchmarks.workload import documents
from dspy_parallel.langgraph import parallelize_graph
from examples.level_agent.agent import LevelAgent, Question
from examples.level_agent_graph.graphs import one_question

__all__ = ["BY_HAND", "OVERLAPPED", "PARALLEL", "SHAPES", "shape", "tables"]

BY_HAND = "an async function with the same calls"
PARALLEL = "parallelize_graph, ainvoke"
OVERLAPPED = {
    "ainvoke": "parallelize_graph(overlap=True), ainvoke",
    "invoke": "parallelize_graph(overlap=True), invoke",
}
LATENCY = 0.5
WIDTH = 20

_predict = dspy.Predict("question -> summary")


class State(TypedDict, total=False):
    text: str
    texts: list[str]
    a: str
    b: str
    c: str
    found: Annotated[list[str], operator.add]


class Found(TypedDict):
    found: Annotated[list[str], operator.add]


def _a(state: State) -> Any:
    return {"a": _predict(question="a " + state["text"]).summary}


def _b(state: State) -> Any:
    return {"b": _predict(question="b " + state["text"]).summary}


def _c(state: State) -> Any:
    return {"c": _predict(question="c " + state["text"]).summary}


def _b_twice(state: State) -> Any:
    first = _predict(question="b " + state["text"]).summary
    return {"b": _predict(question="again " + first).summary}


def _merge(state: State) -> Any:
    return {"found": [_predict(question=str([state["a"], state["b"], state["c"]])).summary]}


def _after_a(state: State) -> Any:
    return {"b": _predict(question="after " + state["a"]).summary}


def _pair(state: State) -> Any:
    return {"found": [_predict(question=state["a"] + state["b"]).summary]}


def _after_all(state: State) -> Any:
    return {"c": _predict(question=str(state["found"])).summary}


def _to_each(state: State) -> Any:
    return [Send("each", {"text": text, "found": []}) for text in state["texts"]]


def _by_length(state: State) -> str:
    return "_b" if len(state["text"]) > 1 else "_c"


async def _ask(question: str) -> str:
    return str((await _predict.acall(question=question)).summary)


def _row(*nodes: Callable[[State], Any], output: Any = None) -> StateGraph[Any]:
    builder = StateGraph(State, output_schema=output)
    before = START
    for node in nodes:
        builder.add_node(node).add_edge(before, node.__name__)
        before = node.__name__
    return builder


def _branches() -> StateGraph[Any]:
    builder = StateGraph(State).add_node(_a).add_node(_b_twice).add_node(_c_of_a)
    return builder.add_edge(START, "_a").add_edge(START, "_b_twice").add_edge("_a", "_c_of_a")


def _c_of_a(state: State) -> Any:
    return {"c": _predict(question="then " + state["a"]).summary}


def _conditional() -> StateGraph[Any]:
    builder = StateGraph(State).add_node(_a).add_node(_b).add_node(_c).add_edge(START, "_a").add_edge("_b", "_c")
    return builder.add_conditional_edges("_a", _by_length, ["_b", "_c"])


def _map_reduce() -> StateGraph[Any]:
    builder = StateGraph(State).add_node("each", _row(_a, _b, _pair, output=Found).compile()).add_node(_after_all)
    return builder.add_conditional_edges(START, _to_each, ["each"]).add_edge("each", "_after_all")


# The same calls by hand


async def _chain_by_hand(text: str, _: list[str]) -> None:
    found = await asyncio.gather(*(_ask(f"{key} {text}") for key in "abc"))
    await _ask(str([*found]))


async def _branches_by_hand(text: str, _: list[str]) -> None:
    async def row(first: str, then: str) -> None:
        await _ask(f"{then} {await _ask(f'{first} {text}')}")

    await asyncio.gather(row("a", "then"), row("b", "again"))


async def _conditional_by_hand(text: str, _: list[str]) -> None:
    await asyncio.gather(*(_ask(f"{key} {text}") for key in ("abc" if len(text) > 1 else "ac")))


async def _map_reduce_by_hand(_: str, texts: list[str]) -> None:
    async def each(text: str) -> str:
        return await _ask("".join(await asyncio.gather(_ask("a " + text), _ask("b " + text))))

    await _ask(str(await asyncio.gather(*map(each, texts))))


def _question(text: str) -> Question:
    return Question(text, text, "Idea", "2025-12-12T00:00:00Z")


def _agent() -> LevelAgent:
    return LevelAgent(dspy.settings.lm, dspy.settings.lm)


async def _agent_by_hand(text: str, _: list[str]) -> None:
    agent, question = _agent(), _question(text)
    time, nontime, vector = agent._inputs(question)

    async def ask(extractor: Any, inputs: dict[str, Any]) -> Any:
        return await extractor.extractor.acall(**inputs)

    found = (ask(agent.time, time), ask(agent.nontime, nontime), ask(agent.vector, vector))
    agent._merge(question, *await asyncio.gather(*found))


async def _dependent_by_hand(text: str, _: list[str]) -> None:
    await _ask("after " + await _ask("a " + text))


@dataclass(frozen=True)
class Shape:
    """A graph.

    Attributes:
        title: What it is.
        build: Makes it.
        by_hand: Makes the same calls, as soon as their inputs are known.
    """

    title: str
    build: Callable[[], StateGraph[Any]]
    by_hand: Callable[[str, list[str]], Awaitable[None]]


SHAPES = {
    "chain": Shape(
        "a chain of four nodes of which three don't need each other",
        lambda: _row(_a, _b, _c, _merge),
        _chain_by_hand,
    ),
    "branches": Shape("branches of one and of two calls, a node behind the first", _branches, _branches_by_hand),
    "conditional": Shape("a conditional edge on known state", _conditional, _conditional_by_hand),
    "map-reduce": Shape(
        f"{WIDTH} `Send`s to a graph of three nodes, and a node behind", _map_reduce, _map_reduce_by_hand
    ),
    "agent": Shape(
        "an agent of four nodes in a row: three extractors and a merge",
        lambda: one_question(_agent(), in_a_row=True),
        _agent_by_hand,
    ),
    "dependent": Shape(
        "two nodes that need each other: nothing to gain", lambda: _row(_a, _after_a), _dependent_by_hand
    ),
}


async def shape(name: str, lm: Any, rounds: int) -> dict[str, list[tuple[Turn, Turn]]]:
    """One of the graphs.

    Args:
        name: Of `SHAPES`.
        lm: The language model.
        rounds: See `measure()`.
    """
    case = SHAPES[name]
    new = documents(f"overlap-{name}")

    def given() -> Any:
        text = new(1)[0]
        return {"text": text, "texts": new(WIDTH), "found": [], "question": _question(text)}

    async def by_hand() -> None:
        state = given()
        await case.by_hand(state["text"], state["texts"])

    def make() -> dict[str, Run]:
        overlapped = parallelize_graph(case.build(), overlap=True).compile()
        return {
            BY_HAND: by_hand,
            STOCK["ainvoke"]: ainvoking(case.build().compile(), given),
            PARALLEL: ainvoking(parallelize_graph(case.build()).compile(), given),
            OVERLAPPED["ainvoke"]: ainvoking(overlapped, given),
            OVERLAPPED["invoke"]: invoking(overlapped, given),
        }

    with dspy.context(lm=lm.copy(cache=False)):  # merged replies are often the same
        await _predict.acall(question=new(1)[0])
        return await measure(make, rounds)


async def tables(lm: Any, *, quick: bool, progress: Callable[[str], None]) -> None:
    """Measure and print everything.

    Args:
        lm: The language model, whose server should take `LATENCY`.
        quick: Few rounds.
        progress: Is told what is being measured.
    """
    for name, case in SHAPES.items():
        progress(f"langgraph, overlap, {name}")
        turns = await shape(name, lm, 2 if quick else 10)
        show(case.title, turns, BY_HAND)
        # Of what LangGraph's steps take by themselves, nothing can be saved.
        cpu = (f"{name} {min(second.cpu for _, second in pairs) * 1e3:.0f} ms" for name, pairs in turns.items())
        print(f"CPU: {'; '.join(cpu)}.")
