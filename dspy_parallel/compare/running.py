"""Runs a program as it is and parallelised, and records both."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import dspy

from .. import seams
from ..bridge import is_coroutine_function, is_generator_function
from ..errors import DecorationError, TargetError
from ..generated import check_module, look_up
from ..modules import async_module

# Imported before the clock starts.
from ..overlap.running import run_ahead  # noqa: F401 # pyright: ignore[reportUnusedImport]
from ..programs import run
from ..seams.connections import close_pools
from ..targets import FIRST_CALL, Target, lms_for_first_calls
from ..timeline import Timeline, record
from ..timeline.figures import lm_calls_above

if TYPE_CHECKING:
    from ..testing import LMServer

__all__ = ["Comparison", "Run", "compare"]

T = TypeVar("T")
Inputs = Sequence[dict[str, Any]]
Call = Callable[[dict[str, Any]], Any]
AsyncCall = Callable[[dict[str, Any]], Awaitable[Any]]

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
    """Both ways."""

    before: Run
    after: Run

    @property
    def ratio(self) -> float:
        """How many times as fast the parallel run is."""
        return self.before.seconds / self.after.seconds


def compare(target: Target, inputs: Inputs, server: LMServer | None = None) -> Comparison:
    """Run the program as it is, one input after the other; then parallelised, all inputs at once.

    Blocks the calling thread, which must have no running event loop. Each way begins with an empty cache and without
    connections; the first one has the pools that DSPy and LiteLLM make by themselves. The class of a module is
    decorated in between, and stays so: this is for processes of its own.

    Args:
        target: The program.
        inputs: What it is called with.
        server: The loopback server that answers, if one does: a first call of it is not measured.

    Raises:
        TargetError: If the program is parallelised already, cannot be made, or is none that can be parallelised.
    """
    try:
        runnable = target.runnable()
    except TargetError:
        raise
    except Exception as error:
        raise TargetError(f"{target.name} cannot be made: {type(error).__name__}: {error}") from error
    if target.is_graph:
        how, as_it_is, parallel = _graph(runnable)
    elif target.kind == "module":
        how, as_it_is, parallel = _module(runnable)
    else:
        how, as_it_is, parallel = _function(runnable)
    before = _in_thread(lambda: _before(how[0], as_it_is, inputs, server))
    after = asyncio.run(_after(how[1], parallel, inputs, server))
    return Comparison(before, after)


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
    _empty_cache()
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


async def _after(how: str, prepare: Callable[[], AsyncCall], inputs: Inputs, server: LMServer | None) -> Run:
    seams.install()
    close_pools()
    call = prepare()
    for lm in lms_for_first_calls(server):  # a client's async connections belong to the event loop
        await lm.acall(FIRST_CALL)
    if server is not None:
        server.reset_stats()
    _empty_cache()
    with record() as timeline:
        began = time.perf_counter()
        outputs = await asyncio.gather(*(call(given) for given in inputs), return_exceptions=True)
        seconds = time.perf_counter() - began
    return Run(how, seconds, list(outputs), timeline)


def _empty_cache() -> None:
    """What one way has asked must not be known to the other."""
    with contextlib.suppress(Exception):  # the memory of an LM class that has its own cache is its own affair
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)


Ways = tuple[tuple[str, str], Call, Callable[[], AsyncCall]]
"""What is called, as it is and parallelised; the first call; what makes the second one, once the first is over."""


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

    def prepare() -> AsyncCall:
        async_module(module, overlap=True)
        return lambda given: module.acall(**given)

    return (f"{name}(...)", f"@async_module(overlap=True), await {name}.acall(...)"), lambda g: module(**g), prepare


def _awaited(name: str, function: Any) -> Ways:
    """Code that is written for an event loop, with whatever in it blocks."""
    return (
        (f"await {name}(...)", f"await run({name}, ...)"),
        lambda given: asyncio.run(function(**given)),
        lambda: lambda given: run(function, **given),
    )


def _function(function: Any) -> Ways:
    name = getattr(function, "__qualname__", type(function).__qualname__)
    if hasattr(function, "__overlap_original__") or hasattr(function, "__bridge_engine__"):
        raise TargetError(f"{name} is parallelised already: there is nothing to compare. Take the decorator off.")
    if is_generator_function(function):
        raise TargetError(
            f"{name} is a generator function, whose code runs only as far as somebody takes its items. Name a function "
            "that takes them."
        )
    if is_coroutine_function(function):
        return _awaited(name, function)
    return (
        (f"{name}(...)", f"await run({name}, ..., overlap=True)"),
        lambda given: function(**given),
        lambda: lambda given: run(function, overlap=True, **given),
    )


def _graph(graph: Any) -> Ways:
    from ..doctor.graphs import is_parallelized, programs_of_graph
    from ..langgraph.graphs import converted

    if is_parallelized(graph):
        raise TargetError("The graph is parallelised already: there is nothing to compare. Name the one before it was.")
    is_sync = all(program.where == "threads" for program in programs_of_graph(graph))

    def config() -> Any:
        return {"configurable": {"thread_id": str(uuid.uuid4())}}

    def as_it_is(given: dict[str, Any]) -> Any:
        return graph.invoke(given, config()) if is_sync else asyncio.run(graph.ainvoke(given, config()))

    def prepare() -> AsyncCall:
        twin = converted(graph)
        return lambda given: twin.ainvoke(given, config())

    method = "graph.invoke(...)" if is_sync else "await graph.ainvoke(...)"
    return (method, "parallelize_graph(graph), await graph.ainvoke(...)"), as_it_is, prepare
