"""DSPy's own executor on the event loop: the items of `dspy.Parallel`, `Module.batch`, `Evaluate` and optimizers.

DSPy's code for this stays what it is, with its progress bars, error limits, rules for stragglers and Ctrl-C. Only the
`ThreadPoolExecutor` that it makes is replaced by one whose workers are tasks, and `concurrent.futures.wait` by one that
does not look at every future each time one of them is done.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections import deque
from collections.abc import Callable, Set
from concurrent.futures import FIRST_COMPLETED, Executor, Future
from concurrent.futures._base import DoneAndNotDoneFutures
from contextvars import Context, ContextVar
from functools import partial
from typing import Any, TypeVar, cast

from ..bridge import Engine, placement_of, serving_loop, start
from ..bridge.placement import _key, _name
from .executors import _Event
from .table import Seam, register

__all__ = ["LoopExecutor", "use_loop"]

T = TypeVar("T")

PROBATION_WIDTH = 16
"""Items in flight, in threads, while it is not known yet whether they block. It doubles after each `PROBATION_SECONDS`,
because items may wait for each other."""
PROBATION_SECONDS = 0.5

_engine: Engine | None = None
"""What items run on; None: in DSPy's threads."""


def use_loop(engine: Engine | None) -> None:
    """Have the items of executors made from now on run on this engine, or, with None, in DSPy's threads."""
    global _engine
    _engine = engine


class _Item(Future[T]):
    """The future of one item; knows whom to ask when it is waited for."""

    def __init__(self, owner: LoopExecutor) -> None:
        super().__init__()
        self.owner = owner


class LoopExecutor(Executor):
    """Runs each item as a task: on the loop of the program that makes the executor, else on that of sync callers.

    Each has a context of its own and an empty one, as in a new thread. `max_workers` is the number of items in flight.

    All state but the list of finished items belongs to the loop's thread.
    """

    def __init__(
        self,
        max_workers: int,
        loop: asyncio.AbstractEventLoop,
        engine: Engine,
        known_as: Callable[[Any], Any],
    ) -> None:
        if max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")  # as ThreadPoolExecutor says it
        self._limit = max_workers
        self._loop = loop
        self._engine: Engine = engine
        self._known_as = known_as
        self._waiting: deque[tuple[_Item[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._since = 0.0
        self._again: asyncio.TimerHandle | None = None
        self._done: deque[_Item[Any]] = deque()
        self._is_done = _Event()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have the item run as soon as there is room for it."""
        item: _Item[T] = _Item(self)
        self._loop.call_soon_threadsafe(self._arrive, item, partial(fn, **kwargs) if kwargs else fn, args)
        return item

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancel what is left: DSPy calls this when no result matters any more."""
        try:
            self._loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:  # the loop is closed, and has cancelled its tasks
            pass

    def wait(self, items: Set[Any], timeout: float | None) -> DoneAndNotDoneFutures[Any]:
        """`concurrent.futures.wait` for the first of the items that is done and has not been reported yet."""
        if not self._done:
            self._is_done.wait(timeout)
        self._is_done.clear()
        done: set[Any] = set()
        while self._done:
            done.add(self._done.popleft())
        return DoneAndNotDoneFutures(done, cast("set[Any]", items - done))

    # On the event loop

    def _arrive(self, item: _Item[Any], fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._waiting.append((item, fn, args))
        self._fill()

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._limit:
            known_as = self._known_as(self._waiting[0][2])
            if not self._may_start(known_as):
                return
            item, fn, args = self._waiting.popleft()
            if item.set_running_or_notify_cancel():
                coroutine = self._run(item, fn, args, known_as)
                # A copy of an empty context: `create_task(context=...)` is new in Python 3.11.
                task = Context().run(self._loop.create_task, coroutine)
                self._running.add(task)
                task.add_done_callback(self._ended)

    def _may_start(self, known_as: Any) -> bool:
        if self._engine != "auto" or len(self._running) < PROBATION_WIDTH:
            return True
        if placement_of(known_as).state != "probation":
            return True
        now = time.monotonic()
        self._since = self._since or now
        if len(self._running) < PROBATION_WIDTH * 2 ** int((now - self._since) / PROBATION_SECONDS):
            return True
        if self._again is None:
            self._again = self._loop.call_later(PROBATION_SECONDS, self._look_again)
        return False

    def _look_again(self) -> None:
        self._again = None
        self._fill()

    async def _run(self, item: _Item[Any], fn: Callable[..., Any], args: tuple[Any, ...], known_as: Any) -> None:
        try:
            item.set_result(await start(fn, args, {}, self._engine, known_as))
        except BaseException as exc:  # whatever it is, it belongs to whoever waits for the item, not to the loop
            item.set_exception(exc)
        self._done.append(item)
        self._is_done.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._fill()

    def _cancel(self) -> None:
        while self._waiting:
            self._waiting.popleft()[0].cancel()
        if self._again is not None:
            self._again.cancel()
        for task in self._running:
            task.cancel()


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


def _naming(function: Any) -> Callable[[tuple[Any, ...]], Any]:
    """How the items of an executor are known, given the arguments of DSPy's worker, the last of which is the item."""
    code = getattr(function, "__code__", None)
    cells = getattr(function, "__closure__", None) or ()
    enclosed = {name: cell.cell_contents for name, cell in zip(code.co_freevars if code else (), cells)}  # noqa: B905
    if {"program", "metric"} <= enclosed.keys():
        key = _together(enclosed["program"], enclosed["metric"])
        return lambda _: key

    def of_item(args: tuple[Any, ...]) -> Any:
        item = args[-1]
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
        if isinstance(first, _Item) and return_when == FIRST_COMPLETED:
            return first.owner.wait(items, timeout)
        return stock(items, timeout=timeout, return_when=return_when)

    return wait


register(
    Seam("dspy.utils.parallelizer:ThreadPoolExecutor", replacement=_make_executor),
    Seam("dspy.utils.parallelizer:wait", replacement=_make_wait),
    Seam("dspy.utils.parallelizer:ParallelExecutor.execute", _execute, when=lambda: _engine is not None, layer="loop"),
)
