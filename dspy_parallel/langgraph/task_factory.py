"""Tasks that an async node creates: `asyncio.gather`, `create_task`, `TaskGroup`, `wait_for`, anyio's task groups.

The bridge belongs to one task, that of the node. Sync DSPy in another task would block the event loop, and what is
gathered would run one after the other. So a coroutine that a driven async node makes a task of is driven, too.
All ways to make one lead to `loop.create_task`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from types import CoroutineType
from typing import Any

from ..bridge import in_bridge
from ..placement import Engine
from ..seams.table import Seam, register
from .node_run import current_node, drive, in_node

__all__: list[str] = []


class _Driven(Coroutine[Any, Any, Any]):
    """What becomes a task in the coroutine's place, and looks like it.

    Not a coroutine around it: a task that is cancelled before its first step throws into what it has. That must be
    the user's coroutine, or Python warns that it was never awaited.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], engine: Engine) -> None:
        self._coroutine = coroutine
        self._engine: Engine = engine
        self._steps: Coroutine[Any, Any, Any] | None = None

    def __getattr__(self, name: str) -> Any:  # __name__, cr_code, cr_frame and so on, for whoever prints the task
        return getattr(self._coroutine, name)

    def send(self, value: Any) -> Any:
        if self._steps is None:
            self._steps = drive(self._coroutine, self._engine)
        return self._steps.send(value)

    def throw(self, *exception: Any) -> Any:
        return (self._steps or self._coroutine).throw(*exception)

    def close(self) -> None:
        (self._steps or self._coroutine).close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return drive(self._coroutine, self._engine).__await__()


def _create_task(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    node = current_node.get()
    if node is not None and args and type(args[0]) is CoroutineType:
        args = (_Driven(args[0], node.engine), *args[1:])
    return original(*args, **kwargs)


def _in_async_node() -> bool:
    node = current_node.get()
    return node is not None and node.is_async and in_node() and in_bridge()


register(
    Seam("asyncio.base_events:BaseEventLoop.create_task", _create_task, when=_in_async_node),
    Seam("uvloop:Loop.create_task", _create_task, when=_in_async_node),
)
