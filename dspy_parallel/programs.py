"""Where programs run: `analysis` decides it, or a user says it; the bridge, which knows nothing of DSPy, is told."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar, overload

from . import bridge
from .analysis.thread_needs import placement_for, placement_for_class
from .callables import is_coroutine_function
from .errors import check_callable
from .placement import ON_LOOP, PINNED_TO_LOOP, PINNED_TO_THREAD, Engine, Placement

__all__ = ["offload", "place", "placement_of", "start"]

P = ParamSpec("P")
T = TypeVar("T")


def placement_of(program: Callable[..., Any] | type) -> Placement:
    """Where `engine="auto"` runs a program, and why.

    It is decided before the first run: the loop, if all that the program can reach is known neither to block nor to
    depend on its thread. A run with other arguments than plain data may be decided otherwise.

    Args:
        program: A module, a class of modules, or a function. Of a class, what was decided last for an instance;
            before there was one, what can be said of the class alone.

    Returns:
        The program's record: `engine` is `"loop"` or `"thread"`, and for a thread there are `reason`, `filename` and
        `line`. It is the same one each time as long as the code, and what that reaches, is the same. It changes only
        if the program turns out to compute for long between two waits: then it leaves the loop for good.

    Example:
        ```python
        from dspy_parallel import placement_of

        def program():
            return input("?")

        assert placement_of(program).engine == "thread"
        ```
    """
    return placement_for_class(program) if isinstance(program, type) else placement_for(program)


def place(
    fn: Callable[..., Any],
    engine: Engine,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] = MappingProxyType({}),
    rest: tuple[Any, ...] = (),
    then: Any = None,
) -> Placement:
    """Where a program runs under this engine that is called with these arguments.

    It is for `bridge.start()` and `task_pool.Job`. What of `rest` is which argument is not known. `then`
    is called with the result.
    """
    if engine == "thread":
        return PINNED_TO_THREAD
    if engine == "loop" or bridge.is_strict():
        return PINNED_TO_LOOP
    return ON_LOOP if is_coroutine_function(fn) else placement_for(fn, args, kwargs, rest, then)


async def start(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], engine: Engine) -> T:
    """Run `fn(*args, **kwargs)` as a program of the running task, where the engine says.

    Raises:
        TypeError: If `fn` is a generator function.
        BaseException: Whatever `fn` raises.
    """
    return await bridge.start(fn, args, kwargs, place(fn, engine, args, kwargs))


@overload
def offload(fn: Callable[P, T], /) -> Callable[P, T]: ...
@overload
def offload(*, reason: str) -> Callable[[Callable[P, T]], Callable[P, T]]: ...
def offload(fn: Callable[..., Any] | None = None, /, *, reason: str = "it is marked with offload") -> Any:
    """Mark a sync function that blocks: inside a program on the loop, it runs in a worker thread.

    Elsewhere, and in a program that has a thread of its own, it is a plain call. In the worker thread the
    program's context variables are visible, and the function can itself call programs and wait with `await_()`. A
    cancel is raised at its next wait; the program goes on only after the thread has left the function.

    Args:
        fn: The function.
        reason: Why it needs a thread; completes the sentence "... needs a thread because ..." in errors.

    Returns:
        A function with the same signature.

    Raises:
        DecorationError: If `fn` cannot be called.
        ThreadRequiredError: When called inside a program that is pinned to `engine="loop"`.

    Example:
        ```python
        import asyncio, threading
        from dspy_parallel import offload, run

        @offload
        def read_from_slow_disk():
            return threading.current_thread().name

        def program():
            return read_from_slow_disk()

        assert program() == "MainThread"
        assert asyncio.run(run(program)) != "MainThread"
        ```
    """
    if fn is None:
        return functools.partial(offload, reason=reason)
    check_callable(fn, "offload")

    @functools.wraps(fn)
    def offloaded(*args: Any, **kwargs: Any) -> Any:
        return bridge.call_in_thread(fn, args, kwargs, reason)

    return offloaded
