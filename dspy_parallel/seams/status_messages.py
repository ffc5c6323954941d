"""DSPy's status messages, sent from sync callbacks into a stream that is read on the loop.

Without this a callback that runs on the loop's thread would block it until the reader on the same loop has made
room in a 16-slot buffer.
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


register(Seam("dspy.streaming.messages:sync_send_to_stream", _send))
