"""Editing state, running again from earlier checkpoints, and forking; stock and parallelised, sync and async."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import StateGraph
from langgraph.types import Command, StateUpdate, interrupt

from dspy_parallel.langgraph import parallelize_graph
from tests.langgraph.comparing import plain
from tests.langgraph.test_same_behaviour import chain, log

CONFIG: Any = {"configurable": {"thread_id": "1"}}


class Calls:
    """Calls a graph's methods, or their async twins."""

    def __init__(self, graph: Any, is_async: bool) -> None:
        self.graph = graph
        self.is_async = is_async

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if not self.is_async:
            result = getattr(self.graph, name)(*args, **kwargs)
            return [*result] if inspect.isgenerator(result) else result
        return asyncio.run(self._awaited(getattr(self.graph, f"a{name}"), args, kwargs))

    async def _awaited(self, twin: Any, args: Any, kwargs: Any) -> Any:
        result = twin(*args, **kwargs)
        return [item async for item in result] if inspect.isasyncgen(result) else await result

    def checkpoint_before(self, node: str) -> Any:
        return next(state.config for state in self("get_state_history", CONFIG) if state.next == (node,))


def numbered() -> StateGraph[Any]:
    return chain(*[lambda s, i=i: log(i) for i in range(3)])


def asking() -> StateGraph[Any]:
    inner = chain(lambda s: log("inner"), lambda s: log(interrupt("?"))).compile()
    return chain(lambda s: log("outer"), inner)


def replay(calls: Calls) -> Any:
    calls("invoke", {"n": 0}, CONFIG)
    return calls("invoke", None, calls.checkpoint_before("node1"))


def fork(calls: Calls) -> Any:
    calls("invoke", {"n": 0}, CONFIG)
    edited = calls("update_state", calls.checkpoint_before("node1"), log("edited"))
    return calls("invoke", None, edited)


def edit_as_another_node(calls: Calls) -> Any:
    calls("invoke", {"n": 0}, CONFIG)
    edited = calls("update_state", CONFIG, log("edited"), as_node="node0")
    assert calls("get_state", edited).next == ("node1",)
    return calls("invoke", None, edited)


def edit_in_bulk(calls: Calls) -> Any:
    updates = [[StateUpdate(log("a"), "node0")], [StateUpdate(log("b"), "node1")]]
    calls("bulk_update_state", CONFIG, updates)
    return calls("invoke", None, CONFIG)


def answer_twice(calls: Calls) -> Any:
    """The same question from the past, answered otherwise."""
    calls("invoke", {"n": 0}, CONFIG)
    asked = calls("get_state", CONFIG).config
    first = calls("invoke", Command(resume="yes"), CONFIG)
    return first, calls("invoke", Command(resume="no"), asked)


def edit_in_subgraph(calls: Calls) -> Any:
    calls("invoke", {"n": 0}, CONFIG)
    inner = calls("get_state", CONFIG, subgraphs=True).tasks[0].state
    calls("update_state", inner.config, log("edited below"))
    return plain(inner.values), calls("invoke", Command(resume="yes"), CONFIG)


@pytest.mark.parametrize(
    ("build", "journey"),
    [
        (numbered, replay),
        (numbered, fork),
        (numbered, edit_as_another_node),
        (numbered, edit_in_bulk),
        (asking, answer_twice),
        (asking, edit_in_subgraph),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_same_journey(build: Callable[[], StateGraph[Any]], journey: Callable[[Calls], Any]) -> None:
    def seen(parallel: bool, is_async: bool) -> Any:
        builder = build()
        graph = (parallelize_graph(builder) if parallel else builder).compile(checkpointer=InMemorySaver())
        calls = Calls(graph, is_async)
        result = journey(calls)
        states = calls("get_state_history", CONFIG)
        return plain(result), [(plain(s.values), s.next, s.metadata["source"], s.metadata["step"]) for s in states]

    expected = seen(parallel=False, is_async=False)
    # Before Python 3.11, stock graphs cannot interrupt() in a subgraph under ainvoke; ours can.
    stock = [] if sys.version_info < (3, 11) else [(False, True)]
    for parallel, is_async in (*stock, (True, False), (True, True)):
        assert seen(parallel, is_async) == expected, (parallel, is_async)
    assert len(expected[1]) >= 3
