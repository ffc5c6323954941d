"""One run of a node's code, in the bridge: awaited on an event loop, or in the thread that calls it."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import CoroutineType
from typing import Any, Literal

from ..bridge import await_, run_sync
from ..callables import is_coroutine_function, is_generator_function
from ..overlap import api
from ..placement import Engine
from ..programs import start
from ..seams.exception_tunnel import Carried, callers, callers_outside

__all__ = [
    "MARK",
    "Choice",
    "NodeRun",
    "called_here",
    "can_be_bridged",
    "current_node",
    "drive",
    "in_node",
    "looking_like",
    "run_here",
    "run_node",
    "running_node",
    "twin_of",
]

MARK = "__bridge_engine__"
"""Set on coroutine functions that bring their own bridge, with the engine as value."""

Choice = Literal["auto", "loop", "thread", "leave"]
"""An engine, or that LangGraph runs the node as it would."""


class NodeRun:
    """What the code of one run of a node can ask about that run.

    Attributes:
        is_async: Whether the node's function is a coroutine function.
        engine: The node's engine, or `"leave"`.
        last_turn: That of the tool which it began last.
    """

    __slots__ = ("engine", "is_async", "last_turn")

    def __init__(self, engine: Choice, *, is_async: bool) -> None:
        self.is_async = is_async
        self.engine: Any = engine
        self.last_turn: Any = None


current_node: ContextVar[NodeRun | None] = ContextVar("dspy_parallel_node", default=None)


def in_node() -> bool:
    """Whether the running code is a node's that has not been left to LangGraph; also in threads of DSPy's."""
    node = current_node.get()
    return node is not None and node.engine != "leave"


@contextmanager
def running_node(node: NodeRun) -> Generator[None]:
    """The code inside is a node's; LangGraph's own exceptions leave it as they are."""
    tokens: Any = (current_node, current_node.set(node)), (callers_outside, callers_outside.set(len(callers())))
    try:
        yield
    except Carried as carried:
        raise carried.exception from None
    finally:
        for variable, token in tokens:
            try:
                variable.reset(token)
            except ValueError:
                pass  # the node's coroutine is being closed from elsewhere, in another context


async def drive(coroutine: Coroutine[Any, Any, Any], engine: Engine) -> Any:
    """Await the coroutine in a bridge of its own."""
    try:
        return await start(_await, (coroutine,), {}, engine)
    finally:
        coroutine.close()  # cancelled before its turn came, or Python warns that it was never awaited


async def _await(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await coroutine


async def run_node(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], engine: Engine, *, overlap: bool = False
) -> Any:
    """Run a node's sync or async function in the bridge, in the task of the caller."""
    if hasattr(fn, MARK):
        # It brings its own bridge. Inside another one its code would be on that one's engine, whatever it asked for.
        with running_node(NodeRun(engine, is_async=True)):
            return await fn(*args, **kwargs)
    node = NodeRun(engine, is_async=is_coroutine_function(fn))
    begin = api.start if overlap else start
    with running_node(node):
        result = await begin(fn, args, kwargs, engine)
        if type(result) is CoroutineType:
            # A lambda around a coroutine function: LangGraph takes it for a sync node, and so did we.
            node.is_async = True
            return await drive(result, engine)
        return result


def run_here(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], engine: Engine, *, overlap: bool = False
) -> Any:
    """Run a node's function for a sync caller, and wait: in the caller's thread, its awaits on the loop.

    Nothing is asked of that loop before the code waits, so that a trivial step costs no hop between threads. What is
    async, or is pinned to the loop, runs there.
    """
    node = NodeRun(engine, is_async=is_coroutine_function(fn))

    async def program() -> Any:
        return await run_node(fn, args, kwargs, engine, overlap=overlap)

    def call() -> Any:
        result = api.start_sync(fn, args, kwargs, engine) if overlap else fn(*args, **kwargs)
        if type(result) is CoroutineType:
            node.is_async = True
            return await_(drive(result, engine))
        return result

    if node.is_async or engine == "loop":
        return run_sync(program)
    with running_node(node):
        return run_sync(call)


def twin_of(fn: Callable[..., Any], engine: Engine, *, overlap: bool = False) -> Callable[..., Awaitable[Any]]:
    """The async counterpart of a sync function, or an async function whose sync calls can wait."""
    if hasattr(fn, MARK):
        return fn

    async def twin(*args: Any, **kwargs: Any) -> Any:
        return await run_node(fn, args, kwargs, engine, overlap=overlap)

    twin = looking_like(fn, twin)
    setattr(twin, MARK, engine)
    return twin


def called_here(fn: Callable[..., Any], engine: Engine, *, overlap: bool = False) -> Callable[..., Any]:
    """The function, or the sync counterpart of an async one, in the bridge and in the thread that calls it."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return run_here(fn, args, kwargs, engine, overlap=overlap)

    return looking_like(fn, call)  # type: ignore[no-any-return]


def looking_like(fn: Any, wrapper: Any) -> Any:
    """Give the wrapper name, signature and `__wrapped__` of a callable, through which LangGraph finds subgraphs.

    A callable need not be a function: partials, builtins, C functions and objects with `__call__` lack one attribute
    or another, or have them with values that no function may have. A module or another object has the name of its
    class then, as nodes are named.
    """
    for name in functools.WRAPPER_ASSIGNMENTS:
        with suppress(Exception):  # attributes of an object of the user's, which may be properties that raise anything
            setattr(wrapper, name, getattr(fn, name))
    wrapper.__wrapped__ = fn
    while isinstance(fn, functools.partial):
        fn = fn.func
    for name in ("__name__", "__qualname__"):
        given: Any = None
        with suppress(Exception):
            given = getattr(fn, name, None) or getattr(fn, "__name__", None)
        setattr(wrapper, name, given if isinstance(given, str) else getattr(type(fn), name))
    return wrapper


def can_be_bridged(fn: Callable[..., Any]) -> bool:
    """Whether calling `fn` runs its code; a generator function's runs later, wherever it is consumed."""
    return not is_generator_function(fn)
