"""Tools: async ones are awaited on the program's loop, sync ones run in a worker thread.

A sync tool is somebody's function that may well block. In the worker thread it keeps the bridge, so a program
that it calls still reaches the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..bridge import await_, call_in_thread, is_coroutine_function
from .table import Seam, in_thread, register
from .twins import await_twin

__all__ = ["loop_safe"]

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__dspy_parallel_loop_safe__"


def loop_safe(fn: F) -> F:
    """Mark a tool's function as one that never blocks, so that it is called without the detour through a thread.

    The function then runs on the event loop's own thread, like the code of the program that calls it.

    Args:
        fn: The function that is, or will be, wrapped in `dspy.Tool`.

    Returns:
        The same function.

    Example:
        ```python
        import dspy
        from dspy_parallel import loop_safe

        @loop_safe
        def add(a: int, b: int) -> int:
            return a + b

        assert dspy.Tool(add)(a=1, b=2) == 3
        ```
    """
    setattr(fn, _MARK, True)
    return fn


def _call(original: Callable[..., Any], tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if is_coroutine_function(tool.func):
        return await_twin(tool.acall, original, tool, args, kwargs)
    if getattr(tool.func, _MARK, False):
        return original(*args, **kwargs)
    return call_in_thread(original, args, kwargs, f"the tool {tool.name} is a sync function; mark it loop_safe if it never blocks")


def _await(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The functions that turn a coroutine into a sync call: inside the bridge it is simply awaited."""
    return await_(*args, **kwargs)


register(
    Seam("dspy.adapters.types.tool:Tool.__call__", _call),
    Seam("dspy.adapters.types.tool:Tool._run_async_in_sync", _await),
    Seam("dspy.utils.syncify:run_async", _await),
    Seam("dspy.primitives.python_interpreter:_await_in_sync", _await, optional=True),
    Seam("dspy.primitives.local_interpreter:_await_in_sync", _await, optional=True),
    Seam("asyncio.runners:run", in_thread("it starts an event loop of its own")),
    Seam("asyncio.base_events:BaseEventLoop.run_until_complete", in_thread("it runs an event loop of its own")),
)
