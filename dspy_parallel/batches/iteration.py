"""`batch()`, `iter_batch()` and `abatch()`: the same run, waited for by a thread or by a task."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import dspy

from .. import seams
from ..bridge import run_sync, serving_loop
from ..bridge.kernel import StoppedProgram
from ..errors import BatchInputError, BridgeError, described
from ..placement import Engine, check_engine
from ..seams.thread_waits import BridgedEvent
from .batch_run import OnError, Options, Run
from .items import BatchItem

__all__ = ["abatch", "batch", "iter_batch"]

Examples = Iterable[Any] | AsyncIterable[Any]

AHEAD = 10
"""With `ordered`, finished items may wait for an earlier one until so many times `max_in_flight` do."""


def batch(
    program: Any,
    examples: Examples,
    *,
    max_in_flight: int = 100,
    on_error: OnError = "raise",
    progress: bool = True,
    resume: str | os.PathLike[str] | None = None,
    engine: Engine = "auto",
) -> list[Any]:
    """Run a program for each example, many at a time, and get the list of results, in the examples' order.

    From plain sync code the programs run on the event loop that serves sync callers; inside a bridged program, on that
    program's. One at a time, they run in the calling thread, as in a plain loop. Examples are read in the calling
    thread, no more than `max_in_flight` ahead. Each example has a copy of the caller's context. Ctrl-C, or a cancel of
    the calling program, cancels what is in flight and waits until it has unwound. Trace and usage are the caller's, in
    the order of the results.

    With `resume`, each result is appended to a file of JSON lines as soon as it is there, and examples whose result
    is in the file are not run again. Examples are recognised by their inputs; of several with equal inputs, each has
    a result of its own. Failures are not kept: they are run again. The process may be killed at any moment.

    Args:
        program: A module, or any function, sync or async.
        examples: Any iterable, also an async one, of `dspy.Example`, of dicts of keyword arguments, or of tuples of
            positional arguments.
        max_in_flight: Examples that run at once.
        on_error: `"raise"`: the first example that fails, in order, ends the batch with its error; what is behind it is
            cancelled. `"return"`: its error stands in the list in place of a result.
        progress: Whether to show a bar, on stderr.
        resume: The file's name. One batch at a time may use it, and only for one program in one state.
        engine: `"auto"`, `"loop"` or `"thread"`, see `run()`.

    Returns:
        The results.

    Raises:
        BatchInputError: For an example of another type, or, with `resume`, one that cannot be serialised. If examples
            are a list, before the first call. And for arguments that are no program or no examples.
        ResumeError: Before the first call, if the file is in use, damaged, or belongs to another program or another
            state of it, or if the program cannot be told from others. As the error of an example, if its result cannot
            be written.
        UnknownEngineError: For an unknown engine.
        BaseException: With `on_error="raise"`, whatever the program raises.

    Example:
        ```python
        import dspy
        from dspy_parallel import batch

        dspy.configure(lm=dspy.LM("openai/any-model"))
        questions = [{"question": f"What is {n} + {n}?"} for n in range(20)]
        results = batch(dspy.Predict("question -> answer"), questions, max_in_flight=10, progress=False)
        assert len(results) == 20
        ```
    """
    # In order, so that trace and usage are; results are kept anyway, so that any number may wait.
    options = Options(max_in_flight, on_error, progress, resume, True, math.inf, engine, waiting=max_in_flight)
    try:
        with closing(_iterate(program, examples, options)) as items:
            return [item.result if item.error is None else item.error for item in items]
    except StoppedProgram as stopped:
        stop = stopped.__cause__
        assert stop is not None
    raise stop


def iter_batch(
    program: Any,
    examples: Examples,
    *,
    max_in_flight: int = 100,
    on_error: OnError = "raise",
    progress: bool = True,
    resume: str | os.PathLike[str] | None = None,
    ordered: bool = False,
    engine: Engine = "auto",
) -> Iterator[BatchItem]:
    """Run a program for each example as `batch()` does, and get each result when it is there.

    Memory does not grow with the number of examples: they are read as results are taken. While nobody takes any, no
    new ones are started. Closing the iterator, or leaving it, cancels what is in flight.

    Args:
        program: As for `batch()`.
        examples: As for `batch()`.
        max_in_flight: As for `batch()`.
        on_error: As for `batch()`; with `"return"`, the error is in the item.
        progress: As for `batch()`.
        resume: As for `batch()`.
        ordered: Whether items come in the examples' order, not as they are done.
        engine: As for `batch()`.

    Yields:
        A `BatchItem` for each example.

    Raises:
        BatchInputError: As `batch()`; of examples that are read one by one, when the wrong one is reached.
        ResumeError: As `batch()`.
        UnknownEngineError: For an unknown engine.
        BaseException: With `on_error="raise"`, whatever the program raises.

    Example:
        ```python
        import dspy
        from dspy_parallel import iter_batch

        dspy.configure(lm=dspy.LM("openai/any-model"))
        rows = ({"question": f"What is {n} + {n}?"} for n in range(20))  # might be millions
        for item in iter_batch(dspy.Predict("question -> answer"), rows, progress=False):
            assert item.result.answer
        ```
    """
    options = Options(max_in_flight, on_error, progress, resume, ordered, AHEAD * max_in_flight, engine)
    return _iterate(program, examples, options)


def _iterate(program: Any, examples: Examples, options: Options) -> Generator[BatchItem, None, None]:
    _check(program, examples, options)
    loop = serving_loop()
    if loop is None:
        raise BridgeError(
            "A batch was started on the event loop that serves sync callers, in code that is not bridged: it would "
            "wait for itself. Use abatch() there."
        )
    landed = BridgedEvent()
    run = Run(program, _total(examples), options, loop, landed.set)

    def wait() -> None:
        landed.wait()
        landed.clear()

    try:
        if isinstance(examples, Sequence):
            run.check(examples)
        for example in _pulled(examples) if isinstance(examples, AsyncIterable) else examples:
            run.add(example)
            yield from run.ready()
            while run.is_full:
                wait()
                yield from run.ready()
        while run.in_flight:
            wait()
            yield from run.ready()
        yield from run.ready()
    finally:
        try:
            run.cancel()
            run.drain()
            while run.in_flight > 0:  # one less than there are, if Ctrl-C came while one was started
                wait()
                run.drain()
        finally:
            run.close()


async def abatch(
    program: Any,
    examples: Examples,
    *,
    max_in_flight: int = 100,
    on_error: OnError = "raise",
    progress: bool = True,
    resume: str | os.PathLike[str] | None = None,
    ordered: bool = False,
    engine: Engine = "auto",
) -> AsyncIterator[BatchItem]:
    """Run a program for each example on the running loop, and get each result when it is there.

    It is `iter_batch()` for async code: the same arguments, items, errors and limits. A sync iterable is read on
    the loop; if reading takes time, give an async one. A cancel of the task that iterates cancels what is in flight
    and waits until it has unwound, if it arrives while the task waits for an item; if you may leave the loop by other
    ways, iterate inside `contextlib.aclosing`.

    Args:
        program: As for `batch()`.
        examples: As for `batch()`.
        max_in_flight: As for `batch()`.
        on_error: As for `iter_batch()`.
        progress: As for `batch()`.
        resume: As for `batch()`.
        ordered: As for `iter_batch()`.
        engine: As for `batch()`.

    Yields:
        A `BatchItem` for each example.

    Raises:
        BatchInputError: As `iter_batch()`.
        ResumeError: As `batch()`.
        UnknownEngineError: For an unknown engine.
        BaseException: With `on_error="raise"`, whatever the program raises.

    Example:
        ```python
        import asyncio
        import dspy
        from dspy_parallel import abatch

        dspy.configure(lm=dspy.LM("openai/any-model"))

        async def main():
            rows = ({"question": f"What is {n} + {n}?"} for n in range(20))
            return [item.index async for item in abatch(dspy.Predict("question -> answer"), rows, ordered=True)]

        assert asyncio.run(main()) == list(range(20))
        ```
    """
    options = Options(max_in_flight, on_error, progress, resume, ordered, AHEAD * max_in_flight, engine)
    _check(program, examples, options)
    landed = asyncio.Event()
    run = Run(program, _total(examples), options, asyncio.get_running_loop(), landed.set)
    try:
        if isinstance(examples, Sequence):
            run.check(examples)
        if isinstance(examples, AsyncIterable):
            async for item in _as_they_come(run, examples, landed):
                yield item
        else:
            for example in examples:
                run.add(example)
                for item in run.ready():
                    yield item
                while run.is_full:
                    await landed.wait()
                    landed.clear()
                    for item in run.ready():
                        yield item
        while run.in_flight:
            for item in run.ready():
                yield item
            if run.in_flight:
                await landed.wait()
                landed.clear()
        for item in run.ready():
            yield item
    finally:
        try:
            run.cancel()
            run.drain()
            while run.in_flight:
                await landed.wait()
                landed.clear()
                run.drain()
        finally:
            run.close()


async def _as_they_come(run: Run, examples: AsyncIterable[Any], landed: asyncio.Event) -> AsyncIterator[BatchItem]:
    """Add examples; hand out results also while the next example takes its time."""
    source = aiter(examples)
    coming: asyncio.Task[Any] | None = None
    try:
        while True:
            if coming is None and not run.is_full:
                coming = asyncio.ensure_future(anext(source, _END))
            waiter = asyncio.ensure_future(landed.wait())
            try:
                await asyncio.wait({waiter} if coming is None else {waiter, coming}, return_when="FIRST_COMPLETED")
            finally:
                waiter.cancel()
            landed.clear()
            if coming is not None and coming.done():
                example, coming = coming.result(), None
                if example is _END:
                    return
                run.add(example)
            for item in run.ready():
                yield item
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.wait([coming])


_END = object()


def _pulled(examples: AsyncIterable[Any]) -> Iterator[Any]:
    """An async iterable's elements, for sync code."""
    source = aiter(examples)

    async def following() -> Any:
        return await anext(source, _END)

    while (example := run_sync(following)) is not _END:
        yield example


def _total(examples: Any) -> int | None:
    try:
        return len(examples)
    except TypeError:
        return None


def _check(program: Any, examples: Any, options: Options) -> None:
    if not callable(program):
        swapped = " It was given as the examples: swap the two." if callable(examples) else ""
        raise BatchInputError(f"The program of a batch is {described(program)}, which cannot be called.{swapped}")
    if isinstance(examples, (str, bytes, dict, dspy.Example)) or not isinstance(examples, (Iterable, AsyncIterable)):
        raise BatchInputError(
            f"The examples of a batch are {described(examples)}. Give a list, or any iterable, of examples: of one "
            "example x, [x]."
        )
    if isinstance(options.max_in_flight, bool) or not isinstance(options.max_in_flight, int):  # pyright: ignore
        raise TypeError(f"max_in_flight is {described(options.max_in_flight)}; it has to be a whole number.")
    check_engine(options.engine)
    if options.max_in_flight < 1:
        raise ValueError(f"max_in_flight is {options.max_in_flight}; at least one example has to be in flight.")
    if options.on_error not in ("raise", "return"):
        raise ValueError(f'on_error is {options.on_error!r}; it is either "raise" or "return".')
    seams.install()
