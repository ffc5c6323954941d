"""One graph, built in several ways: sync nodes, async nodes that call sync DSPy, in a row, and parallelised."""

from __future__ import annotations

import operator
from typing import Annotated, Any

from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from dspy_parallel.langgraph import parallelize_graph

from ..level_agent.agent import LevelAgent, Question
from ..level_agent.models import GPT_OSS_120B, QWEN3_235B, litellm_lm

__all__ = ["VARIANTS", "AgentState", "extraction_graphs", "many_questions", "one_question"]


class AgentState(TypedDict, total=False):
    """A question, what the extractors found, and the query."""

    question: Question
    time: Any
    nontime: Any
    vector: Any
    query: Any


def one_question(agent: LevelAgent, *, is_async: bool = False, in_a_row: bool = False) -> StateGraph[Any]:
    """Three extraction nodes, and a node that merges.

    Args:
        agent: Whose extractors are called.
        is_async: Whether the nodes are `async def`; they call the same sync extractors.
        in_a_row: Whether they come one after the other, not side by side.
    """
    builder, names = StateGraph(AgentState), ["time", "nontime", "vector"]
    for position, name in enumerate(names):

        def node(state: AgentState, name: str = name, position: int = position) -> dict[str, Any]:
            inputs = agent._inputs(state["question"])[position]
            return {name: getattr(agent, name)(**inputs)}

        async def async_node(state: AgentState, node: Any = node) -> dict[str, Any]:
            return node(state)  # the LM call blocks the event loop

        builder.add_node(name, async_node if is_async else node)
        builder.add_edge(names[position - 1] if in_a_row and position else START, name)
    builder.add_node("merge", lambda state: {"query": _merged(agent, state)})
    return builder.add_edge(names[-1] if in_a_row else names, "merge")


def _merged(agent: LevelAgent, state: AgentState) -> Any:
    return agent._merge(state["question"], state["time"], state["nontime"], state["vector"])


def extraction_graphs() -> dict[str, Any]:
    """The agent with its models: async nodes that call sync DSPy, so that they run in a row; and sync ones in a row."""
    models = (f"openrouter/qwen/{QWEN3_235B}", f"openrouter/openai/{GPT_OSS_120B}")
    agent = LevelAgent(*map(litellm_lm, models))
    return {
        "side by side": one_question(agent, is_async=True).compile(),
        "in a row": one_question(agent, in_a_row=True).compile(),
    }


class ManyState(TypedDict, total=False):
    """Many questions at once."""

    questions: list[Question]
    found: Annotated[list[Any], operator.add]


def many_questions(agent: LevelAgent, *, is_async: bool) -> StateGraph[Any]:
    """The time extractor on every question, by `Send`: where the thread pool of (a) comes to its end."""

    def extract(state: dict[str, Any]) -> dict[str, Any]:
        return {"found": [agent.time(**agent._inputs(state["question"])[0])]}

    async def extract_async(state: dict[str, Any]) -> dict[str, Any]:
        return extract(state)

    def fan_out(state: ManyState) -> list[Send]:
        return [Send("extract", {"question": question}) for question in state["questions"]]

    builder = StateGraph(ManyState).add_node("extract", extract_async if is_async else extract)
    return builder.add_conditional_edges(START, fan_out, ["extract"])


def _stock(build: Any, agent: LevelAgent, *, is_async: bool) -> Any:
    return build(agent, is_async=is_async).compile()


def _parallelized(build: Any, agent: LevelAgent, *, is_async: bool) -> Any:
    return parallelize_graph(build(agent, is_async=is_async)).compile()


VARIANTS: dict[str, Any] = {
    "(a) sync nodes": lambda build, agent: _stock(build, agent, is_async=False),
    "(b) async nodes that call sync DSPy": lambda build, agent: _stock(build, agent, is_async=True),
    "(c) sync nodes, parallelize_graph": lambda build, agent: _parallelized(build, agent, is_async=False),
    "(c) async nodes, parallelize_graph": lambda build, agent: _parallelized(build, agent, is_async=True),
}
