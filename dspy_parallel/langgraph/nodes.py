"""Gives a graph's runnables async twins: functions, objects with `__call__`, modules, tool nodes, subgraphs.

Runnables are copied before they are changed, because users share them between graphs. `func` stays the user's
function in every copy: it is LangGraph's cache key, and what it inspects for injected arguments and subgraphs.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, TypeVar

import dspy
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda, RunnableParallel, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import run_in_executor
from langgraph._internal._runnable import RunnableCallable, RunnableSeq, set_config_context
from langgraph.pregel import Pregel

from ..bridge import Engine, await_
from ..overlap import entrance
from ..seams.langchain import has_async_side
from ..seams.twins import is_twin
from .compiled import same_name
from .leaving import left, left_async
from .running import MARK, bridged, can_be_bridged, looking_like, run_awaited, run_node

__all__ = ["Choice", "Convert", "convert_runnable", "module_twin"]

try:
    _tool_nodes: tuple[type, ...] = (import_module("langgraph.prebuilt").ToolNode,)
except ImportError:  # a package of its own, whose newest release does not always fit an older LangGraph
    _tool_nodes = ()

R = TypeVar("R")
Choice = Literal["auto", "loop", "thread", "leave"]
"""An engine, or that LangGraph runs the node as it would."""
Convert = Callable[[Any, Choice], Any]
"""Converts a compiled graph; nodes can't import that from graphs, which converts nodes."""


def convert_runnable(runnable: Any, engine: Choice, convert_graph: Convert) -> Any:
    """A copy of a node's runnable whose async side runs in the bridge; the runnable itself if there is nothing to do.

    Args:
        runnable: What a graph has as a node, a path or a task.
        engine: Where its sync functions run.
        convert_graph: Converts a compiled graph that is a node of another.
    """

    def convert(part: Any) -> Any:
        return convert_runnable(part, engine, convert_graph)

    if isinstance(runnable, Pregel):
        return convert_graph(runnable, engine)
    if isinstance(runnable, _tool_nodes):
        return _convert_tool_node(runnable, engine)
    if isinstance(runnable, RunnableCallable):
        return _convert_callable(runnable, engine)
    if isinstance(runnable, RunnableLambda):
        return _convert_lambda(runnable, engine)
    if isinstance(runnable, RunnableSeq):
        return _with(runnable, steps=[convert(step) for step in runnable.steps])
    if isinstance(runnable, RunnableSequence):
        return _with(
            runnable,
            first=convert(runnable.first),
            middle=[convert(step) for step in runnable.middle],
            last=convert(runnable.last),
        )
    if isinstance(runnable, RunnableParallel):
        return _with(runnable, steps__={name: convert(step) for name, step in runnable.steps__.items()})
    if isinstance(runnable, RunnableBindingBase):
        return _with(runnable, bound=convert(runnable.bound))
    if isinstance(runnable, Runnable) and not has_async_side(runnable):
        return _convert_sync_runnable(runnable, engine)
    return runnable


def _with(runnable: R, **attributes: Any) -> R:
    changed = copy.copy(runnable)
    for name, value in attributes.items():
        setattr(changed, name, value)
    return changed


def _convert_callable(runnable: Any, engine: Choice) -> Any:
    afunc: Any = runnable.afunc
    func: Any = runnable.func
    is_executor_backed = isinstance(afunc, functools.partial) and afunc.func is run_in_executor
    if hasattr(afunc, MARK):
        return runnable
    if engine == "leave":
        return _with(runnable, afunc=left(func)) if is_executor_backed else runnable
    if func is not None and (afunc is None or is_executor_backed):
        if not can_be_bridged(func):
            return runnable
        twin = module_twin(func, engine) if isinstance(func, dspy.Module) else bridged(func, engine)
    else:
        twin = bridged(afunc, engine)
    converted = _with(runnable, afunc=twin)
    return _in_config_context(converted)


