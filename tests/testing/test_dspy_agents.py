"""DSPy's agents and code-writing modules come to an end, in a known number of requests."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest

from dspy_parallel.testing import LMServer
from tests.testing.dspy_world import ENGINES, make_adapter, make_lm, need_litellm_tools

ADAPTERS = ("ChatAdapter", "JSONAdapter", "XMLAdapter")


def search(query: str, top: int = 3) -> list[str]:
    """Search the web."""
    return [query.upper()] * top


def add(left: int, right: int) -> int:
    """Add two numbers."""
    return left + right


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def lm(engine: str | None, server: LMServer) -> Any:
    return make_lm(server, engine)


@pytest.mark.parametrize(("adapter", "way"), list(zip(ADAPTERS, ("call", "acall", "call"), strict=True)))
def test_react(server: LMServer, lm: Any, adapter: str, way: str) -> None:
    """One call of the first tool, with arguments that it takes, then finish, then the answer."""
    agent = dspy.ReAct("question -> answer: int", tools=[search, add])
    with dspy.context(lm=lm, adapter=make_adapter(adapter)):
        ask = agent(question="Why?") if way == "call" else asyncio.run(agent.acall(question="Why?"))
    assert ask.trajectory["tool_name_0"] == "search"
    assert ask.trajectory["observation_0"] == [ask.trajectory["tool_args_0"]["query"].upper()] * 3
    assert ask.trajectory["tool_name_1"] == "finish"
    assert isinstance(ask.answer, int)
    assert server.stats().requests == 3


def test_tool_calls_field(server: LMServer, engine: str | None, lm: Any) -> None:
    """A signature with tools and `ToolCalls`, by native function calling."""
    need_litellm_tools(engine)
    fields = {
        "question": (str, dspy.InputField()),
        "tools": (list[dspy.Tool], dspy.InputField()),
        "outputs": (dspy.ToolCalls, dspy.OutputField()),
    }
    adapter = make_adapter("ChatAdapter", use_native_function_calling=True)
    with dspy.context(lm=lm.copy(model="openai/gpt-4o-mini"), adapter=adapter):
        prediction = dspy.Predict(dspy.Signature(fields, "Act."))(question="Why?", tools=[dspy.Tool(search)])
    assert server.stats().requests == 1
    (call,) = prediction.outputs.tool_calls
    assert call.name == "search"
    assert isinstance(call.args["query"], str)


@pytest.mark.parametrize("module", ["BestOfN", "Refine"])
def test_best_of_n_and_refine(server: LMServer, lm: Any, module: str) -> None:
    """A reward that is never reached makes them use up their attempts, and Refine its feedback."""
    program = getattr(dspy, module)(
        dspy.ChainOfThought("question -> answer"), N=3, reward_fn=lambda _, __: 0.5, threshold=1.0
    )
    with dspy.context(lm=lm, adapter=make_adapter("ChatAdapter")):
        assert program(question="Why?").answer
    assert server.stats().requests == (3 if module == "BestOfN" else 5)
