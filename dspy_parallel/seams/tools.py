"""Tools: async ones are awaited on the program's loop, sync ones run in a worker thread.

A sync tool is somebody's function that may well block. In the worker thread it keeps the bridge, so a program
that it calls still reaches the loop.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from dspy import Tool
from dspy.utils.callback import with_callbacks

from ..bridge import await_, call_in_thread, is_called_in_sync, start
from ..callables import is_coroutine_function
from ..errors import SeamError, described
from .async_counterparts import is_bypassed
from .table import Seam, everywhere, register

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

    Raises:
        SeamError: If it is nothing that can be marked, such as a bound method.

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
    try:
        setattr(fn, _MARK, True)
    except (AttributeError, TypeError) as exc:
        raise SeamError(
            f"loop_safe() was given {described(fn)}, which cannot be marked. Give it the function of a tool, written "
            "with def."
        ) from exc
    return fn


def _is_loop_safe(fn: Any) -> bool:
    # An agent's own tools, with which it ends, compute nothing.
    return getattr(fn, _MARK, False) or (getattr(fn, "__module__", None) or "").startswith("dspy.predict.")


def _reason(tool: Any) -> str:
    return f"the tool {tool.name} is a sync function; mark it loop_safe if it never blocks"


def _call(original: Callable[..., Any], tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if is_coroutine_function(tool.func) and not is_called_in_sync() and not is_bypassed(original, Tool.acall):
        # The class's own method: one in a subclass may be written as a call of this one. And no guard against
        # recursion as for LMs: an agent may well be its own tool.
        return await_(Tool.acall(tool, *args, **kwargs))
    if is_coroutine_function(tool.func) or _is_loop_safe(tool.func):
        return original(*args, **kwargs)  # a patched call of a coroutine function waits in `_run_async_in_sync`
    return call_in_thread(original, args, kwargs, _reason(tool))


def _acall(original: Callable[..., Any], tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`tool.acall()` calls a sync function where it stands: on the loop, also in an agent's own async code."""
    if is_coroutine_function(tool.func) or _is_loop_safe(tool.func):
        return original(*args, **kwargs)
    return _acall_in_thread(tool, *args, **kwargs)


async def acall(self: Any, **kwargs: Any) -> Any:  # named as the original, in messages about callbacks
    def func(**arguments: Any) -> Any:
        return call_in_thread(self.func, (), arguments, _reason(self))

    # DSPy's own code, in the bridge: checks of arguments, and the lines that an agent shows to the LM when the tool
    # fails, are as ever. Callbacks, which are outside of it, are shown the tool itself.
    stock, tool = inspect.unwrap(Tool.acall), self.model_copy(update={"func": func})
    if asyncio._get_running_loop() is None:  # on the event loop of another framework
        return await stock(tool, **kwargs)
    return await start(stock, (tool,), kwargs)


_acall_in_thread = with_callbacks(acall)


register(
    Seam("dspy.adapters.types.tool:Tool.__call__", _call),
    Seam("dspy.adapters.types.tool:Tool.acall", _acall, when=everywhere),
)
