"""Tools: async ones are awaited on the program's loop, sync ones run in a worker thread.

A sync tool is somebody's function that may well block. In the worker thread it keeps the bridge, so a program
that it calls still reaches the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from dspy import Tool

from ..bridge import await_, call_in_thread, is_coroutine_function, run_in_thread
from ..bridge.kernel import current_greenlet_program
from ..errors import ThreadRequiredError
from .table import Seam, register

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


def _reason(tool: Any) -> str:
    return f"the tool {tool.name} is a sync function; mark it loop_safe if it never blocks"


def _call(original: Callable[..., Any], tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if is_coroutine_function(tool.func):
        # The class's own method: one in a subclass may be written as a call of this one. And no guard against
        # recursion as for LMs: an agent may well be its own tool.
        return await_(Tool.acall(tool, *args, **kwargs))
    if getattr(tool.func, _MARK, False):
        return original(*args, **kwargs)
    return call_in_thread(original, args, kwargs, _reason(tool))


def _acall(original: Callable[..., Any], tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`tool.acall()` calls a sync function where it stands, on the loop."""
    if is_coroutine_function(tool.func) or getattr(tool.func, _MARK, False):
        return original(*args, **kwargs)
    program = current_greenlet_program()
    if program is not None and program.strict:
        raise ThreadRequiredError(f"{_reason(tool)}. The program is pinned to engine='loop', so it gets no thread.")

    async def func(**arguments: Any) -> Any:
        result = await run_in_thread(tool.func, (), arguments)
        return await result if asyncio.iscoroutine(result) else result

    # Callbacks, checks of arguments and errors stay those of the original; callbacks are shown an equal tool.
    return original.__func__(tool.model_copy(update={"func": func}), *args, **kwargs)  # type: ignore[attr-defined]


register(
    Seam("dspy.adapters.types.tool:Tool.__call__", _call),
    Seam("dspy.adapters.types.tool:Tool.acall", _acall),
)
