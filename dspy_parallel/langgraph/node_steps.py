"""Gives a graph's nodes async counterparts: functions, objects with `__call__`, modules, tool nodes, subgraphs.

A node of a compiled graph keeps what the user gave it; what LangGraph makes of it and of the writers behind it, once
for all runs, is what is converted (`PregelNode.node`). What is somebody's is wrapped and never copied: a copy parts
from the original as soon as one of them changes. Only LangGraph's own containers are rebuilt.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import sys
from collections.abc import AsyncIterator, Callable
from functools import cached_property
from typing import Any

import dspy
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import run_in_executor
from langchain_core.tracers.langchain import LangChainTracer
from langgraph._internal._runnable import RunnableCallable, RunnableSeq, set_config_context
from langgraph.graph._branch import BranchSpec
from langgraph.pregel import Pregel
from langgraph.pregel._read import PregelNode
from langgraph.pregel._write import ChannelWrite

from ..placement import Engine
from ..seams.async_counterparts import is_counterpart
from ..seams.langchain import has_async_side, has_own, parts_of
from .node_run import (
    MARK,
    Choice,
    NodeRun,
    called_here,
    can_be_bridged,
    looking_like,
    run_here,
    run_node,
    running_node,
    twin_of,
)
from .worker_executor import left

__all__ = ["ParallelNode", "Plan", "convert_step", "module_twin"]

_END = object()
_WRITERS: Any = vars(PregelNode)["flat_writers"].func
_NODE: Any = vars(PregelNode)["node"].func


class Plan:
    """How the nodes that are being converted are to run.

    Attributes:
        choice: Where.
        overlap: Whether with a scout ahead.
        convert_graph: Converts a compiled graph that is a node of another.
    """

    def __init__(self, choice: Choice, *, overlap: bool, convert_graph: Callable[[Any, Choice, bool], Any]) -> None:
        self.choice: Any = choice
        self.overlap = overlap
        self.convert_graph = convert_graph

    @property
    def engine(self) -> Engine:
        """Where what has to be in the bridge runs. The tools of a node that is left run in threads either way."""
        return "thread" if self.choice == "leave" else self.choice


class ParallelNode(PregelNode):
    """A node of a converted graph: what it runs is converted, what it shows is what it was made of."""

    __slots__ = ("plan",)  # not among the attributes, which `PregelNode.copy()` hands to a constructor
    plan: Plan

    @classmethod
    def of(cls, node: PregelNode, plan: Plan) -> ParallelNode:
        """The same node, converted."""
        made = object.__new__(cls)
        vars(made).update({k: v for k, v in vars(node).items() if k not in ("node", "flat_writers")})
        made.plan = plan
        made.subgraphs = [plan.convert_graph(graph, plan.choice, plan.overlap) for graph in node.subgraphs]
        return made

    @cached_property
    def flat_writers(self) -> list[Any]:
        """Its writers; among them, conditional edges."""
        return [convert_step(writer, self.plan) for writer in _WRITERS(self)]

    @cached_property
    def node(self) -> Any:
        """What it runs: the user's part and the writers."""
        node = _NODE(self)
        return None if node is None else convert_step(node, self.plan)


def convert_step(step: Any, plan: Plan) -> Any:
    """What runs in a step's place: its async side waits in the bridge, its sync side in the thread that calls it."""
    if isinstance(step, Pregel):
        return plan.convert_graph(step, plan.choice, plan.overlap)
    if isinstance(step, (ChannelWrite, _Step)):
        return step
    if isinstance(step, RunnableSeq):
        return _with(step, steps=[convert_step(part, plan) for part in step.steps])
    if type(step) is RunnableCallable:
        return _convert_callable(step, plan)
    return _Step(step, plan)


def _with(made_by_langgraph: Any, **attributes: Any) -> Any:
    changed = copy.copy(made_by_langgraph)
    vars(changed).update(attributes)
    return changed


def _convert_callable(step: Any, plan: Plan) -> Any:
    """What LangGraph makes of a function: the function stays what it is, and so does LangGraph's cache key."""
    func: Any = step.func
    afunc: Any = step.afunc
    branch = getattr(func, "__self__", None)
    if isinstance(branch, BranchSpec):
        branch = branch._replace(path=convert_step(branch.path, plan))
        return _with(step, func=branch._route, afunc=branch._aroute)
    is_sync = afunc is None or (isinstance(afunc, functools.partial) and afunc.func is run_in_executor)
    if plan.choice == "leave":
        return _with(step, afunc=left(func)) if is_sync else step
    fn: Any = func if is_sync else afunc
    if isinstance(getattr(fn, "__self__", None), _Step) or not can_be_bridged(fn):
        return step
    twin = module_twin(fn, plan.choice, overlap=plan.overlap) if isinstance(fn, dspy.Module) else None
    here = fn if func is None or plan.choice == "loop" else func  # where no thread may be used, what needs none
    return _in_config_context(
        _with(
            step,
            func=called_here(here, plan.choice, overlap=plan.overlap),
            afunc=twin or twin_of(fn, plan.choice, overlap=plan.overlap),
        )
    )


