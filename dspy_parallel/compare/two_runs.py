"""Runs a program as it is and parallelised, and records both."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import gc
import importlib
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import dspy

from .. import seams
from ..analysis.places import Place
from ..callables import is_coroutine_function
from ..doctor.target import Target
from ..errors import DecorationError, TargetError
from ..generated import check_module, look_up
from ..runs import run
from ..seams.connections import close_pools
from ..timeline import Timeline, record
from ..timeline.figures import lm_calls_above
from .differences import Difference, differences

if TYPE_CHECKING:
    from ..testing import LMServer

__all__ = ["FIRST_CALL", "Comparison", "Run", "compare", "empty_cache", "lms_for_first_calls"]

T = TypeVar("T")
Inputs = Sequence[dict[str, Any]]
Call = Callable[[dict[str, Any]], Any]
AsyncCall = Callable[[dict[str, Any]], Awaitable[Any]]

FIRST_CALL = "Reply with the word: ready"

_REQUESTED = {"requests", "cached", "error", "unfinished"}
"""What tells of a call how many requests it has made, or that it may have made none."""


@dataclass(frozen=True)
class Run:
    """All inputs, one way.

    Attributes:
        how: What was called, for people.
        seconds: From the first call to the last result.
        outputs: What each call returned, or the exception that it raised.
        timeline: What ran when.
    """

    how: str
    seconds: float
    outputs: list[Any]
    timeline: Timeline

    @property
    def stops(self) -> list[str]:
        """Where overlap had to stop, and why."""
        stops = [span for span in self.timeline.spans if span.kind == "stop"]
        places = (Place(str(stop.facts["file"]), int(stop.facts["line"])).short for stop in stops)
        whys = (stop.name.partition(": ")[2] for stop in stops)
        return list(dict.fromkeys(f"{place}: {why}" for place, why in zip(places, whys, strict=True)))

    @property
    def requests(self) -> int | None:
        """LM requests that were made; None if there was an LM of which only the calls are seen."""
        spans = self.timeline.spans
        calls, above = [span for span in spans if span.kind == "lm"], lm_calls_above(spans)
        callers = {found.id for call in calls if (found := above[call.id]) is not None}
        if any(not (_REQUESTED & call.facts.keys()) and call.id not in callers for call in calls):
            return None
        return sum(int(call.facts.get("requests", 0)) for call in calls)


@dataclass(frozen=True)
class Comparison:
    """Both ways.

    Attributes:
        before: As it is.
        after: Parallelised.
        different: Where their outputs differ.
        fickle: Where two runs as it is differ, too: this is not counted.
    """

    before: Run
    after: Run
    different: list[Difference] = field(default_factory=list[Difference])
    fickle: list[Difference] = field(default_factory=list[Difference])

    @property
    def ratio(self) -> float:
        """How many times as fast the parallel run is."""
        return self.before.seconds / self.after.seconds


def compare(target: Target, inputs: Inputs, server: LMServer | None = None) -> Comparison:
    """Run the program as it is, one input after the other; then parallelised, all inputs at once.

    Blocks the calling thread, which must have no running event loop. Each way begins with an empty cache and without
    connections; the first one has the pools that DSPy and LiteLLM make by themselves. Where outputs differ, the
    program runs as it is once more: what differs then, too, is the program's own doing. For processes of its own:
    patches are taken away in between.

    Args:
        target: The program.
        inputs: What it is called with.
        server: The loopback server that answers, if one does: a first call of it is not measured.

    Raises:
        TargetError: If the program is parallelised already, cannot be made, or is none that can be parallelised.
    """
    runnable = target.runnable()
    if target.is_graph:
        how, as_it_is, parallel = _graph(runnable)
    elif target.kind == "module":
        how, as_it_is, parallel = _module(runnable)
    else:
        how, as_it_is, parallel = _function(runnable)
    seams.uninstall()
    try:
        before = _in_thread(lambda: _before(how[0], as_it_is, inputs, server))
        after = asyncio.run(_after(how[1], parallel, inputs, server))
        different = list(differences(before.outputs, after.outputs))
        fickle: list[Difference] = []
        if different:
            seams.uninstall()
            again = _in_thread(lambda: _before(how[0], as_it_is, inputs, server))
            own = {difference.path for difference in differences(before.outputs, again.outputs)}
            fickle = [difference for difference in different if difference.path in own]
            different = [difference for difference in different if difference.path not in own]
    finally:
        seams.uninstall()
    return Comparison(before, after, different, fickle)


def lms_for_first_calls(server: LMServer | None) -> list[Any]:
    """Import the client libraries of the LMs that there are; give an LM for each, for a first call.

    With a real provider there are none: nothing is called that the program would not call.

    Args:
        server: The loopback server, if it is the one that answers.
    """
    lms = [found for found in gc.get_objects() if issubclass(type(found), dspy.LM) and hasattr(found, "kwargs")]
    if any(getattr(lm, "_engine_spec", "litellm") == "litellm" for lm in lms):
        importlib.import_module("litellm")
    if server is None:
        return []
    asking = [lm for lm in lms if lm.kwargs.get("api_base") == server.api_base]
    return [lm.copy(cache=False) for lm in {str(getattr(lm, "_engine_spec", "litellm")): lm for lm in asking}.values()]


def _in_thread(work: Callable[[], T]) -> T:
    """In the main thread, LiteLLM's sync calls make an event loop that nobody closes.

    A daemon thread, so that Ctrl-C need not wait for it.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(contextvars.copy_context().run(work))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _before(how: str, call: Call, inputs: Inputs, server: LMServer | None) -> Run:
    for lm in lms_for_first_calls(server):
        lm(FIRST_CALL)
    if server is not None:
        server.reset_stats()  # replayed latencies begin anew
    empty_cache()
    outputs: list[Any] = []
    with record() as timeline:
        began = time.perf_counter()
        for given in inputs:
            try:
                outputs.append(call(given))
            except Exception as error:
                outputs.append(error)
        seconds = time.perf_counter() - began
    return Run(how, seconds, outputs, timeline)


