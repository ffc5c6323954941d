"""A graph with `overlap=True` takes the time of its longest chain of calls, and is otherwise the graph that it was."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from dspy_parallel import explain, pure
from dspy_parallel.errors import TargetError
from dspy_parallel.langgraph import parallelize_graph
from dspy_parallel.langgraph.graph_scout import watcher
from dspy_parallel.overlap.session import PATIENCE, Session
from dspy_parallel.testing import LMServer
from tests.langgraph.asking_graphs import (
    Agent,
    Asking,
    Log,
    Model,
    Module,
    Record,
    State,
    a,
    a_of,
    after_a,
    after_all,
    after_c,
    ask,
    asking_by_question,
    b,
    b_async,
    b_or_nothing,
    b_twice,
    b_with_config,
    by_question,
    by_reply,
    c,
    c_of_both,
    d,
    each_letter,
    each_letter_of_a,
    going_on,
    graph,
    in_a_row,
    opening,
    overlapped,
    record_a,
    record_b,
    record_c,
    run,
    talking,
    three_times,
    twenty,
)
from tests.langgraph.comparing import plain
from tests.support.children import PRELOADED, run_child
from tests.support.timed_lm import TimedLM
from tests.support.virtual_time import run_virtual

pytestmark = pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")


GRAPHS: dict[str, tuple[Callable[[], StateGraph[Any]], float, float]] = {
    "chain": (
        lambda: graph([(START, "a"), ("a", "b"), ("b", "c"), ("c", "d")], a=a, b=b, c=c, d=d),
        4,
        2,
    ),
    "uneven branches": (
        lambda: graph([(START, "a"), (START, "b"), ("a", "after")], a=a, b=b_twice, after=after_a),
        3,
        2,
    ),
    "join": (
        lambda: graph([(START, "a"), (START, "b"), ("b", "c"), (["a", "c"], "d")], a=a, b=b, c=c, d=d),
        3,
        2,
    ),
    "choice by the input": (lambda: graph([(START, "a"), ("a", by_question), ("b", "c")], a=a, b=b, c=c), 3, 1),
    "choice by a reply": (
        lambda: graph([(START, "a"), ("a", by_reply, {True: "b", False: "c"}), ("b", "c")], a=a, b=b, c=c),
        3,
        2,
    ),
    "loop": (
        lambda: graph([(START, "a"), ("a", three_times, {"again": "a", "enough": END})], a=a),
        3,
        1,
    ),
    "nothing to gain": (lambda: graph([(START, "a"), ("a", "after")], a=a, after=after_a), 2, 2),
    "a module": (
        lambda: graph([(START, "a"), ("a", "b"), ("b", "c")], a=a, b=Module(), c=c),
        3,
        1,
    ),
    "an async node": (lambda: in_a_row(a, b_async, c), 3, 1),
    "a node with a config": (lambda: in_a_row(a, b_with_config, c), 3, 1),
    # Only who needs what such a node returns waits for it; when it has run, the scout goes on from there.
    "a node with effects": (lambda: in_a_row(a, opening, c, d), 3, 2),
    "a node with effects at first": (lambda: in_a_row(opening, a, b, c), 3, 1),
    "a node that returns what the LM decides": (lambda: in_a_row(a, b_or_nothing, c, d), 6, 4),
    "a branch that takes longer than two steps": (
        lambda: graph([(START, "a"), (START, "b"), ("a", "c"), ("c", "d")], a=a, b=b_or_nothing, c=after_a, d=after_c),
        5,
        3,
    ),
    "a schema of its own": (lambda: in_a_row(a, asking_by_question, c), 3, 1),
    "a dataclass": (lambda: in_a_row(record_a, record_b, record_c, state=Record), 3, 2),
    "a model": (lambda: in_a_row(record_a, record_b, record_c, state=Model), 3, 2),
    "a subgraph": (lambda: in_a_row(a, in_a_row(b, c).compile(), d), 4, 2),
    "commands": (lambda: graph([(START, "a"), ("b", "c")], a=going_on, b=b, c=c), 3, 1),
    "a deferred node": (
        lambda: graph(
            [(START, "a"), (START, "b"), ("a", "c"), ("b", "d"), ("c", "d")],
            a=a,
            b=b_twice,
            c=c,
            d=(d, {"defer": True}),
        ),
        4,
        3,
    ),
    "what is sent": (
        lambda: graph([(START, "a"), ("a", each_letter, ["b"]), ("b", "c")], a=a, b=asking_by_question, c=after_all),
        3,
        2,
    ),
    "what is sent by a reply": (
        lambda: graph([(START, "a"), ("a", each_letter_of_a, ["b"]), ("b", "c")], a=a, b=asking_by_question, c=c),
        3,
        2,
    ),
    "subgraphs that are sent to": (
        lambda: graph(
            [(START, twenty, ["many"]), ("many", "c")],
            many=in_a_row(a, b, c_of_both, output=Log).compile(),
            c=after_all,
        ),
        4,
        3,
    ),
    "messages": (lambda: in_a_row(talking, a, b), 3, 1),
    "methods": (lambda: Agent().graph(), 4, 2),
    "partials and objects": (
        lambda: graph(
            [(START, "a"), ("a", "b"), ("b", "c")],
            a=functools.partial(a_of, asked=ask[0]),
            b=Asking("b"),
            c=functools.partial(functools.partial(c)),
        ),
        3,
        1,
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_as_long_as_the_longest_chain_of_calls(name: str) -> None:
    build, steps, ideal = GRAPHS[name]
    expected, seen = run(parallelize_graph(build(), engine="loop")), run(overlapped(build()))
    assert (expected.seconds, seen.seconds) == (pytest.approx(steps), pytest.approx(ideal))
    assert (seen.events, seen.history, seen.requests) == (expected.events, expected.history, expected.requests)


@pytest.mark.parametrize("when", ["interrupt_before", "interrupt_after"])
def test_nothing_is_asked_beyond_an_interrupt(when: str) -> None:
    build = GRAPHS["chain"][0]
    options = {when: ["c"] if when == "interrupt_before" else ["b"]}
    assert run(overlapped(build()), **options).requests.total() == 2


def test_a_resumed_run_is_followed_from_the_tasks_of_its_checkpoint() -> None:
    compiled = overlapped(GRAPHS["chain"][0]()).compile(checkpointer=InMemorySaver(), interrupt_before=["b"])
    config: Any = {"configurable": {"thread_id": "1"}}
    lm = TimedLM()

    async def main() -> Any:
        with dspy.context(lm=lm):
            await compiled.ainvoke({"question": "why?", "log": []}, config)
            begun = asyncio.get_running_loop().time()
            state = await compiled.ainvoke(None, config)
            return state["log"], asyncio.get_running_loop().time() - begun

    (log, seconds), _ = run_virtual(main)
    assert (log, seconds) == (["a", "b", "c"], pytest.approx(2))
    assert len(lm.requests) == 4


class Unhurried(InMemorySaver):
    """Takes what it saves as it is after a while, as a saver does that works in a thread or over a network."""

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        for _ in range(500):
            await asyncio.sleep(0)
        return self.put(*args, **kwargs)

    async def aput_writes(self, *args: Any, **kwargs: Any) -> Any:
        for _ in range(1_000):
            await asyncio.sleep(0)
        return self.put_writes(*args, **kwargs)

    def saved(self) -> list[str]:
        """All that it has, also of subgraphs."""
        return sorted(
            plain(
                (
                    found.config["configurable"]["checkpoint_ns"],
                    found.metadata,
                    sorted(found.checkpoint["channel_values"].items()),
                    sorted(plain((channel, value)) for _, channel, value in found.pending_writes or ()),
                )
            )
            for found in self.list(None)
        )


def joined() -> StateGraph[Any]:
    return graph([(START, "a"), ("a", "b"), (["a", "b"], "c")], a=a, b=b, c=c)


def listed(state: State) -> Any:
    return {"c": [ask[0](question=state["question"]).answer]}


def extended(state: State) -> Any:
    found: Any = state["c"]
    found.append(ask[1](question=state["question"] + "b").answer)
    return {"d": found[-1]}


@pytest.mark.parametrize(
    "build",
    [
        joined,
        lambda: in_a_row(joined().compile(), d),
        lambda: in_a_row(in_a_row(a, joined().compile()).compile(), d),
        lambda: in_a_row(listed, extended),
    ],
    ids=["a join", "in a subgraph", "in one of a subgraph", "a list that a node changes"],
)
def test_what_is_saved_holds_nothing_of_the_step_behind_it(build: Callable[[], StateGraph[Any]]) -> None:
    """Though the step is over at once. What a join has seen is a set that LangGraph adds to."""
    savers = Unhurried(), Unhurried()
    expected = run(parallelize_graph(build(), engine="loop"), savers[0])
    seen = run(overlapped(build()), savers[1])
    assert (seen.events, seen.history, seen.requests) == (expected.events, expected.history, expected.requests)
    assert savers[1].saved() == savers[0].saved()
    assert seen.seconds < expected.seconds


def killing(state: State) -> Any:
    if "KILLED" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)


_KILLED = """
import os, sys, dspy
from langgraph.checkpoint.sqlite import SqliteSaver
from dspy_parallel.langgraph import parallelize_graph
from tests.langgraph.asking_graphs import a, b, c, d, in_a_row
from tests.langgraph.test_graph_overlap import killing

