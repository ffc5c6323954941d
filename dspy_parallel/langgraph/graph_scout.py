"""A scout for the run of a whole graph: it follows the graph ahead of LangGraph, and makes later nodes' calls early.

LangGraph runs as ever. Each of its nodes that the scout can follow is a main line of one session: at the LM's wire it
takes the replies to equal requests that the scout has sent (see `dspy_parallel.overlap.session`). What the scout has
wrong costs a request, never a result.

Where the scout comes to something that only LangGraph can know, it is replaced, as soon as LangGraph knows that, by a
new one, which begins where LangGraph is and takes over the calls that are in flight.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from langgraph.errors import GraphInterrupt
from langgraph.pregel import Pregel

from .. import events
from ..bridge import serving_loop
from ..errors import TargetError, described
from ..overlap import api
from .node_steps import ParallelNode

__all__ = ["follow", "followed", "watcher"]

MAX_IDLE = 3
"""How many scouts in a row may make no call, until there are no more for this run."""


class _GraphRun:
    """One run of a graph, with its scout."""

    def __init__(self, program: Any, home: asyncio.AbstractEventLoop) -> None:
        from ..overlap.session import Session
        from .graph_program import Progress

        class GraphSession(Session):
            has_begun = False
            run: _GraphRun

            def begin(self, call: Any) -> Any:
                if call.side == "main":
                    made_in.append((call, events.current()))
                return super().begin(call)

            async def before_reply(self) -> None:
                await super().before_reply()
                here, saves = asyncio.get_running_loop(), _saves.get()
                threads = [asyncio.wrap_future(each) for each in saves if isinstance(each, concurrent.futures.Future)]
                others = [each for each in saves if isinstance(each, asyncio.Future) and each.get_loop() is here]
                await asyncio.gather(*map(asyncio.shield, [*threads, *others]), return_exceptions=True)

            def is_held_before(self, point: Any) -> bool:
                # Several nodes run at once, and LangGraph between them: once they have begun, it may be anywhere.
                return not self.has_begun

        self.program = program
        made_in = self.made_in = list[tuple[Any, events.OpenSpan | None]]()
        self.session = GraphSession(home)
        self.session.run = self
        self.scouts: list[Any] = []
        self.tasks: set[str] = set()
        self._progress = Progress()
        self._step = self._now = 0
        self._idle = 0

    def follow(self, loop: Any) -> None:
        """Run ahead from where LangGraph is, before any of the step's nodes has begun, if there is a need to."""
        self._now = loop.step
        if self.scouts and (self._idle > MAX_IDLE or not self._progress.is_behind(loop.step - self._step)):
            return
        from ..overlap.prefetcher import Scout
        from .graph_program import Following, Progress

        place = self.program.place(loop)
        if place is None:
            return
        state, position, given = place
        self._progress, self._step = Progress(), loop.step

        def begin() -> None:
            before = len(self.session.calls)
            self.session.has_begun = False
            if self.scouts:
                self.scouts[-1].close()
                self.session.abandon()
            scout = Scout(self.session, Following(self.program, position, self._progress), (state, given), {})
            self.scouts.append(scout)
            scout.go()
            self.session.has_begun = True
            self._idle = 0 if len(self.session.calls) > before else self._idle + 1

        self._on_loop(begin)

    def interrupted(self, name: str) -> None:
        """The run ends with this step: what was asked for later ones, and for the rest of this node, is not needed."""
        own, end = self._progress.extent(self._now - self._step, name)

        def cancel() -> None:
            self.scouts[-1].stop_after(end)
            self.session.cancel(lambda point: point >= end or any(start <= point < last for start, last in own))

        self._on_loop(cancel)

    def end(self) -> None:
        """The graph's run is over: cancel what is in flight and was not taken."""
        for task in self.tasks:
            _tasks.pop(task, None)

        def close() -> None:
            self.session.close()
            for scout in self.scouts:
                scout.close()

        self._on_loop(close)

    def _on_loop(self, call: Callable[[], None]) -> None:
        loop: asyncio.AbstractEventLoop = self.session.loop
        if asyncio._get_running_loop() is loop:
            call()
            return
        done = threading.Event()

        def run() -> None:
            try:
                call()
            finally:
                done.set()

        try:
            loop.call_soon_threadsafe(run)
        except RuntimeError:  # at the interpreter's exit
            return
        done.wait()

    def has_replies(self) -> bool:
        """Whether a node can still gain: by calls that have been made, or by calls that will be."""
        calls = list(self.session.calls)
        return any(not scout.is_over for scout in self.scouts[-1:]) or any(
            call.is_issued and call.side == "scout" and call.partner is None for call in calls
        )


class _Task(NamedTuple):
    """What is known of one of LangGraph's tasks: whose run it is part of, and what is saved behind its back.

    LangGraph hands checkpoints and writes to a saver that may work in a thread, and goes on to change in place what it
    holds (the names that a join has seen); so do nodes and reducers. While an LM answers, the saver is done. Where the
    reply is there already, what is saved would show what the step's nodes have written.
    """

    run: _GraphRun
    saves: tuple[Any, ...]
    is_followed: bool


_tasks: dict[str, _Task] = {}
"""By their identifiers."""

