"""Checkpointers whose async methods do not do what their sync ones do."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator, Sequence
from typing import Any

from ..analysis.places import Place
from ..langgraph.savers import needs_thread
from ..seams.async_counterparts import refuses
from .catalogue import Level
from .findings import Finding, found
from .graph_nodes import is_parallelized
from .parts import Program
from .target import Target

__all__ = ["checkpoint_findings"]

_METHODS = ("get_tuple", "put", "put_writes", "list")


def checkpoint_findings(target: Target, programs: Sequence[Program]) -> Iterator[Finding]:
    """For a compiled graph that is not parallelised; one that is brings a thread for such a saver."""
    saver: Any = getattr(target.value, "checkpointer", None)
    if saver is None or isinstance(saver, bool) or is_parallelized(target.value):
        return
    cls: Any = type(saver)
    lacking = [name for name in _METHODS if needs_thread(cls, name)]
    if not lacking:
        return
    raises = any(refuses(cls, f"a{name}") for name in lacking)
    is_async = any(program.where == "loop" for program in programs)
    if raises:
        cost = "ainvoke raises NotImplementedError" + (", and async nodes allow nothing else." if is_async else ".")
    else:
        cost = "Under ainvoke its override is passed by: checkpoints are stored by the inherited method."
    words = {"cls": cls.__name__, "methods": ", ".join(f"a{name}" for name in lacking), "cost": cost}
    level: Level | None = "error" if is_async else None
    yield found("sync-checkpointer", _compiled_at(programs, cls.__name__), target.name, words, level=level)


def _compiled_at(programs: Sequence[Program], saver: str) -> Place:
    """The line of `compile(checkpointer=...)` in the file of the nodes, else the first node's."""
    first = programs[0].place if programs else Place("?", 1)
    try:
        tree = ast.parse("".join(linecache.getlines(first.file)))
    except SyntaxError:
        return first
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "compile"
        and any(keyword.arg == "checkpointer" for keyword in node.keywords)
    ]
    calls.sort(key=lambda node: saver not in ast.unparse(node))
    return Place(first.file, calls[0].func.end_lineno or calls[0].lineno, "") if calls else first
