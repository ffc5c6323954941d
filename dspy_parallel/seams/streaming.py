"""Sending to a stream from sync code: DSPy's status messages, and anyio's way back to the loop.

Without these a callback that runs on the loop's thread would block it until the reader on the same loop has
made room in a 16-slot buffer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..bridge import await_
from .table import Seam, register

__all__: list[str] = []


def _send(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    def send(stream: Any, message: Any) -> Any:
        return await_(stream.send(message))

    return send(*args, **kwargs)


def _from_thread(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    fn, *rest = args
    return await_(fn(*rest))


def _from_thread_sync(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    fn, *rest = args

    async def on_the_loop() -> Any:
        return fn(*rest)

    return await_(on_the_loop())


register(
    Seam("dspy.streaming.messages:sync_send_to_stream", _send),
    Seam("anyio.from_thread:run", _from_thread),
    Seam("anyio.from_thread:run_sync", _from_thread_sync),
)
