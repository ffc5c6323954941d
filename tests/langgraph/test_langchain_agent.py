"""Agents of LangChain's, with DSPy in their tools, through `parallelize_graph()`."""

from __future__ import annotations

import asyncio
import importlib

import dspy
import pytest

from dspy_parallel.langgraph import parallelize_graph
from dspy_parallel.testing import LMServer

pytest.importorskip("langchain.agents", reason="LangChain 1 has `create_agent`")

AGENTS = 4


@pytest.mark.parametrize("calling", ["ainvoke", "invoke"])
def test_agents_and_their_tools_wait_together_and_say_the_same(lm_server: LMServer, calling: str) -> None:
    """Nobody is answered before all tool calls of all agents (of one agent, for sync callers) are in flight."""
    example = importlib.import_module("examples.langchain_agent.__main__")
    agent = example.create_agent(example.ChatModel(), [example.describe])

    def said(agent, count):
        if calling == "ainvoke":
            return asyncio.run(example.answers(agent, count))
        return [[each.text for each in agent.invoke({"messages": [("user", "Trip 0?")]})["messages"]]]

    count = AGENTS if calling == "ainvoke" else 1
    with dspy.context(lm=dspy.LM("openai/any", cache=False, **lm_server.lm_kwargs())):
        stock = said(agent, count)
        lm_server.configure(gate=count * len(example.CITIES))
        assert said(parallelize_graph(agent), count) == stock
    assert all(len(messages) == 3 + len(example.CITIES) for messages in stock)
    assert lm_server.stats().peak_in_flight >= count * len(example.CITIES)
