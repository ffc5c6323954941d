"""`dspy.streamify`: every call of a streamified program is a stream of its own.

DSPy's streams share what belongs to one call, and leave badly when they are closed early:

- The listeners are made once, and their state is that of whoever was last: calls that run at the same time get each
  other's tokens, and a second call gets none (stanfordnlp/dspy#8425).
- Until DSPy 3.3 the status messages of the first streamified program are those of all later ones.
- The stream is an async generator around an anyio task group, which must be left by the task that entered it. A `break`
  leaves it to the garbage collector, that is, to another task: the consumer's own task is cancelled instead of the
  program, and the LM request goes on.

So each call gets listeners of its own, and DSPy's generator is read by a task of its own, which can be cancelled and
waited for from anywhere. LiteLLM's responses are closed with the stream; they would keep the connection until the
garbage collector finds them.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import inspect
import queue
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import anyio
import dspy

from .table import Seam, everywhere, register

__all__: list[str] = []

_responses: contextvars.ContextVar[list[Any] | None] = contextvars.ContextVar("dspy_parallel_responses", default=None)
"""LiteLLM's responses to the running stream's program."""


def _streamify(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    bound = inspect.signature(original).bind(*args, **kwargs)
    bound.apply_defaults()
    options = bound.arguments
    callbacks = list(dspy.settings.callbacks)

    def make(**changed: Any) -> Any:
        # DSPy before 3.4 adds its callback to the list that it finds.
        with dspy.context(callbacks=list(callbacks)):
            return original(**{**options, **changed})

    make()  # raises what there is to raise, and finds the listeners' predictors
    listeners = options["stream_listeners"] or []
    is_async = options["is_async_program"] or _is_bridged(options["program"])

    def stream(*args: Any, **kwargs: Any) -> Any:
        own = [_fresh(listener) for listener in listeners]
        started = make(stream_listeners=own, is_async_program=is_async, async_streaming=True)
        source = _in_own_task(started(*args, **kwargs))
        return source if options["async_streaming"] else _in_own_thread(source)

    return stream


def _is_bridged(program: Any) -> bool:
    """Whether the program's `aforward()` is generated from its `forward()`, and hence the same program."""
    return hasattr(getattr(type(program), "aforward", None), "__bridge_engine__")


def _fresh(listener: Any) -> Any:
    """A listener as the given one, which itself never listens, with state of its own."""
    fresh = copy.copy(listener)
    for name, value in vars(listener).items():
        if isinstance(value, queue.Queue):
            setattr(fresh, name, queue.Queue())
        elif type(value) in (list, dict, set):
            setattr(fresh, name, copy.copy(value))
    return fresh


async def _in_own_task(source: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    send, receive = anyio.create_memory_object_stream[Any](0)
    reader = asyncio.create_task(_read(source, send))
    try:
        async with receive:
            async for item in receive:
                yield item
            await reader
    finally:
        reader.cancel()
        await asyncio.wait([reader])
        if not reader.cancelled():
            reader.exception()  # it is known, or of no interest any more


async def _read(source: AsyncGenerator[Any, None], send: Any) -> None:
    responses: list[Any] = []
    _responses.set(responses)
    try:
        async with send:
            async for item in source:
                try:
                    await send.send(item)
                except asyncio.CancelledError:
                    await _cancel(source)
                    raise
    finally:
        for response in responses:
            with contextlib.suppress(Exception):
                await response.aclose()


async def _cancel(source: AsyncGenerator[Any, None]) -> None:
    """Have the generator cancelled where it awaits.

    Closing it, where it yields, is no use: what is inside it would be left to the garbage collector.
    """
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
        while True:
            await source.__anext__()


def _in_own_thread(source: AsyncGenerator[Any, None]) -> Generator[Any, None, None]:
    """DSPy's sync stream: the program runs on a loop in a thread, which ends when the generator is closed."""
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = []
    closed = False

    async def noting() -> AsyncGenerator[Any, None]:
        running.append((asyncio.get_running_loop(), asyncio.current_task()))
        try:
            async for item in source:
                yield item
        except asyncio.CancelledError:
            if not closed:
                raise

    try:
        yield from dspy.streaming.apply_sync_streaming(noting())
    finally:
        closed = True
        for loop, task in running:
            if task is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: it has come to its end
                    loop.call_soon_threadsafe(task.cancel)


def _note_response(original: Callable[..., Any], response: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    original(*args, **kwargs)
    responses = _responses.get()
    if responses is not None and hasattr(response, "aclose"):
        responses.append(response)


register(
    # One function by three names, of which users import whichever they like.
    *(
        Seam(f"{module}:streamify", _streamify, when=everywhere)
        for module in ("dspy.streaming.streamify", "dspy.streaming", "dspy")
    ),
    Seam(
        "litellm.litellm_core_utils.streaming_handler:CustomStreamWrapper.__init__",
        _note_response,
        when=lambda: _responses.get() is not None,
    ),
)