def module_twin(module: Any, engine: Engine, *, overlap: bool = False) -> Any:
    """Modules are awaited through `acall`, if it does what `__call__` does."""
    cls = type(module)
    is_same = is_counterpart(cls, "__call__", "acall") and is_counterpart(cls, "forward", "aforward")
    aforward = getattr(cls, "aforward", None)
    if not is_same or "forward" in vars(module) or aforward is None or overlap:
        return twin_of(module, engine, overlap=overlap)

    async def acall(*args: Any, **kwargs: Any) -> Any:
        return await module.acall(*args, **kwargs)

    if hasattr(aforward, MARK):
        setattr(acall, MARK, engine)

    async def twin(*args: Any, **kwargs: Any) -> Any:
        return await run_node(acall, args, kwargs, engine)

    twin = looking_like(module, twin)
    setattr(twin, MARK, engine)
    return twin


class _Step(Runnable[Any, Any]):
    """Stands before a Runnable of the user's, or of LangChain's, which itself does the work."""

    def __init__(self, wrapped: Any, plan: Plan) -> None:
        self._wrapped = wrapped
        self._plan = plan

    def __getattr__(self, name: str) -> Any:
        if name in ("_wrapped", "_plan"):
            raise AttributeError(name)
        return getattr(self._wrapped, name)

    def get_name(self, *args: Any, **kwargs: Any) -> str:
        return self._wrapped.get_name(*args, **kwargs)  # type: ignore[no-any-return]

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        if self._plan.choice == "leave":
            return self._wrapped.invoke(input, config, **kwargs)
        side = self._wrapped.invoke if has_sync_side(self._wrapped) else self._wrapped.ainvoke
        return run_here(side, (input, config), kwargs, self._plan.engine)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        is_async = has_async_side(self._wrapped)
        if self._plan.choice != "leave":
            side = self._wrapped.ainvoke if is_async else self._wrapped.invoke
            return await _in_context(config, lambda: run_node(side, (input, config), kwargs, self._plan.engine))
        if not is_async:
            return await left(self._wrapped.invoke)(input, config, **kwargs)
        with running_node(NodeRun("leave", is_async=True)):
            return await self._wrapped.ainvoke(input, config, **kwargs)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        if not has_async_side(self._wrapped, "stream") or self._plan.choice == "leave":
            yield await self.ainvoke(input, config, **kwargs)
            return
        items = self._wrapped.astream(input, config, **kwargs)

        async def following() -> Any:
            return await anext(items, _END)

        while (item := await run_node(following, (), {}, self._plan.engine)) is not _END:
            yield item


def has_sync_side(runnable: Any) -> bool:
    """Whether a Runnable can be invoked. LangGraph's and LangChain's can be made of a coroutine function alone."""
    for sync, asynchronous in (("func", "afunc"), ("_transform", "_atransform")):
        has_async, has_sync = (
            has_own(runnable, name) and getattr(runnable, name) is not None for name in (asynchronous, sync)
        )
        if has_async and not has_sync:
            return False
    return all(has_sync_side(part) for part in parts_of(runnable))


# Before Python 3.11 LangGraph cannot give a node's task a context of its own, and so does not set the config that
# interrupt() and get_stream_writer() look up. A task copies the context in which it is created.

if sys.version_info >= (3, 11):

    def _in_config_context(step: Any) -> Any:
        return step

    async def _in_context(config: RunnableConfig | None, run: Callable[[], Any]) -> Any:
        return await run()

else:

    class _ConfiguredCallable(RunnableCallable):
        async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
            return await _in_context(config, lambda: RunnableCallable.ainvoke(self, input, config, **kwargs))

    _ConfiguredCallable.__name__ = RunnableCallable.__name__  # which is that of a lambda's run, for callbacks

    def _in_config_context(step: Any) -> Any:
        step.__class__ = _ConfiguredCallable
        return step

    async def _in_context(config: RunnableConfig | None, run: Callable[[], Any]) -> Any:
        if config is None:
            return await run()
        with set_config_context(config, _run_of(config)) as context:
            return await context.run(asyncio.create_task, run())

    def _run_of(config: RunnableConfig) -> Any:
        """The LangSmith run that the config's callbacks belong to.

        As LangGraph finds it from 3.11 on: only LangSmith's own tracer has one. With another tracer's run as parent,
        LangSmith would trace what the node calls, and send it, though its tracing is off.
        """
        manager: Any = config.get("callbacks")
        parent = str(getattr(manager, "parent_run_id", None))
        tracers = (each for each in getattr(manager, "handlers", ()) if isinstance(each, LangChainTracer))
        return next((tracer.run_map[parent] for tracer in tracers if parent in tracer.run_map), None)
