"""`interrupt()` raised below DSPy's `except Exception` stops the graph, and resuming goes on from there."""

from __future__ import annotations

import functools
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphInterrupt
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from dspy_parallel import ThreadRequiredError, loop_safe
from dspy_parallel.langgraph import parallelize_graph


class State(TypedDict, total=False):
    out: Any


def ask_human(question: str) -> str:
    """Ask a human."""
    return interrupt(question)


tools = {"plain": ask_human, "loop_safe": loop_safe(functools.wraps(ask_human)(lambda question: ask_human(question)))}
tool = tools["plain"]


@pytest.fixture(params=["plain", "loop_safe"])
def kind_of_tool(request: Any, monkeypatch: Any) -> Any:
    monkeypatch.setitem(globals(), "tool", tools[request.param])
    return request.param


class Asking(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return dspy.Prediction(answer=interrupt("module?"))


def lm() -> Any:
    finish = {"next_thought": "t", "next_tool_name": "finish", "next_tool_args": "{}", "answer": "a", "reasoning": "r"}
    call = {**finish, "next_tool_name": "ask_human", "next_tool_args": '{"question": "tool?"}'}
    # The node starts again when it is resumed.
    return DummyLM([call, call, finish, finish])


def react(state: State) -> Any:
    agent = dspy.ReAct("question -> answer", tools=[tool], max_iters=3)
    return {"out": str(agent(question="?").trajectory["observation_0"])}


async def react_async(state: State) -> Any:
    agent = dspy.ReAct("question -> answer", tools=[tool], max_iters=3)
    return {"out": str((await agent.acall(question="?")).trajectory["observation_0"])}


class Agent(dspy.Module):
    """The agent below a module of the user's."""

    def forward(self, state: State) -> Any:
        self.agent = dspy.ReAct("question -> answer", tools=[tool], max_iters=3)
        return {"out": str(self.agent(question="?").trajectory["observation_0"])}


def best_of_n(state: State) -> Any:
    best = dspy.BestOfN(Asking(), N=3, reward_fn=lambda args, prediction: 1.0, threshold=1.0)
    return {"out": best(question="?").answer}


def rewarded(state: State) -> Any:
    best = dspy.BestOfN(
        dspy.Predict("question -> answer"), N=2, threshold=0.5, reward_fn=lambda args, prediction: interrupt("reward?")
    )
    return {"out": best(question="?").answer}


def refine(state: State) -> Any:
    refined = dspy.Refine(Asking(), N=3, reward_fn=lambda args, prediction: 1.0, threshold=1.0)
    return {"out": refined(question="?").answer}


def compiled(node: Any, engine: Any) -> Any:
    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    return parallelize_graph(builder, engine=engine).compile(checkpointer=InMemorySaver())


CONFIG: Any = {"configurable": {"thread_id": "1"}}


@pytest.fixture(autouse=True)
def _lm() -> Any:
    with dspy.context(lm=lm(), trace=[]):
        yield


@pytest.mark.parametrize("engine", ["auto", "loop", "thread"])
@pytest.mark.parametrize(
    ("node", "question"),
    [
        (react, "tool?"),
        (react_async, "tool?"),
        (Agent(), "tool?"),
        (best_of_n, "module?"),
        (refine, "module?"),
        (rewarded, "reward?"),
    ],
    ids=["ReAct", "ReAct async", "ReAct in a module", "BestOfN", "Refine", "reward function"],
)
def test_interrupt_reaches_the_graph(node: Any, question: str, engine: Any, kind_of_tool: str) -> None:
    if engine == "loop" and kind_of_tool == "plain" and question == "tool?":
        pytest.skip("an error: the tool needs a thread")
    graph = compiled(node, engine)
    result = graph.invoke({}, CONFIG)
    assert [i.value for i in result["__interrupt__"]] == [question]
    assert graph.get_state(CONFIG).next == ("node",)
    result = graph.invoke(Command(resume=1.0 if question == "reward?" else "human"), CONFIG)
    assert result["out"] == ("a" if question == "reward?" else "human")


@pytest.mark.parametrize("node", [react, react_async, Agent()], ids=["ReAct", "ReAct async", "ReAct in a module"])
def test_the_strict_engine_does_not_lose_the_question(node: Any) -> None:
    """A tool that is no `loop_safe` one needs a thread: which must be an error of the node's, not of the tool's."""
    with pytest.raises(ThreadRequiredError, match="the tool ask_human is a sync function"):
        compiled(node, "loop").invoke({}, CONFIG)


@pytest.mark.parametrize("engine", ["auto", "thread"])
def test_interrupt_in_the_threads_of_parallel(engine: Any) -> None:
    """DSPy's own threads: they also learn which graph they work for."""

    def node(state: State) -> Any:
        pairs = [(Asking(), dspy.Example(question="?").with_inputs("question"))]
        parallel = dspy.Parallel(num_threads=2, disable_progress_bar=True)
        return {"out": [prediction.answer for prediction in parallel(pairs)]}

    graph = compiled(node, engine)
    assert [i.value for i in graph.invoke({}, CONFIG)["__interrupt__"]] == ["module?"]
    assert graph.invoke(Command(resume="human"), CONFIG)["out"] == ["human"]


@pytest.mark.parametrize("engine", ["auto", "loop", "thread"])
def test_users_can_catch_it(engine: Any, monkeypatch: Any) -> None:
    """Outside DSPy's code it is the exception that LangGraph documents."""

    monkeypatch.setitem(globals(), "tool", tools["loop_safe"])

    def node(state: State) -> Any:
        try:
            return react(state)
        except GraphInterrupt as exc:
            return {"out": ("caught", exc.args[0][0].value)}

    class Catching(dspy.Module):
        def forward(self, state: State) -> Any:
            try:
                return react(state)
            except GraphInterrupt:
                return {"out": "caught"}

    assert compiled(node, engine).invoke({}, CONFIG)["out"] == ("caught", "tool?")
    with dspy.context(lm=lm()):
        assert compiled(Catching(), engine).invoke({}, CONFIG)["out"] == "caught"


def test_parent_command_from_a_tool() -> None:
    """A subgraph called by a tool of ReAct's sends the parent graph elsewhere."""

    def leave(state: State) -> Any:
        return Command(graph=Command.PARENT, goto="target", update={"out": "from below"})

    inner = StateGraph(State).add_node("leave", leave).add_edge(START, "leave").compile()

    @loop_safe
    def ask_human(question: str) -> str:
        """Ask a human."""
        return str(inner.invoke({}))

    def node(state: State) -> Any:
        dspy.ReAct("question -> answer", tools=[ask_human], max_iters=3)(question="?")
        raise AssertionError("the command was swallowed")

    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    builder.add_node("target", lambda state: {"out": state["out"] + ", target"})
    graph = parallelize_graph(builder).compile(checkpointer=InMemorySaver())
    assert graph.invoke({}, CONFIG)["out"] == "from below, target"


def test_errors_of_tools_are_still_dspys() -> None:
    @loop_safe
    def ask_human(question: str) -> str:
        """Ask a human."""
        raise ValueError("no human")

    def node(state: State) -> Any:
        agent = dspy.ReAct("question -> answer", tools=[ask_human], max_iters=3)
        return {"out": str(agent(question="?").trajectory["observation_0"])}

    assert "no human" in compiled(node, "loop").invoke({}, CONFIG)["out"]