_saves: ContextVar[tuple[Any, ...]] = ContextVar("dspy_parallel_saves", default=())
"""Of the graph that the running code is a task of, and of those around it."""

watcher: ContextVar[Callable[[Any], None] | None] = ContextVar("dspy_parallel_watcher", default=None)
"""Who is told of each run that begins."""

_known: weakref.WeakKeyDictionary[Any, tuple[_GraphRun | None, bool, set[Any]]] = weakref.WeakKeyDictionary()
"""By LangGraph's loops: the run that each is part of, whether that is its own, and what a saver is at work on."""

_programs: weakref.WeakKeyDictionary[Any, tuple[Any, Any]] = weakref.WeakKeyDictionary()
"""By the first node of a graph."""


def follow(loop: Any) -> None:
    """Called when LangGraph has prepared the tasks of a step, before any of them runs."""
    if loop not in _known:
        own = _start(loop)
        if own is not None:
            loop.stack.callback(own.end)
        run = own or _around()
        _known[loop] = run, own is not None, set() if run is None or loop.checkpointer is None else _note_saves(loop)
    run, is_own, saving = _known[loop]
    if run is None:
        return
    if is_own:
        run.follow(loop)
    saves = tuple(each for each in list(saving) if not each.done())
    for task in loop.tasks.values():
        is_followed = is_own and run.program.follows(task.name) and not run.program.goes_on(loop, task.name)
        if is_followed or saves:
            run.tasks.add(task.id)
            _tasks[task.id] = _Task(run, saves, is_followed)


def _around() -> _GraphRun | None:
    """The run that a graph is part of which is a node."""
    if not api.is_inside():
        return None
    from ..overlap.session import current

    return getattr(getattr(current.get(), "session", None), "run", None)


def _note_saves(loop: Any) -> set[Any]:
    """What LangGraph hands to the saver from now on; among what it submits are nodes and a wait, too."""
    submit, put_writes = loop.submit, loop.checkpointer_put_writes
    saves = {*submit.__self__.tasks}  # before the first step, all are saves

    def noting(call: Any, *args: Any, **options: Any) -> Any:
        future = submit(call, *args, **options)
        if call == put_writes or getattr(call, "__name__", "") == "_checkpointer_put_after_previous":
            saves.add(future)
            future.add_done_callback(saves.discard)
        return future

    loop.submit = noting
    return saves


def _start(loop: Any) -> _GraphRun | None:
    nodes = list(loop.nodes.values())
    if not nodes or not all(isinstance(node, ParallelNode) and node.plan.overlap for node in nodes) or api.is_inside():
        return None
    program = _program(loop)
    home = asyncio._get_running_loop() or serving_loop()
    if home is None or not program.is_known or not program.may_ask:
        return None
    run = _GraphRun(program, home)
    if (watch := watcher.get()) is not None:
        watch(run)
    return run


def _explained(graph: Any, *args: Any, **kwargs: Any) -> api.EndedRun | None:
    """Invoke a graph for `explain()`."""
    if not isinstance(graph, Pregel):
        return None
    runs: list[_GraphRun] = []

    def watch(run: _GraphRun) -> None:
        run.session.notes_places = True
        runs.append(run)

    token, exception = watcher.set(watch), None
    try:
        graph.invoke(*args, **kwargs)
    except Exception as exc:
        exception = exc
    finally:
        watcher.reset(token)
    if not runs:
        raise TargetError(
            f"explain() was given {described(graph)}, which was not followed ahead of LangGraph. Give it a graph of "
            "nodes and edges on which parallelize_graph(graph, overlap=True) was called."
        ) from exception
    reasons = [reason for run in runs for scout in run.scouts for reason in scout.reasons]
    return api.EndedRun(runs[0].session, reasons, exception)


api.GRAPHS.append(_explained)


def _program(loop: Any) -> Any:
    from .graph_program import GraphProgram

    first = next(iter(loop.nodes.values()))
    stops = _names(loop.interrupt_before, loop), _names(loop.interrupt_after, loop)
    known = _programs.get(first)
    if known is None or known[0] != stops:
        known = _programs[first] = stops, GraphProgram(loop.nodes, loop.channels, *stops)
    return known[1]


def _names(stops: Any, loop: Any) -> tuple[str, ...]:
    return tuple(loop.nodes) if stops == "*" else tuple(stops or ())


@contextmanager
def followed(task: Any) -> Generator[Any]:
    """The code inside runs a task; if a scout follows it, as one of the main lines of the session that is yielded."""
    known = _tasks.get(task.id)
    if known is None:
        yield None
        return
    from ..overlap.session import Current, current

    run = known.run if known.is_followed and known.run.has_replies() else None
    tokens: list[Any] = [(_saves.reset, _saves.set((*_saves.get(), *known.saves)))]
    if run is not None:
        tokens += (current.reset, current.set(Current(run.session, "main", None))), (api.leave, api.enter())
    try:
        yield run and run.session
    except GraphInterrupt:
        if run is not None:
            run.interrupted(task.name)
        raise
    finally:
        try:
            for reset, token in tokens:
                reset(token)
        except ValueError:
            pass  # the task's coroutine is being closed from elsewhere, in another context
