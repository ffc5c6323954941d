"""`parallel_map()` and `gather()`: several calls at once, written in a sync `forward()`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from . import seams
from .bridge import run_sync
from .errors import BatchInputError, described
from .placement import Engine, check_engine
from .programs import place
from .seams.forked_settings import ForkedSettings, merge
from .task_pool import Job, TaskPool

__all__ = ["gather", "parallel_map"]

T = TypeVar("T")
R = TypeVar("R")


def parallel_map(
    fn: Callable[[T], R], items: Iterable[T], *, max_in_flight: int | None = None, engine: Engine = "auto"
) -> list[R]:
    """Call a function for each item, all at once, and get the list of results, in the items' order.

    It is `[fn(item) for item in items]`, sooner, for use in a sync `forward()`. Inside a bridged program the calls
    run on its loop; in plain sync code on the loop that serves sync callers. Each call has a copy of the caller's
    context: context variables that it sets are not seen afterwards. Trace, usage and history are as if the calls had
    been made one after the other.

    If a call fails, those behind it are cancelled, those before it are waited for, and the first error, in the items'
    order, is raised: the one that the plain loop would have raised. Trace, usage and history then end with that call. A
    cancel of the caller cancels all calls.

    Args:
        fn: A sync or async function, or a module that takes one positional argument.
        items: Read at once.
        max_in_flight: Calls at once; by default all.
        engine: `"auto"`, `"loop"` or `"thread"`, see `run()`.

    Returns:
        The results.

    Raises:
        BatchInputError: For something that cannot be called.
        UnknownEngineError: For an unknown engine.
        BaseException: What the first failing call raises.

    Example:
        ```python
        import dspy
        from dspy_parallel import parallel_map

        class Digest(dspy.Module):
            def __init__(self):
                super().__init__()
                self.summarize = dspy.Predict("text -> summary")
                self.join = dspy.Predict("summaries: list[str] -> digest")

            def forward(self, texts):
                found = parallel_map(lambda text: self.summarize(text=text), texts)
                return self.join(summaries=[each.summary for each in found])

        dspy.configure(lm=dspy.LM("openai/any-model"))
        assert Digest()(texts=["one", "two", "three"]).digest
        ```
    """
    _check(fn, "parallel_map() was given {} as its function", "swap the two" if callable(items) else "give a function")
    return _all_at_once([(fn, (item,)) for item in items], max_in_flight, engine)


def gather(*calls: Callable[[], Any], engine: Engine = "auto") -> list[Any]:
    """Make several different calls at once, and get the list of their results, in order.

    Everything said of `parallel_map()` holds: it is `[call() for call in calls]`, sooner.

    Args:
        *calls: Functions without parameters, sync or async, most often lambdas.
        engine: `"auto"`, `"loop"` or `"thread"`, see `run()`.

    Returns:
        The results.

    Raises:
        BatchInputError: For something that cannot be called.
        UnknownEngineError: For an unknown engine.
        BaseException: What the first failing call raises.

    Example:
        ```python
        import dspy
        from dspy_parallel import gather

        class Review(dspy.Module):
            def __init__(self):
                super().__init__()
                self.praise = dspy.Predict("text -> praise")
                self.blame = dspy.Predict("text -> blame")

            def forward(self, text):
                good, bad = gather(lambda: self.praise(text=text), lambda: self.blame(text=text))
                return dspy.Prediction(praise=good.praise, blame=bad.blame)

        dspy.configure(lm=dspy.LM("openai/any-model"))
        assert Review()(text="It is a text.").blame
        ```
    """
    for call in calls:
        _check(call, "gather() was given {}", "give functions, each as an argument")
    return _all_at_once([(call, ()) for call in calls], None, engine)


def _check(fn: Any, message: str, advice: str) -> None:
    if not callable(fn):
        raise BatchInputError(f"{message.format(described(fn))}, which cannot be called: {advice}.")


def _all_at_once(
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]], limit: int | None, engine: Engine
) -> list[Any]:
    check_engine(engine)
    if limit is not None and limit < 1:
        raise ValueError(f"max_in_flight is {limit}; at least one call has to be in flight.")
    if not calls:
        return []
    seams.install()
    branches = [_Branching(fn, args, number, engine) for number, (fn, args) in enumerate(calls)]
    first: int | None = None
    try:
        first = cast("Any", run_sync)(_run_all, branches, limit or len(branches))
    finally:
        kept = branches if first is None else branches[: first + 1]
        merge([each.branch for each in kept], [each.branch for each in branches[len(kept) :]])
    if first is not None:
        raise branches[first].taken_error()
    return [each.result for each in branches]


class _Branching(Job):
    """One call, and what became of it."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], number: int, engine: Engine) -> None:
        self.branch = ForkedSettings()
        super().__init__(fn, args, {}, self.branch.context, place(fn, engine, args))
        self.number = number
        self.result: Any = None
        self.error: BaseException | None = None

    def taken_error(self) -> BaseException:
        """The error, once: no cycle between a traceback and the frames in it."""
        error, self.error = self.error, None
        assert error is not None
        return error


async def _run_all(calls: list[_Branching], limit: int) -> int | None:
    """Run the calls; the number of the first that failed."""
    done = asyncio.Event()
    left = len(calls)
    failed: int | None = None

    def on_done(call: Any, result: Any, error: BaseException | None) -> None:
        nonlocal left, failed
        left -= 1
        call.result, call.error = result, error
        if error is not None and (failed is None or call.number < failed):
            failed = number = call.number
            pool.cancel(lambda other: other.number > number)
        if not left:
            done.set()

    pool = TaskPool(asyncio.get_running_loop(), limit, on_done)
    for call in calls:
        pool.submit(call)
    try:
        await done.wait()
    except BaseException:
        pool.cancel()
        while left:  # a second cancel must not leave calls behind, either
            try:
                await done.wait()
            except asyncio.CancelledError:
                continue
        raise
    return failed
