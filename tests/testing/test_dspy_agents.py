"""DSPy's agents and code-writing modules come to an end, in a known number of requests."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest

from dspy_parallel.testing import LMServer
from tests.testing.dspy_world import ENGINES, VERSION, make_adapter, make_lm, need_litellm_tools

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


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("way", ["call", "acall"])
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


def test_react_with_more_rounds(server: LMServer, lm: Any) -> None:
    """`tool_rounds` calls the tools in turn."""
    server.configure(tool_rounds=3)
    agent = dspy.ReAct("question -> answer", tools=[search, add])
    with dspy.context(lm=lm, adapter=make_adapter("ChatAdapter")):
        trajectory = agent(question="Why?").trajectory
    assert [trajectory[f"tool_name_{i}"] for i in range(4)] == ["search", "add", "search", "finish"]
    assert isinstance(trajectory["observation_1"], int)
    assert server.stats().requests == 5


@pytest.mark.skipif(VERSION < (3, 3) or not hasattr(dspy, "ReActV2"), reason="ReActV2 is new")
@pytest.mark.parametrize("native", [True, False])
def test_react_v2(server: LMServer, lm: Any, native: bool) -> None:
    """Tools and `submit` by native function calls, or as text."""
    agent = dspy.ReActV2("question -> answer: int", tools=[search])
    adapter = make_adapter("ChatAdapter", use_native_function_calling=native)
    with dspy.context(lm=lm, adapter=adapter):
        prediction = agent(question="Why?")
    assert isinstance(prediction.answer, int)
    assert prediction.termination_reason == "submit"
    assert server.stats().requests == 2


@pytest.mark.parametrize("native", [True, False])
def test_tool_calls_field(server: LMServer, engine: str | None, lm: Any, native: bool) -> None:
    """A signature with tools and `ToolCalls`, by native function calling or as text."""
    if native:
        need_litellm_tools(engine)
    server.configure(log_bodies=True)
    fields = {
        "question": (str, dspy.InputField()),
        "tools": (list[dspy.Tool], dspy.InputField()),
        "outputs": (dspy.ToolCalls, dspy.OutputField()),
    }
    native_lm = lm.copy(model="openai/gpt-4o-mini") if native else lm
    adapter = make_adapter("ChatAdapter", use_native_function_calling=native)
    with dspy.context(lm=native_lm, adapter=adapter):
        prediction = dspy.Predict(dspy.Signature(fields, "Act."))(question="Why?", tools=[dspy.Tool(search)])
    assert server.stats().requests == 1
    assert ("tools" in server.log()[0].body) == native
    if native:
        (call,) = prediction.outputs.tool_calls
        assert call.name == "search"
        assert isinstance(call.args["query"], str)
    else:
        assert prediction.outputs.tool_calls


@pytest.mark.parametrize("module", ["BestOfN", "Refine"])
def test_best_of_n_and_refine(server: LMServer, lm: Any, module: str) -> None:
    """A reward that is never reached makes them use up their attempts, and Refine its feedback."""
    program = getattr(dspy, module)(
        dspy.ChainOfThought("question -> answer"), N=3, reward_fn=lambda _, __: 0.5, threshold=1.0
    )
    with dspy.context(lm=lm, adapter=make_adapter("ChatAdapter")):
        assert program(question="Why?").answer
    assert server.stats().requests == (3 if module == "BestOfN" else 5)


def test_multi_chain_comparison(server: LMServer, lm: Any) -> None:
    """One request that compares the attempts."""
    attempts = [dspy.Prediction(reasoning="r", answer=str(i)) for i in range(3)]
    with dspy.context(lm=lm, adapter=make_adapter("ChatAdapter")):
        prediction = dspy.MultiChainComparison("question -> answer")(attempts, question="Why?")
    assert prediction.rationale
    assert prediction.answer
    assert server.stats().requests == 1


class LocalPython:
    """An interpreter in this process, in the place of the Deno sandbox, which machines may lack."""

    def __init__(self) -> None:
        self.tools: dict[str, Any] = {}
        self.final: Any = None
        self.output_fields: Any = None

    def start(self) -> None:
        """Nothing to start."""

    def shutdown(self) -> None:
        """Nothing to end."""

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """Run the code and give what it prints or submits, as the sandbox does."""
        import contextlib
        import io

        submitted: list[Any] = []

        def submit(*values: Any, **named: Any) -> None:
            submitted.append(named if named else values[0])

        names = {"SUBMIT": submit, "final_answer": submit, **(variables or {})}
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, names)
        if submitted:
            return _final_output(submitted[0])
        return out.getvalue()

    __call__ = execute


def _final_output(value: Any) -> Any:
    try:
        from dspy.primitives.code_interpreter import FinalOutput
    except ImportError:
        return value
    return FinalOutput(value)


def _with_interpreter(module: Any, *arguments: Any, **options: Any) -> Any:
    keyword = "interpreter_factory" if VERSION >= (3, 3) else "interpreter"
    return module(*arguments, **{keyword: LocalPython if VERSION >= (3, 3) else LocalPython()}, **options)


def test_program_of_thought(server: LMServer, lm: Any) -> None:
    """The code runs at the first attempt: one request for it, one for the answer."""
    program = _with_interpreter(dspy.ProgramOfThought, "question -> answer")
    with dspy.context(lm=lm, adapter=make_adapter("ChatAdapter")):
        assert program(question="Why?").answer
    assert server.stats().requests == 2


def test_code_act(server: LMServer, lm: Any) -> None:
    """It is finished after the first code: one request for it, one for the answer."""
    program = _with_interpreter(dspy.CodeAct, "question -> answer", tools=[search])
    with dspy.context(lm=lm, adapter=make_adapter("ChatAdapter")):
        prediction = program(question="Why?")
    assert "observed" in str(prediction.trajectory["code_output_0"])
    assert server.stats().requests == 2


@pytest.mark.skipif(not hasattr(dspy, "RLM"), reason="RLM is new")
def test_rlm(server: LMServer, lm: Any) -> None:
    """Its code submits outputs of the right types at once."""
    program = _with_interpreter(dspy.RLM, "context, question -> answer: int, names: list[str]")
    with dspy.context(lm=lm, adapter=make_adapter("ChatAdapter")):
        prediction = program(context="text", question="Why?")
    assert isinstance(prediction.answer, int)
    assert len(prediction.names) == 2
    assert server.stats().requests == 1
