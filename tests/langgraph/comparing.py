"""Runs one graph as it comes and parallelised, sync and async, and notes everything that a user can see."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import StateGraph

from dspy_parallel.langgraph import parallelize_graph

MODES = ("values", "updates", "custom", "debug")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.+]+|(?<=elapsed: )[\d.]+")


def plain(value: Any) -> str:
    """A value as text, without what differs between any two runs: ids and times."""
    return _TIME.sub("<time>", _UUID.sub("<id>", repr(value)))


@dataclasses.dataclass
class Seen:
    """What is visible of a series of runs on one thread.

    Attributes:
        events: What each run streamed, in order, and how it ended.
        states: The state after each run.
        history: The checkpoints, newest first.
        saved: All that the checkpointer keeps, also of subgraphs, in no particular order.
        stored: What is in the store.
    """

    events: list[list[str]] = dataclasses.field(default_factory=list)
    states: list[str] = dataclasses.field(default_factory=list)
    history: list[str] = dataclasses.field(default_factory=list)
    saved: list[str] = dataclasses.field(default_factory=list)
    stored: list[str] = dataclasses.field(default_factory=list)

    def in_any_order(self) -> Seen:
        """For nodes of one step that race each other."""
        return dataclasses.replace(self, events=[sorted(events) for events in self.events])


def _state(snapshot: Any) -> str:
    tasks = sorted(
        (task.name, plain(task.error), plain(task.interrupts), plain(task.result)) for task in snapshot.tasks
    )
    metadata = {key: (snapshot.metadata or {}).get(key) for key in ("source", "step", "writes")}
    return plain((snapshot.values, snapshot.next, metadata, tasks))


def _saved(saver: Any) -> list[str]:
    """Namespace, contents and pending writes of each checkpoint."""
    found = []
    for saved in saver.list(None):
        writes = sorted(plain((channel, value)) for _, channel, value in saved.pending_writes or ())
        metadata = {key: saved.metadata.get(key) for key in ("source", "step", "parents")}
        namespace = saved.config["configurable"]["checkpoint_ns"]
        found.append(plain((namespace, metadata, sorted(saved.checkpoint["channel_values"].items()), writes)))
    return sorted(found)


def see(
    build: Callable[[], Any],
    inputs: Sequence[Any],
    *,
    parallel: Literal["builder", "compiled"] | None,
    is_async: bool,
    **options: Any,
) -> Seen:
    """Run the graph on each of the inputs in turn, all on one thread.

    Args:
        build: Makes the builder, or an entrypoint.
        inputs: States or `Command`s, or functions that make one from the state before.
        parallel: What is parallelised, if anything.
        is_async: Whether the async methods are used.
        **options: Passed on to `compile()`, but for `engine`, `config` and `stream`; of a class, an instance is.
    """
    engine = options.pop("engine", "auto")
    config = {"configurable": {"thread_id": "1"}, **options.pop("config", {})}
    stream = {"stream_mode": list(MODES), **options.pop("stream", {})}
    options = {name: value() if isinstance(value, type) else value for name, value in options.items()}
    options.setdefault("checkpointer", InMemorySaver())
    built = build()
    if parallel == "builder":
        parallelize_graph(built, engine=engine)
    graph = built.compile(**options) if isinstance(built, StateGraph) else built
    if parallel == "compiled":
        parallelize_graph(graph, engine=engine)
    seen = asyncio.run(_arun(graph, inputs, config, stream)) if is_async else _run(graph, inputs, config, stream)
    seen.saved = _saved(graph.checkpointer)
    seen.stored = sorted(plain((i.namespace, i.key, i.value)) for i in graph.store.search(())) if graph.store else []
    return seen


def _run(graph: Any, inputs: Sequence[Any], config: Any, stream: Any) -> Seen:
    seen = Seen()
    for given in inputs:
        events: list[str] = []
        given = given(graph.get_state(config)) if callable(given) else given
        try:
            for event in graph.stream(given, config, **stream):
                events.append(plain(event))
        except Exception as exc:
            events.append(f"raised {type(exc).__name__}: {plain(exc)}")
        seen.events.append(events)
        seen.states.append(_state(graph.get_state(config)))
    seen.history = [_state(snapshot) for snapshot in graph.get_state_history(config)]
    return seen


async def _arun(graph: Any, inputs: Sequence[Any], config: Any, stream: Any) -> Seen:
    seen = Seen()
    for given in inputs:
        events: list[str] = []
        given = given(await graph.aget_state(config)) if callable(given) else given
        try:
            async for event in graph.astream(given, config, **stream):
                events.append(plain(event))
        except Exception as exc:
            events.append(f"raised {type(exc).__name__}: {plain(exc)}")
        seen.events.append(events)
        seen.states.append(_state(await graph.aget_state(config)))
    seen.history = [_state(snapshot) async for snapshot in graph.aget_state_history(config)]
    return seen


def assert_same(build: Callable[[], Any], inputs: Sequence[Any], *, races: bool = False, **options: Any) -> Seen:
    """Stock and parallelised, sync and async, on each engine, before and after `compile()`: all see the same.

    Args:
        build: Makes the builder, or an entrypoint.
        inputs: States or `Command`s, one for each run.
        races: Whether nodes of one step end in no particular order.
        **options: As for `see()`.
    """
    shape = Seen.in_any_order if races else (lambda seen: seen)
    asynchronous_only = options.pop("asynchronous_only", False)
    # Before Python 3.11, stock async nodes cannot interrupt() or get a stream writer; ours can.
    modes = [True] if asynchronous_only else [False] if sys.version_info < (3, 11) else [False, True]
    expected, *others = [shape(see(build, inputs, parallel=None, is_async=mode, **options)) for mode in modes]
    assert all(other == expected for other in others), "stock sync and async differ"
    ways: list[tuple[Any, str]] = [("builder", engine) for engine in ("auto", "loop", "thread")]
    for parallel, engine in [*ways, ("compiled", "auto")]:
        for is_async in (False, True):
            seen = see(build, inputs, parallel=parallel, is_async=is_async, engine=engine, **options)
            assert shape(seen) == expected, (parallel, engine, is_async)
    return expected
