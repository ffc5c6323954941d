"""With `overlap=True`, nodes as people write them see and do the same: effects, changes in place, reducers, retries."""

from __future__ import annotations

import operator
import os
import random
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from langchain_core.messages import AIMessage, RemoveMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, RetryPolicy
from typing_extensions import TypedDict

from dspy_parallel.langgraph import parallelize_graph
from tests.langgraph.asking_graphs import a, ask, asking, b, c, graph, in_a_row, overlapped, run

pytestmark = pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")


class State(TypedDict, total=False):
    question: str
    a: str
    b: str
    c: str
    n: int
    log: Annotated[list[str], operator.add]
    messages: Annotated[list[Any], add_messages]


def answer(number: int, text: Any) -> str:
    found: str = ask[number](question=str(text)).answer
    return found


def changes_the_list(state: State) -> Any:
    state["log"].append("unseen")
    return {"a": answer(0, state["log"])}


def changes_the_state(state: State) -> Any:
    state["question"] = "changed"
    return {"b": answer(1, state["question"])}


def returns_the_state(state: State) -> Any:
    state["c"] = answer(2, state["question"])
    state["log"] = []
    return state


def returns_a_copy(state: State) -> Any:
    return {**state, "b": answer(3, state.get("c")), "log": []}


def reads_the_environment(state: State) -> Any:
    return {"a": answer(0, os.environ.get("DSPY_PARALLEL_TEST"))}


def sets_the_environment(state: State) -> Any:
    os.environ["DSPY_PARALLEL_TEST"] = answer(1, state["question"])


def draws(state: State) -> Any:
    return {"log": [answer(2, random.random())]}


def counts(state: State) -> Any:
    global _count
    _count += 1
    return {"b": answer(3, _count)}


_count = 0


def says(state: State) -> Any:
    return {"messages": [AIMessage(answer(0, "x"), id="1"), AIMessage(answer(1, "y"), id="2")]}


def takes_back(state: State) -> Any:
    return {"messages": [RemoveMessage(id="1"), AIMessage(answer(2, state["question"]), id="2")]}


def hears(state: State) -> Any:
    return {"c": answer(3, [message.content for message in state["messages"]])}


def fails_twice(state: State) -> Any:
    found = answer(3, state["question"])
    _tries.append(found)
    if len(_tries) % 3:
        raise ConnectionError(found)
    return {"a": found}


_tries: list[str] = []


def works(state: State) -> Command[Literal["works", "c"]]:
    count = state.get("n", 0)
    update = {"n": count + 1, "log": [answer(0, count)]}
    return Command(update=update, goto="works" if count < 3 else "c")


def several(state: State) -> Any:
    return [{"log": [answer(0, "x")]}, {"log": ["y"]}]


def nothing(state: State) -> Any:
    answer(1, state["question"])


def leaves(state: State) -> Any:
    return Command(graph=Command.PARENT, goto="c", update={"log": [answer(4, state["question"])]})


def decides(state: State) -> str:
    return "b" if state["a"] else END


GRAPHS: dict[str, Callable[[], StateGraph[Any]]] = {
    "changes in place": lambda: in_a_row(changes_the_list, changes_the_state, draws, c, state=State),
    "the state itself": lambda: in_a_row(returns_the_state, returns_a_copy, a, state=State),
    "environment": lambda: in_a_row(reads_the_environment, sets_the_environment, draws, counts, state=State),
    "messages": lambda: in_a_row(says, takes_back, hears, a, state=State),
    "retries": lambda: graph(
        [(START, "x"), ("x", "b"), ("b", "c")],
        State,
        x=(fails_twice, {"retry_policy": RetryPolicy(max_attempts=3, initial_interval=0.1, jitter=False)}),
        b=b,
        c=c,
    ),
    "a loop of commands": lambda: graph([(START, "works")], State, works=works, c=c),
    "several updates, and none": lambda: in_a_row(several, nothing, c, state=State),
    "out of a subgraph": lambda: graph(
        [(START, "a"), ("a", "inner"), ("inner", "b")], State, a=a, inner=in_a_row(leaves, b).compile(), b=b, c=c
    ),
    "a choice, and an interrupt": lambda: graph(
        [(START, "a"), (START, "asks"), ("a", decides), ("b", "c")], State, a=a, asks=asking, b=b, c=c
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """State, checkpoints and their metadata, events in order, and requests."""
    seen = []
    for convert in (lambda builder: parallelize_graph(builder, engine="loop"), overlapped):
        monkeypatch.setenv("DSPY_PARALLEL_TEST", "before")
        monkeypatch.setattr(f"{__name__}._count", 0)
        random.seed(1)
        seen.append(run(convert(GRAPHS[name]())))
    expected, ours = seen
    assert (ours.events, ours.history) == (expected.events, expected.history)
    assert not expected.requests - ours.requests
    if "interrupt" not in name:
        assert ours.requests == expected.requests
    assert ours.seconds <= expected.seconds + 1e-6