def module_twin(module: Any, engine: Engine) -> Any:
    """Modules are awaited through `acall`, if it does what `__call__` does."""
    cls = type(module)
    if not (is_twin(cls, "__call__", "acall") and is_twin(cls, "forward", "aforward")) or "forward" in vars(module):
        return bridged(module, engine)
    aforward = getattr(cls, "aforward", None)
    if aforward is None or entrance.is_wanted():
        return bridged(module, engine)
    # With a bridge of its own, it must not be run inside another one: there its code would never have a thread to be
    # watched in.
    run = run_awaited if hasattr(aforward, MARK) else run_node

    async def twin(*args: Any, **kwargs: Any) -> Any:
        return await run(module.acall, args, kwargs, engine)

    return looking_like(module, twin, engine)


def _convert_lambda(runnable: RunnableLambda[Any, Any], engine: Choice) -> RunnableLambda[Any, Any]:
    func = getattr(runnable, "func", None)
    afunc = getattr(runnable, "afunc", None)
    fn = afunc or func
    if fn is None or hasattr(fn, MARK) or not can_be_bridged(fn):
        return runnable
    if engine == "leave":
        return _with(runnable, afunc=left_async(fn)) if afunc is None else runnable
    return _with(runnable, afunc=bridged(fn, engine))


def _convert_tool_node(node: Any, choice: Choice) -> Any:
    """Keeps the node's own async side, and lets a sync `wrap_tool_call` wait for the tool instead of blocking."""
    if hasattr(node.afunc, MARK):
        return node
    engine: Engine = "thread" if choice == "leave" else choice  # its tools run in threads anyway
    converted = copy.copy(node)
    native = type(node)._afunc.__get__(converted)
    wrap: Any = getattr(node, "_wrap_tool_call", None)
    if wrap is not None and getattr(node, "_awrap_tool_call", None) is None:

        async def awrap(request: Any, execute: Callable[[Any], Any]) -> Any:
            return await run_node(wrap, (request, lambda request: await_(execute(request))), {}, engine)

        converted._awrap_tool_call = awrap
    converted.afunc = bridged(native, engine)
    return _in_config_context(converted)


def _convert_sync_runnable(runnable: Any, engine: Choice) -> Any:
    """A user's Runnable, a model or a retriever with an `invoke` of its own and no `ainvoke` to match."""
    cls = type(runnable)
    if hasattr(cls.ainvoke, MARK):
        return runnable

    async def ainvoke(self: Any, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        call = functools.partial(cls.invoke, self)
        if engine == "leave":
            return await left(call)(input, config, **kwargs)
        return await run_node(call, (input, config), kwargs, engine)

    functools.update_wrapper(ainvoke, cls.invoke)
    ainvoke.__name__ = "ainvoke"
    setattr(ainvoke, MARK, engine)
    converted = copy.copy(runnable)
    try:
        converted.__class__ = same_name(cls, {"ainvoke": ainvoke})
    except TypeError:  # a layout that can't be exchanged; LangGraph runs it in its own threads, as before
        return runnable
    return converted


if sys.version_info >= (3, 11):

    def _in_config_context(runnable: Any) -> Any:
        return runnable

else:
    # Before 3.11 LangGraph cannot give a node's task a context of its own, and so does not set the config that
    # interrupt() and get_stream_writer() look up. A task copies the context in which it is created.

    @functools.cache
    def _with_context(cls: Any) -> Any:
        async def ainvoke(self: Any, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
            if config is None:
                return await cls.ainvoke(self, input, config, **kwargs)
            with set_config_context(config, _run_of(config)) as context:
                coroutine = cls.ainvoke(self, input, config, **kwargs)
                return await context.run(asyncio.create_task, coroutine)

        return same_name(cls, {"ainvoke": ainvoke})

    def _in_config_context(runnable: Any) -> Any:
        cls: Any = type(runnable)
        runnable.__class__ = _with_context(cls)
        return runnable

    def _run_of(config: RunnableConfig) -> Any:
        """The LangSmith run that the config's callbacks belong to."""
        manager: Any = config.get("callbacks")
        parent = str(getattr(manager, "parent_run_id", None))
        maps = (getattr(handler, "run_map", {}) for handler in getattr(manager, "handlers", ()))
        return next((run_map[parent] for run_map in maps if parent in run_map), None)
