"""DSPy's own executor on the event loop: the items of `dspy.Parallel`, `Module.batch`, `Evaluate` and optimizers.

DSPy's code for this stays what it is, with its progress bars, error limits, rules for stragglers and Ctrl-C. Only the
`ThreadPoolExecutor` that it makes is replaced by one whose workers are tasks, and `concurrent.futures.wait` by one that
does not look at every future each time one of them is done.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Set
from concurrent.futures import FIRST_COMPLETED, Executor, Future
from concurrent.futures._base import DoneAndNotDoneFutures
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import Any, cast

from .. import events
from ..bridge import Engine, Flight, Launch, serving_loop
from ..bridge.placement import _key, _name
from .executors import _Event
from .table import Seam, register

__all__ = ["LoopExecutor", "use_loop"]

_engine: Engine | None = None
"""What items run on; None: in DSPy's threads."""


def use_loop(engine: Engine | None) -> None:
    """Have the items of executors made from now on run on this engine, or, with None, in DSPy's threads."""
    global _engine
    _engine = engine


@dataclass(eq=False)
class _Item(Launch):
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

    def __init__(
        self, max_workers: int, loop: asyncio.AbstractEventLoop, engine: Engine, known_as: Callable[[Any], Any]
    ) -> None:
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")  # as ThreadPoolExecutor says it
        self._flight = Flight(loop, max_workers, engine, self._landed)
        self._known_as = known_as
        self._done: deque[_Future] = deque()
        self._is_done = _Event()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have the item run as soon as there is room for it."""
        future, fn = _Future(self), events.carried(fn)
        known_as = self._known_as(args[-1])
        self._flight.launch(_Item(fn, args, kwargs, Context(), known_as, known_as, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancel what is left: DSPy calls this when no result matters any more."""
        self._flight.cancel()

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


# What `engine="auto"` remembers items by. DSPy's own function around them is the same for all.

_function: ContextVar[Any] = ContextVar("dspy_parallel_executed", default=None)
_pairs: weakref.WeakKeyDictionary[Any, weakref.WeakKeyDictionary[Any, type]] = weakref.WeakKeyDictionary()


def _execute(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Remember what `ParallelExecutor.execute(function, data)` was called with, for the executor that it makes."""
    token = _function.set(kwargs.get("function", args[0] if args else None))
    try:
        return original(*args, **kwargs)
    finally:
        _function.reset(token)


def _together(program: Any, metric: Any) -> type:
    """One key for a program with a metric: either may block."""
    by_metric = _pairs.setdefault(_key(program), weakref.WeakKeyDictionary())
    key = by_metric.get(_key(metric))
    if key is None:
        name = f"{_name(program)} with {_name(metric)}"
        key = by_metric[_key(metric)] = type(name, (), {"__module__": "dspy.Evaluate"})
    return key


def _naming(function: Any) -> Callable[[Any], Any]:
    """By what the items of an executor are known."""
    code = getattr(function, "__code__", None)
    cells: tuple[Any, ...] = getattr(function, "__closure__", None) or ()
    enclosed: dict[str, Any] = {name: cell.cell_contents for name, cell in zip(code.co_freevars if code else (), cells)}  # noqa: B905
    if {"program", "metric"} <= enclosed.keys():
        key = _together(enclosed["program"], enclosed["metric"])
        return lambda _: key

    def of_item(item: Any) -> Any:
        is_pair = isinstance(item, tuple) and len(item) == 2 and callable(item[0])
        return item[0] if is_pair else function

    return of_item


def _make_executor(stock: Callable[..., Any]) -> Callable[..., Any]:
    def make(max_workers: int) -> Executor:
        # Without a loop: a callback on the loop that serves sync callers. It blocks that loop, as it always would.
        loop = serving_loop() if _engine is not None else None
        if _engine is None or loop is None:
            return cast("Executor", stock(max_workers=max_workers))
        return LoopExecutor(max_workers, loop, _engine, _naming(_function.get()))

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
    Seam("dspy.utils.parallelizer:ParallelExecutor.execute", _execute, when=lambda: _engine is not None, layer="loop"),
)
