"""Carries LangGraph's exceptions through DSPy's `except Exception`.

`interrupt()` stops a graph by raising `GraphInterrupt`, which is an `Exception`. `dspy.ReAct` catches whatever a
tool raises and tells the model about it; `BestOfN`, `Refine` and `Parallel` count it as a failed attempt. The
graph then goes on as if nobody had asked for a human: a question of safety, not only of correctness.

So where such an exception leaves user code for code *of DSPy*, it is exchanged for a `BaseException` that carries
it, and exchanged back where it leaves DSPy again, at the node's boundary at the latest. User code always sees
LangGraph's own exception and can catch it.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any, TypeVar

import dspy
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.errors import GraphBubbleUp

from ..bridge import Engine
from ..seams.table import Seam, register

__all__ = ["Carried", "NodeRun", "current_node"]

T = TypeVar("T")


class Carried(BaseException):
    """Not an `Exception`, so that it passes where one would be swallowed."""

    def __init__(self, exception: GraphBubbleUp) -> None:
        super().__init__(exception)
        self.exception = exception


def _callers() -> list[Any]:
    """The DSPy modules whose `forward()` is running, outermost first."""
    return dspy.settings.get("caller_modules") or []


class NodeRun:
    """What the code of one run of a node can ask about that run.

    Attributes:
        is_async: Whether the node's function is a coroutine function.
        engine: The node's engine.
    """

    __slots__ = ("_callers_outside", "engine", "is_async")

    def __init__(self, engine: Engine, *, is_async: bool) -> None:
        self.is_async = is_async
        self.engine: Engine = engine
        self._callers_outside = len(_callers())

    @property
    def is_called_by_dspy(self) -> bool:
        """Whether the running code was called by code of DSPy's, which may swallow what it raises."""
        callers = _callers()
        return len(callers) > self._callers_outside and _is_dspys(type(callers[-1]))


current_node: contextvars.ContextVar[NodeRun | None] = contextvars.ContextVar("dspy_parallel_node", default=None)


def _is_dspys(cls: type) -> bool:
    definer = next((base for base in cls.__mro__ if "forward" in vars(base)), cls)
    return definer.__module__.partition(".")[0] == "dspy"


def _leaving(exc: GraphBubbleUp | Carried) -> BaseException:
    """The form that the exception has to take for the code that called what it leaves now."""
    original = exc.exception if isinstance(exc, Carried) else exc
    node = current_node.get()
    if node is None or not node.is_called_by_dspy:
        return original
    return exc if isinstance(exc, Carried) else Carried(original)


def _call(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return original(*args, **kwargs)
    except (GraphBubbleUp, Carried) as exc:
        leaving = _leaving(exc)
        if leaving is exc:
            raise
    raise leaving


def _acall(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _awaited(original(*args, **kwargs))


async def _awaited(coroutine: Any) -> Any:
    try:
        return await coroutine
    except (GraphBubbleUp, Carried) as exc:
        leaving = _leaving(exc)
        if leaving is exc:
            raise
    raise leaving


class _Rewarding:
    """A reward function called by `BestOfN` or `Refine`; a plain object, so that modules stay copyable."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __call__(self, *args: Any) -> Any:
        return _call(self.fn, None, args, {}) if _in_node() else self.fn(*args)


def _with_reward(original: Callable[..., Any], module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not isinstance(module.reward_fn, _Rewarding):
        module.reward_fn = _Rewarding(module.reward_fn)
    return original(*args, **kwargs)


def _execute(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`dspy.Parallel` and `Evaluate`: their threads belong to the node's run, too."""
    node = current_node.get()
    config = var_child_runnable_config.get()

    def execute(function: Callable[[Any], Any], data: Any) -> Any:
        def item(example: Any) -> Any:
            tokens = current_node.set(node), var_child_runnable_config.set(config)
            try:
                return function(example)
            except GraphBubbleUp as exc:
                carried = Carried(exc)
            finally:
                current_node.reset(tokens[0])
                var_child_runnable_config.reset(tokens[1])
            raise carried

        return original(item, data)

    try:
        return execute(*args, **kwargs)
    except Carried as exc:
        leaving = _leaving(exc)
        if leaving is exc:
            raise
    raise leaving


def _in_node() -> bool:
    # And not only in the bridge: DSPy's own threads are not bridged.
    return current_node.get() is not None


def _row(target: str, handler: Callable[..., Any]) -> Seam:
    return Seam(target, handler, when=_in_node, layer="swallowing")


register(
    _row("dspy.primitives.module:Module.__call__", _call),
    _row("dspy.primitives.module:Module.acall", _acall),
    _row("dspy.adapters.types.tool:Tool.__call__", _call),
    _row("dspy.adapters.types.tool:Tool.acall", _acall),
    _row("dspy.predict.best_of_n:BestOfN.forward", _with_reward),
    _row("dspy.predict.refine:Refine.forward", _with_reward),
    _row("dspy.utils.parallelizer:ParallelExecutor.execute", _execute),
)
