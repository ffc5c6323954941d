"""What is known of a graph's nodes: what each calls, what that sees of the state, and where the graph goes from it."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy
from langchain_core.runnables.config import run_in_executor
from langgraph._internal._runnable import RunnableCallable
from langgraph.graph._branch import BranchSpec
from langgraph.pregel._read import DEFAULT_BOUND
from langgraph.pregel._write import ChannelWrite, ChannelWriteEntry, ChannelWriteTupleEntry

from ..callables import is_coroutine_function
from .state_keys import NOTHING_KNOWN, Keys, code_of, keys_of

__all__ = ["Branch", "NodeFacts", "View", "facts_of_node", "keys_of_input"]

_TO = "branch:to:"
_JOIN = "join:"


@dataclass(frozen=True)
class View:
    """What code of the user's gets to see of the state.

    Attributes:
        keys: Those of the channels that it is made of, in order.
        schema: The class that it is made into; None for a dict.
    """

    keys: Sequence[str]
    schema: Any = None


def _view(channels: Any, mapper: Any) -> View | None:
    schema = mapper.args[0] if isinstance(mapper, functools.partial) and mapper.args else None
    return View(channels, schema) if isinstance(channels, list) and (mapper is None or schema is not None) else None


@dataclass(frozen=True)
class Branch:
    """A conditional edge.

    Attributes:
        path: Its path function.
        view: What that sees of the state; None if it is given the input of the graph.
        takes_update: Whether it is also shown what the node has returned.
        reads: The keys that it looks at.
        ends: Where its results lead; None if they are names of nodes.
    """

    path: Any
    view: View | None
    takes_update: bool
    reads: frozenset[str] | None
    ends: Mapping[Any, str] | None


@dataclass
class NodeFacts:
    """One node, as far as it is known.

    Attributes:
        name: Its name.
        function: What is called; None if it cannot be followed.
        injected: The parameters that LangGraph fills in.
        view: What it sees of the state.
        keys: Which keys it reads and writes.
        graph: The graph that it is, if it is one that can be followed.
        edges: The nodes that run after it.
        joins: The joins that it takes part in.
        branches: Its conditional edges; None if something else may decide what runs after it.
    """

    name: str
    function: Any = None
    injected: tuple[str, ...] = ()
    view: View | None = None
    keys: Keys = NOTHING_KNOWN
    graph: Any = None
    edges: list[str] = field(default_factory=list[str])
    joins: list[str] = field(default_factory=list[str])
    branches: list[Branch] | None = field(default_factory=list[Branch])

    @property
    def may_command(self) -> bool:
        """Whether what it returns may lead elsewhere: a `Command`."""
        return self.keys.may is None and self.graph is None

    @property
    def may_ask(self) -> bool:
        """Whether it, or what decides what runs after it, may come to an LM call that the scout can make."""
        is_asking = self.keys.may_ask or (self.graph is not None and self.graph.may_ask)
        return is_asking or any(keys_of(branch.path).may_ask for branch in self.branches or ())


def facts_of_node(name: str, node: Any) -> NodeFacts:
    """What LangGraph's node shows of itself."""
    found = NodeFacts(name, view=_view(node.channels, node.mapper))
    if node.cache_policy is None and found.view is not None:
        found.function, found.injected = _function_of(node.bound)
        found.keys = keys_of(found.function)
    for writer in node.writers:
        _add_writer(found, writer)
    return found


def _function_of(runnable: Any) -> tuple[Any, tuple[str, ...]]:
    """The function, or what can be called like one, of a node or a path, and the parameters that LangGraph fills in."""
    if type(runnable) is not RunnableCallable or runnable is DEFAULT_BOUND or runnable.kwargs or runnable.explode_args:
        return None, ()
    func: Any = runnable.func
    afunc: Any = runnable.afunc
    if isinstance(afunc, functools.partial) and afunc.func is run_in_executor:
        is_plain = not is_coroutine_function(func)
    else:
        is_plain, func = func is None, afunc
    code, _ = code_of(func)
    if code is None or not is_plain:
        return None, ()
    if not isinstance(func, (types.FunctionType, types.MethodType, functools.partial, dspy.Module)):
        func = types.MethodType(code, func)  # an object's `__call__`
    return func, tuple(runnable.func_accepts)


def _add_writer(found: NodeFacts, writer: Any) -> None:
    branch = getattr(getattr(writer, "func", None), "__self__", None)
    if isinstance(branch, BranchSpec):
        _add_branch(found, branch, writer.kwargs.get("reader"))
    elif not isinstance(writer, ChannelWrite):
        found.branches = None
    else:
        for entry in writer.writes:
            if isinstance(entry, ChannelWriteEntry) and entry.channel.startswith(_TO):
                found.edges.append(entry.channel.removeprefix(_TO))
            elif isinstance(entry, ChannelWriteEntry) and entry.channel.startswith(_JOIN):
                found.joins.append(entry.channel)
            elif not isinstance(entry, ChannelWriteTupleEntry):  # which is the update
                found.branches = None


def _add_branch(found: NodeFacts, branch: BranchSpec, reader: Any) -> None:
    path, injected = _function_of(branch.path)
    read = getattr(reader, "keywords", {})
    view = _view(read.get("select"), read.get("mapper"))
    if path is None or injected or (view is None) is not (reader is None):
        found.branches = None
    elif found.branches is not None:
        takes_update = view is not None and view.schema is None and branch.input_schema is None
        found.branches.append(Branch(path, view, takes_update, keys_of(path).reads, branch.ends))


def keys_of_input(start: Any) -> Sequence[str] | None:
    """The keys that a graph takes from its input, given its first node."""
    for writer in () if start is None else start.writers:
        for entry in getattr(writer, "writes", ()):
            mapper: Any = getattr(entry, "mapper", None)
            names = getattr(getattr(mapper, "__code__", None), "co_freevars", ())
            if "output_keys" in names:
                found = mapper.__closure__[names.index("output_keys")].cell_contents
                return found if isinstance(found, list) else None
    return None
