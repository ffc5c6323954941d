"""Random graphs with `overlap=True` are the graphs that they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt

from dspy_parallel.langgraph import parallelize_graph
from tests.langgraph.asking_graphs import State, a, b, graph, overlapped, run

pytestmark = pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")


KEYS = "abcd"
KINDS = ["sync"] * 6 + ["async", "branching", "effects", "config", "subgraph", "fail", "interrupt", "command"]


@st.composite
def _plans(draw: st.DrawFn) -> list[dict[str, Any]]:
    plans = []
    for number in range(draw(st.integers(2, 6))):
        earlier = st.lists(st.integers(0, number - 1), min_size=1, max_size=2, unique=True) if number else st.just([])
        plans.append(
            {
                "key": draw(st.sampled_from(KEYS)),
                "reads": draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3)),
                "kind": draw(st.sampled_from(KINDS)),
                "after": draw(earlier),
                "joins": draw(st.booleans()),
                "defer": draw(st.sampled_from([False] * 9 + [True])),
                "edges": draw(st.sampled_from(["plain", "plain", "choice", "reply", "send"])),
            }
        )
    return plans


def _node(name: str, plan: dict[str, Any]) -> Any:
    predictor = dspy.Predict("question -> answer")
    reads, key = plan["reads"], plan["key"]

    def sync(state: State) -> Any:
        found = [predictor(question=f"{name} {one} {state.get(one)}").answer for one in reads]
        return {"log": [f"{name} {found}"], "longest": found[0], key: found[-1]}

    async def asynchronous(state: State) -> Any:
        found = await predictor.acall(question=f"{name} {state.get(key)}")
        return {"log": [name], key: found.answer}

    def branching(state: State) -> Any:
        found = predictor(question=f"{name} {state.get(key)}").answer
        if found[-1] in "01234567":
            return {"log": [name], "a": predictor(question=found).answer}
        return {"log": [name], "b": found}

    def effects(state: State) -> Any:
        Path().resolve()
        return {"log": [name, predictor(question=f"{name} {state.get(key)}").answer]}

    def config(state: State, config: RunnableConfig) -> Any:
        return {key: predictor(question=f"{name} {state.get(key)}").answer, "log": [str(config.get("run_name"))]}

    def fail(state: State) -> Any:
        if len(state["log"]) > 2:
            raise ValueError(name)
        return sync(state)

    def asking(state: State) -> Any:
        return {"log": [interrupt(name)]}

    def command(state: State) -> Any:
        return Command(update=sync(state))

    if plan["kind"] == "subgraph":
        return graph([(START, "a"), ("a", "b"), ("b", "c")], a=a, b=b, c=sync).compile()
    kinds = [sync, asynchronous, branching, effects, config, fail, asking, command]
    names = ["sync", "async", "branching", "effects", "config", "fail", "interrupt", "command"]
    return dict(zip(names, kinds, strict=True))[plan["kind"]]


def _choice(targets: list[str]) -> Any:
    def path(state: State) -> Any:
        return targets[len(str(state["log"])) % len(targets)]

    return path


def _by_reply(targets: list[str]) -> Any:
    def path(state: State) -> Any:
        return targets[ord(str(state.get("longest"))[-1:] or "0") % len(targets)]

    return path


def _sends(targets: list[str]) -> Any:
    def path(state: State) -> Any:
        return [Send(target, state) for target in targets]

    return path


def _random_graph(plans: list[dict[str, Any]]) -> StateGraph[Any]:
    builder = StateGraph(State)
    for number, plan in enumerate(plans):
        builder.add_node(f"n{number}", _node(f"n{number}", plan), defer=plan["defer"])
    builder.add_edge(START, "n0")
    for number, plan in enumerate(plans):
        targets = [f"n{other}" for other, after in enumerate(plans) if number in after["after"]]
        paths = {"choice": _choice, "reply": _by_reply, "send": _sends}
        if targets and plan["edges"] != "plain":
            builder.add_conditional_edges(f"n{number}", paths[plan["edges"]](targets), targets)
        by_edges = [f"n{other}" for other in plan["after"] if plans[other]["edges"] == "plain"]
        for start in [by_edges] if plan["joins"] and by_edges else by_edges:
            builder.add_edge(start, f"n{number}")
    return builder


@contextmanager
def _saver(kind: str) -> Iterator[Any]:
    if kind == "memory":
        yield InMemorySaver()
        return
    sqlite = pytest.importorskip("langgraph.checkpoint.sqlite", exc_type=ImportError)
    with sqlite.SqliteSaver.from_conn_string(":memory:") as saver:
        yield saver


@pytest.mark.parametrize("saver", ["memory", "sqlite"])
@settings(deadline=None)
@given(plans=_plans())
def test_random_graphs_are_what_they_were(saver: str, plans: list[dict[str, Any]]) -> None:
    """The same states, checkpoints, events and requests; never slower.

    Where a node fails, its step is a race that ends with the first failure: who of the others is done by then, and
    what they have asked, depends on how long each takes. All steps before are the same then, and nothing is asked
    that the graph would not ask if nobody failed.
    """
    with _saver(saver) as one, _saver(saver) as other:
        expected = run(parallelize_graph(_random_graph(plans), engine="loop"), one)
        seen = run(overlapped(_random_graph(plans)), other)
    if not expected.events[-1][0].startswith("raised"):
        assert (seen.events, seen.history, seen.requests) == (expected.events, expected.history, expected.requests)
        assert seen.seconds <= expected.seconds + 1e-6
        return
    assert seen.events[-1][0].startswith("raised")
    assert seen.events[:-2] == expected.events[:-2]
    assert seen.events[-2][0] == expected.events[-2][0]
    (state, following, metadata, _), *earlier = seen.history
    assert [(state, following, metadata), *earlier] == [expected.history[0][:3], *expected.history[1:]]
    healthy = [{**plan, "kind": "sync" if plan["kind"] == "fail" else plan["kind"]} for plan in plans]
    assert not expected.settled - seen.requests
    unfailing = run(parallelize_graph(_random_graph(healthy), engine="loop"))
    if not unfailing.events[-1][0].startswith("raised"):  # because two nodes write the same key, perhaps
        assert not seen.requests - unfailing.requests
