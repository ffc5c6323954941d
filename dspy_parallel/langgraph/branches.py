"""Conditional edges: their path functions run in the bridge, without a thread hop of their own for each step."""

from __future__ import annotations

import copy
from typing import Any

from langgraph._internal._runnable import RunnableCallable
from langgraph.graph._branch import BranchSpec

from .nodes import Choice, Convert, convert_runnable

__all__ = ["convert_branch", "convert_writer"]


def convert_branch(branch: BranchSpec, engine: Choice, convert_graph: Convert) -> BranchSpec:
    """The same branch with a converted path."""
    return branch._replace(path=convert_runnable(branch.path, engine, convert_graph))


def convert_writer(writer: Any, engine: Choice, convert_graph: Convert) -> Any:
    """Convert the branch inside a compiled node's writer; other writers do no work that could wait."""
    branch = getattr(getattr(writer, "func", None), "__self__", None)
    if not isinstance(writer, RunnableCallable) or not isinstance(branch, BranchSpec):
        return writer
    converted = convert_branch(branch, engine, convert_graph)
    if converted.path is branch.path:
        return writer
    writer = copy.copy(writer)
    writer.func, writer.afunc = converted._route, converted._aroute
    return writer
