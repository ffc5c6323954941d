"""One batch as it runs: which examples are in flight, which are done, and in which order they are handed out."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from ..bridge import in_bridge, run_sync, start
from ..bridge.kernel import StoppedProgram
from ..errors import BatchInputError, ResumeError
from ..placement import PINNED_TO_LOOP, Engine
from ..seams.forked_settings import ForkedSettings
from ..task_pool import Job, TaskPool
from .fingerprints import fingerprint
from .items import BatchItem, Call, inputs_of
from .progress_bar import Progress
from .resume_file import ResumeFile

__all__ = ["OnError", "Options", "Run"]

OnError = Literal["raise", "return"]


@dataclass(frozen=True)
class Options:
    """What `batch()` and its kin were asked for."""

    max_in_flight: int
    on_error: OnError
    progress: bool
    resume: Any
    ordered: bool
    ahead: float
    """With `ordered`: how many finished examples may wait for an earlier one."""
    engine: Engine
    waiting: int = 0
    """How many examples may be read before there is room for them, so that one that ends is followed at once."""


@dataclass(eq=False)
class _Flying(Job):
    item: BatchItem
    branch: ForkedSettings
    key: str | None = None
    failure: BaseException | None = field(default=None, repr=False)
    """What went wrong with the file, as a full disk; ends the batch whatever `on_error` says."""

    def __lt__(self, other: _Flying) -> bool:
        return self.item.index < other.item.index


class _CallersThread:
    """Runs each example in the thread of a sync caller who asked for one at a time, as a plain loop would."""

    def __init__(self, on_done: Callable[[Any, Any, BaseException | None], None]) -> None:
        self._on_done = on_done

    def submit(self, job: Job) -> None:
        if job.placement is PINNED_TO_LOOP:
            call = partial(run_sync, start, job.fn, job.args, job.kwargs, job.placement)
        else:
            call = partial(run_sync, job.fn, *job.args, **job.kwargs)
        result = error = None
        try:
            result = job.context.run(call)
        except BaseException as exc:
            error = exc
        self._on_done(job, result, error)

    def cancel(self, which: Callable[[Any], bool] | None = None) -> None:
        """What has been submitted has ended."""


class Run:
    """The state of one batch. All methods are for the caller's thread.

    Args:
        tell: Called on the loop's thread when an example is done.
    """

    def __init__(
        self,
        program: Any,
        total: int | None,
        options: Options,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[], None],
    ) -> None:
        self._options = options
        self._call = Call.of(program, options.engine)
        self._file = ResumeFile(options.resume, program) if options.resume is not None else None
        self._progress = Progress(total, shown=options.progress)
        is_async = in_bridge() or asyncio._get_running_loop() is loop
        self._flight: TaskPool | _CallersThread = (
            TaskPool(loop, options.max_in_flight, self._landed)
            if is_async or options.max_in_flight > 1
            else _CallersThread(self._landed)
        )
        self._tell = tell
        self._landings: deque[_Flying] = deque()
        self._ready: list[_Flying] = []  # a heap, by index
        self._count = 0  # examples that were added
        self._next = 0  # with `ordered`: the one to be handed out next
        self._failed: tuple[int, BaseException] | None = None
        self.in_flight = 0

    def check(self, examples: Sequence[Any]) -> None:
        """Find what cannot be run before anything is run, where all examples are there already.

        Raises:
            BatchInputError: For the first example that is wrong.
        """
        for index, example in enumerate(examples):
            inputs = inputs_of(index, example)
            if self._file is not None:
                fingerprint(index, *inputs)

    def add(self, example: Any) -> None:
        """Start one more, or find its result in the resume file.

        What is no example, or cannot be serialised, fails without being started.
        """
        index = self._count
        self._count += 1
        key = where = None
        try:
            args, kwargs = inputs_of(index, example)
            if self._file is not None:
                key = self._file.claim(fingerprint(index, args, kwargs))
                where = self._file.find(key)
        except BatchInputError as wrong:
            self._fail(index, wrong)
            return
        branch = ForkedSettings(counts=self._options.progress, notes=False)
        call = self._call
        placement = call.placement(args, kwargs)
        flying = _Flying(call.fn, args, kwargs, branch.context, placement, BatchItem(index, example), branch, key)
        if self._file is not None and where is not None:
            flying.item.result, flying.item.resumed = self._file.load(where), True
            heapq.heappush(self._ready, flying)
            self._progress.finished(self._at_work, resumed=True)
        else:
            # In this order: a Ctrl-C in between must not have us wait for what was never started.
            self._flight.submit(flying)
            self.in_flight += 1

    @property
    def _at_work(self) -> int:
        return min(self.in_flight, self._options.max_in_flight)

    @property
    def is_full(self) -> bool:
        """Whether something has to be done before another example may be added."""
        if self._options.ordered and len(self._ready) >= self._options.ahead:
            return True
        return self._failed is not None or self.in_flight >= self._options.max_in_flight + self._options.waiting

    def ready(self) -> Iterator[BatchItem]:
        """Hand out what is done.

        Raises:
            BaseException: With `on_error="raise"`, the error of the first example that failed, once all before it
                are done and all behind it cancelled.
        """
        self._take_landed()
        while self._failed is None and self._ready:
            if self._options.ordered and self._ready[0].item.index != self._next:
                return
            flying = heapq.heappop(self._ready)
            self._next += 1
            flying.branch.merge()
            yield flying.item
            self._take_landed()
        if self._failed is not None and self.in_flight == 0:
            error = self._failed[1]
            if isinstance(error, StopIteration):
                raise StoppedProgram(error) from error
            raise error

    def _take_landed(self) -> None:
        while self._landings:
            # In this order: a Ctrl-C in between must not have us wait for what has landed.
            self.in_flight -= 1
            self._take(self._landings.popleft())

    def _take(self, flying: _Flying) -> None:
        item = flying.item
        if self._options.progress:
            usage = flying.branch.tracker.get_total_tokens() if flying.branch.tracker is not None else None
            if usage is None and hasattr(item.result, "get_lm_usage"):
                usage = item.result.get_lm_usage()
            self._progress.count_tokens(usage)
        self._progress.finished(self._at_work, failed=item.error is not None)
        error = flying.failure
        if error is None and item.error is not None and self._ends_batch(item.error):
            error = item.error
            add_note = getattr(error, "add_note", None)  # Python 3.11
            if add_note is not None:
                add_note(f"This was example {item.index} of a batch.")
        if error is not None:
            self._fail(item.index, error)
        else:
            heapq.heappush(self._ready, flying)

    def _ends_batch(self, error: BaseException) -> bool:
        return self._options.on_error == "raise" or not isinstance(error, Exception)

    def _fail(self, index: int, error: BaseException) -> None:
        """End the batch at this example, unless it ends at an earlier one; what is before it goes on."""
        if self._failed is None or index < self._failed[0]:
            self._failed = index, error
            self._flight.cancel(lambda other: index < other.item.index)

    def _landed(self, launch: Any, result: Any, exception: BaseException | None) -> None:
        """In the very step in which the program ends, on the loop or in the caller's thread: no kill comes between."""
        flying: _Flying = launch
        flying.item.result, flying.item.error = result, exception
        if self._file is not None and exception is None and flying.key is not None:
            try:
                self._file.append(flying.key, flying.item.index, result)
            except ResumeError as wrong:  # it has no form there; whoever gets the error gets the result as well
                flying.item.error = wrong
            except Exception as failure:
                flying.failure = failure
        self._landings.append(flying)
        self._tell()

    def cancel(self) -> None:
        """Cancel what is in flight; it still lands."""
        self._flight.cancel()

    def drain(self) -> None:
        """Forget what has landed."""
        while self._landings:
            self.in_flight -= 1
            self._landings.popleft()

    def close(self) -> None:
        """Let go of the bar and the file."""
        self._progress.close()
        if self._file is not None:
            self._file.close()
