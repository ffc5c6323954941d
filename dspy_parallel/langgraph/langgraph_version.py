"""What we rely on inside LangGraph, checked before anything is converted.

LangGraph's runnables, node specs and branches are not public. A release that renames one of them must give one
clear error here, not a graph that silently computes something else.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import operator
import re
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..errors import LangGraphVersionError, installation
from ..seams.releases import is_expected
from ..seams.table import rows

__all__ = ["built_differently", "check_langgraph"]

_NAMES = {
    "langgraph._internal._constants:PULL": (1, 0),
    "langgraph._internal._runnable:RunnableCallable.ainvoke": (1, 0),
    "langgraph._internal._runnable:RunnableSeq.ainvoke": (1, 0),
    "langgraph.channels.named_barrier_value:NamedBarrierValueAfterFinish": (1, 0),
    "langgraph.graph._branch:BranchSpec._route": (1, 0),
    "langgraph.graph._branch:BranchSpec._aroute": (1, 0),
    "langgraph.graph._branch:BranchSpec.path": (1, 0),
    "langgraph.graph.state:StateGraph.compile": (1, 0),
    "langgraph.graph.state:_DEFAULT_ERROR_HANDLER_NODE": (1, 2),
    "langgraph.pregel:Pregel._resolve_checkpointer": (1, 2),
    "langgraph.pregel:Pregel.aget_state": (1, 0),
    "langgraph.pregel:Pregel.aget_state_history": (1, 0),
    "langgraph.pregel:Pregel.abulk_update_state": (1, 0),
    "langgraph.pregel:Pregel.aclear_cache": (1, 0),
    "langgraph.pregel._read:DEFAULT_BOUND": (1, 0),
    "langgraph.pregel._read:PregelNode.flat_writers": (1, 0),
    "langgraph.pregel._read:PregelNode.node": (1, 0),
    "langgraph.store.base.batch:AsyncBatchedBaseStore._loop": (1, 0),
}
"""What no import asks for, each with the version of LangGraph since when it must be there, perhaps by a base class."""

_PARAMETERS = {
    "langgraph._internal._runnable:RunnableCallable.__init__": {"func", "afunc", "name", "trace", "explode_args"},
    "langgraph.graph._node:StateNodeSpec.__init__": {"runnable", "ends", "defer"},
    "langgraph.graph._branch:BranchSpec.__new__": {"path", "ends", "input_schema"},
    "langgraph.pregel._read:PregelNode.__init__": {"bound", "writers", "subgraphs"},
}


def _node(state: Any) -> Any: ...


_MADE: dict[str, tuple[Callable[[Any], Any], dict[str, tuple[int, int]]]] = {
    # A sync function's async side, by which nodes are known to be sync.
    "langgraph._internal._runnable:coerce_to_runnable": (
        lambda coerce: coerce(_node, name="node", trace=False),
        {"func": (1, 0), "afunc.func": (1, 0)},
    ),
    "langgraph._internal._runnable:RunnableSeq": (lambda cls: cls(_node, _node), {"steps": (1, 0)}),
    "langgraph.graph.state:StateGraph": (
        lambda cls: cls(dict),
        {"nodes": (1, 0), "branches": (1, 0), "_node_defaults.error_handler": (1, 2)},
    ),
    "langgraph.prebuilt:ToolNode": (
        lambda cls: cls([]),
        {"_afunc": (1, 0), "afunc": (1, 0), "_wrap_tool_call": (1, 1), "_awrap_tool_call": (1, 1)},
    ),
}
"""What only instances have: how to make one, and since when each attribute must be there."""


def _defined(owner: Any, name: str) -> Any:
    """What a module or a class has by that name; other than `getattr()`, not what every object or Runnable has."""
    if not isinstance(owner, type):
        return getattr(owner, name)
    package = owner.__module__.partition(".")[0]
    for cls in owner.__mro__:
        found = vars(cls).get(name)
        is_theirs = cls.__module__.partition(".")[0] == package
        if found is not None and is_theirs and not getattr(found, "__isabstractmethod__", False):
            return found
    raise AttributeError(name)


def _find(target: str) -> Any:
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = _defined(found, name)
    return found


def _is_there(target: str) -> bool:
    try:
        _find(target)
    except (ImportError, AttributeError):
        return False
    return True


def _patched() -> Iterator[str]:
    """What seams patch here. The class itself must define it."""
    for seam in rows():
        if seam.module.startswith(("langgraph.", "langchain_core.")) and is_expected(seam):
            yield seam.target


def _is_patchable(target: str) -> bool:
    module, _, path = target.partition(":")
    *owner, name = path.split(".")
    try:
        found: Any = importlib.import_module(module)
        for step in owner:
            found = getattr(found, step)
    except (ImportError, AttributeError):
        return False
    return name in vars(found)


def _missing(installed: tuple[int, ...]) -> Iterator[str]:
    yield from (name for name, since in _NAMES.items() if since <= installed and not _is_there(name))
    yield from (name for name in _patched() if not _is_patchable(name))
    for target, parameters in _PARAMETERS.items():
        if not _is_there(target):
            yield target
        elif absent := parameters - set(inspect.signature(_find(target)).parameters):
            yield f"{target}({', '.join(sorted(absent))})"
    for target, (make, attributes) in _MADE.items():
        try:
            importlib.import_module(target.partition(":")[0])
        except ImportError:  # langgraph.prebuilt, see nodes; of the others the names above tell
            continue
        try:
            instance = make(_find(target))
        except Exception:
            yield f"{target}()"
            continue
        for name, since in attributes.items():
            try:
                operator.attrgetter(name)(instance)
            except AttributeError:
                if since <= installed:
                    yield f"{target}().{name}"


def built_differently(reason: str) -> LangGraphVersionError:
    """The one error for whatever is not as expected."""
    return LangGraphVersionError(
        f"This version of dspy_parallel cannot convert graphs of LangGraph {version('langgraph')}: {reason}. "
        "Update dspy_parallel, or use LangGraph 1.0 to 1.2."
    )


@functools.cache
def check_langgraph() -> None:
    """Make sure that LangGraph is installed, and built the way the conversion expects.

    Raises:
        LangGraphVersionError: If something is missing; the message names it.
        ModuleNotFoundError: If it is not installed.
    """
    try:
        installed = version("langgraph")
    except PackageNotFoundError:
        raise ModuleNotFoundError(
            f"dspy_parallel.langgraph needs LangGraph, which is not installed: {installation('langgraph')}",
            name="langgraph",
        ) from None
    if missing := [*_missing(tuple(map(int, re.findall(r"\d+", installed)[:2])))]:
        raise built_differently(f"{', '.join(missing)} is missing there")
