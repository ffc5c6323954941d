"""`async_node()`: one function made async, for graphs that are not converted as a whole, and for tasks."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

import dspy

from .. import seams
from ..callables import is_generator_function
from ..errors import DecorationError, described
from ..placement import Engine, check_engine
from .langgraph_version import check_langgraph
from .node_run import twin_of
from .node_steps import module_twin

__all__ = ["async_node"]

P = ParamSpec("P")
T = TypeVar("T")


@overload
def async_node(fn: Callable[P, Coroutine[Any, Any, T]], /, *, engine: Engine = ...) -> Callable[P, Awaitable[T]]: ...
@overload
def async_node(fn: Callable[P, T], /, *, engine: Engine = ...) -> Callable[P, Awaitable[T]]: ...
@overload
def async_node(*, engine: Engine = ...) -> Callable[[Callable[P, T]], Callable[P, Awaitable[T]]]: ...
def async_node(fn: Callable[..., Any] | None = None, /, *, engine: Engine = "auto") -> Any:
    """Turn a sync function into a coroutine function that waits for its LM calls without blocking the event loop.

    For a node with a timeout, which LangGraph allows for async nodes only, in a graph that is not converted as a
    whole; and for `@task` and `@entrypoint` functions. Name, signature and annotations are kept, so that config,
    runtime, writer and store are injected as ever. The function runs in the task and context of the caller; a cancel
    or timeout is raised where it waits. A graph with such a node needs `ainvoke()`, unless it is converted.

    Args:
        fn: The function; a coroutine function becomes one whose sync calls can wait. A `dspy.Module` is awaited through
            its `acall()`.
        engine: `"auto"`, `"loop"` or `"thread"`, see `run()`.

    Returns:
        A coroutine function.

    Raises:
        DecorationError: If `fn` cannot be called, or is a generator function.
        UnknownEngineError: For an unknown engine.

    Example:
        ```python
        import asyncio
        from langgraph.graph import START, StateGraph
        from typing_extensions import TypedDict
        from dspy_parallel.langgraph import async_node

        class State(TypedDict):
            n: int

        def increase(state: State):
            return {"n": state["n"] + 1}

        builder = StateGraph(State).add_node("increase", async_node(increase), timeout=5).add_edge(START, "increase")
        assert asyncio.run(builder.compile().ainvoke({"n": 1})) == {"n": 2}
        ```
    """
    check_engine(engine)
    if fn is None:
        return functools.partial(async_node, engine=engine)
    if not callable(fn) or is_generator_function(fn):
        raise DecorationError(
            f"async_node() was given {described(fn)}, which is not a plain function. Consume a generator inside a "
            "function and return the result."
        )
    check_langgraph()
    seams.install()
    return module_twin(fn, engine) if isinstance(fn, dspy.Module) else twin_of(fn, engine)
