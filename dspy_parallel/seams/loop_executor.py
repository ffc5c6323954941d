"""DSPy's own executor on the event loop: the items of `dspy.Parallel`, `Module.batch`, `Evaluate` and optimizers.

DSPy's code for this stays what it is, with its progress bars, error limits, rules for stragglers and Ctrl-C. Only the
`ThreadPoolExecutor` that it makes is replaced by one whose workers are tasks, and `concurrent.futures.wait` by one that
does not look at every future each time one of them is done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Set
from concurrent.futures import FIRST_COMPLETED, Executor, Future
from concurrent.futures._base import DoneAndNotDoneFutures
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import Any, cast

from .. import events
from ..bridge import serving_loop
from ..placement import Placement
from ..task_pool import Job, TaskPool
from .table import Seam, register
from .thread_waits import BridgedEvent

__all__ = ["LoopExecutor", "use_loop"]

Place = Callable[..., Placement]

_place: Place | None = None
"""Tells where an item's program runs; None: in DSPy's threads."""


def use_loop(place: Place | None) -> None:
    """Have the items of executors made from now on run as tasks, each where `place(program, rest=(item,))` says.

    With None they run in DSPy's threads.
    """
    global _place
    _place = place


@dataclass(eq=False)
class _Item(Job):
    """One call of DSPy's worker, and its future."""

    future: _Future


class _Future(Future[Any]):
    """Knows whom to ask when it is waited for."""

    def __init__(self, owner: LoopExecutor) -> None:
        super().__init__()
        self.owner = owner


class LoopExecutor(Executor):
    """Runs each item as a task: on the loop of the program that makes the executor, else on that of sync callers.

    Each has a context of its own and an empty one, as in a new thread. `max_workers` is the number of items in flight.
    """

    def __init__(self, max_workers: int, loop: asyncio.AbstractEventLoop, place: Callable[[Any], Placement]) -> None:
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")  # as ThreadPoolExecutor says it
        self._jobs = TaskPool(loop, max_workers, self._landed)
        self._place = place
        self._done: deque[_Future] = deque()
        self._is_done = BridgedEvent()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have the item run as soon as there is room for it."""
        future, fn = _Future(self), events.carried(fn)
        self._jobs.submit(_Item(fn, args, kwargs, Context(), self._place(args[-1]), future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancel what is left: DSPy calls this when no result matters any more."""
        self._jobs.cancel()

    def wait(self, futures: Set[Any], timeout: float | None) -> DoneAndNotDoneFutures[Any]:
        """`concurrent.futures.wait` for the first that is done and has not been reported yet."""
        if not self._done:
            self._is_done.wait(timeout)
        self._is_done.clear()
        done: set[Any] = set()
        while self._done:
            done.add(self._done.popleft())
        return DoneAndNotDoneFutures(done, cast("set[Any]", futures - done))

    def _landed(self, item: _Item, result: Any, exception: BaseException | None) -> None:
        if exception is None:
            item.future.set_result(result)
        else:
            item.future.set_exception(exception)
        self._done.append(item.future)
        self._is_done.set()


# Where items run: DSPy's own function around them says nothing about the program in them.

_function: ContextVar[Any] = ContextVar("dspy_parallel_executed", default=None)


def _execute(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Remember what `ParallelExecutor.execute(function, data)` was called with, for the executor that it makes."""
    token = _function.set(kwargs.get("function", args[0] if args else None))
    try:
        return original(*args, **kwargs)
    finally:
        _function.reset(token)


def _placing(place: Place, function: Any) -> Callable[[Any], Placement]:
    """Where the items of an executor run."""
    code = getattr(function, "__code__", None)
    cells: tuple[Any, ...] = getattr(function, "__closure__", None) or ()
    enclosed: dict[str, Any] = {name: cell.cell_contents for name, cell in zip(code.co_freevars if code else (), cells)}  # noqa: B905
    if {"program", "metric"} <= enclosed.keys():
        # Of Evaluate: the metric is called with what the program returns, and may need a thread, too.
        program, metric = enclosed["program"], enclosed["metric"]
        return lambda item: place(program, rest=(item,), then=metric)

    def of_item(item: Any) -> Placement:
        is_pair = isinstance(item, tuple) and len(item) == 2 and callable(item[0])
        return place(item[0] if is_pair else function, rest=(item[1] if is_pair else item,))

    return of_item


def _make_executor(stock: Callable[..., Any]) -> Callable[..., Any]:
    def make(max_workers: int) -> Executor:
        # Without a loop: a callback on the loop that serves sync callers. It blocks that loop, as it always would.
        loop = serving_loop() if _place is not None else None
        if _place is None or loop is None:
            return cast("Executor", stock(max_workers=max_workers))
        return LoopExecutor(max_workers, loop, _placing(_place, _function.get()))

    return make


def _make_wait(stock: Callable[..., Any]) -> Callable[..., Any]:
    def wait(items: Any, timeout: float | None = None, return_when: str = "ALL_COMPLETED") -> Any:
        first = next(iter(items), None)
        if isinstance(first, _Future) and return_when == FIRST_COMPLETED:
            return first.owner.wait(items, timeout)
        return stock(items, timeout=timeout, return_when=return_when)

    return wait


register(
    Seam("dspy.utils.parallelizer:ThreadPoolExecutor", replacement=_make_executor),
    Seam("dspy.utils.parallelizer:wait", replacement=_make_wait),
    Seam("dspy.utils.parallelizer:ParallelExecutor.execute", _execute, when=lambda: _place is not None, layer="loop"),
)
