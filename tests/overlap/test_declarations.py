"""`pure`, and overlap inside the nodes of a LangGraph."""

from __future__ import annotations

import functools
import sys
import threading
from typing import Any

import dspy
import pytest

from dspy_parallel import AsyncModuleMixin, async_module, explain, install, ordered, pure, run, uninstall
from tests.support.timed_lm import TimedLM, always
from tests.support.virtual_time import run_virtual


class Both:
    """A meeting of two calls: neither returns before the other has come."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2)
        self.calls: list[str] = []

    def __call__(self, query: str) -> str:
        self.calls.append(query)
        self.barrier.wait(60)
        return query[::-1]


def test_pure_functions_run_at_once_and_once_each() -> None:
    """In threads, as they may block; the program takes their results."""
    both = Both()

    @pure
    def search(query: str) -> str:
        return both(query)

    p = dspy.Predict("x -> y")

    def program(x: str) -> list[str]:
        return [search(x), search(query=x + "!"), p(x=x).y]

    with dspy.context(lm=TimedLM(latency=always(0.0))):
        report = explain(program, "owl")
    assert report.exception is None
    assert sorted(both.calls) == ["owl", "owl!"]


def test_pure_functions_run_once_each_whoever_comes_first() -> None:
    """The program in its thread and the scout on the loop come to them at the same time."""
    both = Both()

    @pure
    def search(query: str) -> str:
        return both(query)

    @async_module(engine="thread", overlap=True)
    class Program(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = dspy.Predict("x -> y")

        def forward(self, x: str) -> Any:
            return [search(x), search(query=x + "!"), self.p(x=x).y]

    program = Program()
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with dspy.context(lm=TimedLM(latency=always(0.0))):
            for number in range(60):
                program(x=f"owl {number}")
    finally:
        sys.setswitchinterval(usual)
    assert len(both.calls) == 120
    assert len(set(both.calls)) == 120


class Agent(dspy.Module):
    """Understood by nobody: it asks a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.p = dspy.Predict("x -> y")
        self.seen = threading.Lock()

    def forward(self, x: str) -> Any:
        with self.seen:
            pass
        return dspy.Prediction(y=self.p(x=self.p(x=x).y).y)


class Agents(dspy.Module):
    def __init__(self, agent: Any) -> None:
        super().__init__()
        self.agent = agent

    def forward(self, x: str) -> Any:
        return dspy.Prediction(y=[self.agent(x=f"{x}{i}").y for i in range(3)])


@pytest.mark.parametrize(("declare", "depth"), [(pure, 2), (ordered, 6)])
def test_modules(declare: Any, depth: int) -> None:
    """A pure one is run ahead as a whole, and each of its LM calls is made once."""
    lm = TimedLM()
    program = Agents(declare(Agent()))
    with dspy.context(lm=lm):
        ahead, elapsed = run_virtual(functools.partial(run, program, engine="loop", overlap=True, x="word"))
        assert ahead.toDict() == Agents(Agent())(x="word").toDict()
    assert elapsed == depth
    assert len(lm.requests) == 12


def test_installed() -> None:
    """For modules of one's own, and undone by `uninstall()`."""

    class Mine(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = dspy.Predict("x -> y")

        def forward(self, x: str) -> Any:
            return self.p(x=x), self.p(x=x + "!")

    before = Mine.forward
    install(overlap=True, engine="loop")
    try:
        assert Mine.forward is not before
        with dspy.context(lm=TimedLM()):
            _, elapsed = run_virtual(Mine().acall, x="x")
        assert elapsed == 1
        assert not hasattr(dspy.ReAct.forward, "__overlap_original__")
    finally:
        uninstall()
    assert Mine.forward is before


def test_inside_the_nodes_of_a_graph() -> None:
    graphs = pytest.importorskip("langgraph.graph")
    from dspy_parallel.langgraph import parallelize_graph

    p = dspy.Predict("x -> y")

    def node(state: Any) -> Any:
        return {"y": p(x=state["x"]).y + p(x=state["x"] + "!").y}

    def built(overlap: bool) -> float:
        builder = graphs.StateGraph(dict).add_node(node).add_edge(graphs.START, "node")
        graph = parallelize_graph(builder, engine="loop", overlap=overlap).compile()
        with dspy.context(lm=TimedLM()):
            _, elapsed = run_virtual(graph.ainvoke, {"x": "x"})
        return elapsed

    assert (built(False), built(True)) == (2, 1)


def test_mixin() -> None:
    """The class keyword is inherited."""

    class Base(AsyncModuleMixin, dspy.Module, engine="loop", overlap=True):
        def __init__(self) -> None:
            super().__init__()
            self.p = dspy.Predict("x -> y")

    class Mine(Base):
        def forward(self, x: str) -> Any:
            return self.p(x=x), self.p(x=x + "!")

    with dspy.context(lm=TimedLM()):
        _, elapsed = run_virtual(Mine().acall, x="x")
    assert elapsed == 1