async def _after(how: str, call: AsyncCall, inputs: Inputs, server: LMServer | None) -> Run:
    seams.install()
    close_pools()
    for lm in lms_for_first_calls(server):  # a client's async connections belong to the event loop
        await lm.acall(FIRST_CALL)
    if server is not None:
        server.reset_stats()
    empty_cache()
    with record() as timeline:
        began = time.perf_counter()
        outputs = await asyncio.gather(*(call(given) for given in inputs), return_exceptions=True)
        seconds = time.perf_counter() - began
    return Run(how, seconds, list(outputs), timeline)


def empty_cache() -> None:
    """What one way has asked must not be known to the other."""
    with contextlib.suppress(Exception):  # the memory of an LM class that has its own cache is its own affair
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)


Ways = tuple[tuple[str, str], Call, AsyncCall]
"""What is called, as it is and parallelised; how the first is called, and how the second."""


def _module(module: Any) -> Ways:
    cls, name = type(module), type(module).__qualname__
    forward, aforward = look_up(module, None), getattr(cls, "aforward", None)
    if hasattr(forward, "__overlap_original__"):
        raise TargetError(f"{name} overlaps already (overlap=True): there is nothing to compare. Take that out.")
    if forward is None and aforward is not None and is_coroutine_function(aforward):

        async def acall(**given: Any) -> Any:
            return await module.acall(**given)  # looked up when it is recorded

        return _awaited(f"{name}.acall", acall)
    try:
        check_module(cls, forward)
    except DecorationError as error:
        raise TargetError(f"{name} cannot be parallelised: {error}") from error
    return (f"{name}(...)", f"await run({name}, ..., overlap=True)"), lambda g: module(**g), _overlapped(module)


def _overlapped(program: Any) -> AsyncCall:
    return lambda given: run(program, overlap=True, **given)


def _awaited(name: str, function: Any) -> Ways:
    """Code that is written for an event loop, with whatever in it blocks."""
    return (
        (f"await {name}(...)", f"await run({name}, ...)"),
        lambda given: asyncio.run(function(**given)),
        lambda given: run(function, **given),
    )


def _function(function: Any) -> Ways:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    if hasattr(function, "__overlap_original__") or hasattr(function, "__bridge_engine__"):
        raise TargetError(f"{name} is parallelised already: there is nothing to compare. Take the decorator off.")
    if is_coroutine_function(function):
        return _awaited(name, function)
    how = f"{name}(...)", f"await run({name}, ..., overlap=True)"
    return how, lambda given: function(**given), _overlapped(function)


def _graph(graph: Any) -> Ways:
    from ..doctor.graph_nodes import is_parallelized, programs_of_graph
    from ..langgraph import parallelize_graph

    if is_parallelized(graph):
        raise TargetError("The graph is parallelised already: there is nothing to compare. Name the one before it was.")
    is_sync = all(program.where == "threads" for program in programs_of_graph(graph))
    parallel: list[Any] = []

    def config() -> Any:
        return {"configurable": {"thread_id": str(uuid.uuid4())}}

    def as_it_is(given: dict[str, Any]) -> Any:
        return graph.invoke(given, config()) if is_sync else asyncio.run(graph.ainvoke(given, config()))

    async def call(given: dict[str, Any]) -> Any:
        if not parallel:  # not before the first way is over
            parallel.append(parallelize_graph(copy.copy(graph), overlap=True))
        return await parallel[0].ainvoke(given, config())

    method = "graph.invoke(...)" if is_sync else "await graph.ainvoke(...)"
    return (method, "parallelize_graph(graph, overlap=True), await graph.ainvoke(...)"), as_it_is, call