{kill}
with SqliteSaver.from_conn_string({path!r}) as saver, dspy.context(lm=dspy.LM("openai/any", cache=False, **{lm!r})):
    graph = parallelize_graph(in_a_row(a, b, killing, c, d), overlap=True).compile(checkpointer=saver)
    config = {{"configurable": {{"thread_id": "1"}}}}
    state = graph.invoke({given}, config, durability="sync")
    print(*state["log"])
"""


def test_a_run_that_is_killed_between_two_steps_goes_on(tmp_path: Path) -> None:
    """No node that was done runs again; at most the calls are repeated that were made early."""
    pytest.importorskip("langgraph.checkpoint.sqlite", exc_type=ImportError)
    with LMServer(latency=0.2, log_bodies=True) as server:
        fixed = {"path": str(tmp_path / "checkpoints"), "lm": server.lm_kwargs()}
        given = {"question": "why?", "log": []}
        program = _KILLED.format(kill="os.environ['KILLED'] = ''", given=given, **fixed)
        killed = run_child(program, python=PRELOADED, check=False)
        assert killed.code == -signal.SIGKILL
        went_on = run_child(_KILLED.format(kill="", given=None, **fixed), python=PRELOADED)
        asked = Counter(
            next(each for each in "abc" if f"why?{each}" in str(logged.body) or each == "c") for logged in server.log()
        )
    assert went_on.out.split() == ["a", "b", "c"]
    assert (asked["a"], asked["b"]) == (1, 1)
    assert asked["c"] <= 4  # with those of `d`, which needs all; both were made early


def test_invoke_is_followed_as_well() -> None:
    """Three nodes in a row whose calls must all be in flight before any is answered."""
    everybody = asyncio.Event()

    @pure
    class Gated(TimedLM):
        async def aforward(self, *args: Any, **kwargs: Any) -> Any:
            response = self.forward(*args, **kwargs)
            if len(self.requests) == 3:
                everybody.set()
            await asyncio.wait_for(everybody.wait(), 60)
            return response

    builder = graph([(START, "a"), ("a", "b"), ("b", "c")], a=a, b=b, c=c)
    lm = Gated()
    with dspy.context(lm=lm):
        state = parallelize_graph(builder, overlap=True).compile().invoke({"question": "why?", "log": []})
    assert state["log"] == ["a", "b", "c"]
    assert len(lm.requests) == 3


def test_the_scout_goes_first() -> None:
    """Who takes a reply, or begins a node, waits as long as the scout comes on at least every few turns of the loop."""

    async def main() -> tuple[int, bool]:
        session = Session(asyncio.get_running_loop())
        await session.let_scout_go_first()
        session.moves += 1
        waiting = asyncio.create_task(session.let_scout_go_first())
        for _ in range(5):
            for _ in range(PATIENCE - 1):
                await asyncio.sleep(0)
            session.moves += 1
        was_waiting = not waiting.done()
        await waiting
        return session.moves, was_waiting

    assert asyncio.run(main()) == (6, True)


def test_explain_tells_which_calls_of_a_graph_were_early_and_what_stopped_it() -> None:
    compiled = parallelize_graph(in_a_row(a, opening, b, d), overlap=True).compile()
    with dspy.context(lm=TimedLM(latency=lambda _: 0.0)):
        report = explain(compiled, {"question": "why?", "c": "", "log": []})
        with pytest.raises(TargetError, match="overlap=True"):
            explain(in_a_row(a).compile(), {"question": "why?", "log": []})
    assert [call.is_early for call in report.calls] == [True, True, True]
    assert all("asking_graphs.py" in call.place for call in report.calls)
    assert report.critical_path[-1] == 3
    assert any("Path.resolve" in reason for _, reason in report.reasons)


def counted(state: State) -> Any:
    return {"log": [str(len(state["log"]))]}


async def counted_later(state: State) -> Any:
    return {"log": [str(len(state["log"]))]}


def is_counted(state: State) -> str:
    return END if state["log"] else "counted"


@pytest.mark.parametrize(
    ("build", "is_followed"),
    [
        (lambda: in_a_row(counted, counted_later), False),
        (lambda: in_a_row(counted, in_a_row(counted_later).compile()), False),
        (lambda: in_a_row(counted).add_conditional_edges("counted", is_counted), False),
        (lambda: in_a_row(counted, in_a_row(a).compile()), True),
        (lambda: in_a_row(counted, b_async), True),
        (lambda: graph([(START, "counted"), ("counted", "b")], counted=counted, b=Module()), True),
    ],
)
def test_only_a_graph_that_may_ask_an_lm_is_followed(build: Callable[[], StateGraph[Any]], is_followed: bool) -> None:
    """One that has nothing to gain pays nothing for it."""
    runs: list[Any] = []
    token = watcher.set(runs.append)
    try:
        run(overlapped(build()))
    finally:
        watcher.reset(token)
    assert bool(runs) is is_followed
