"""Checkpointers whose async methods do not do what their sync ones do."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator, Sequence
from typing import Any

from ..langgraph.savers import _needs_thread
from ..seams.twins import refuses
from ..targets import Target
from .findings import Finding, Place
from .graphs import is_parallelized
from .programs import Program

__all__ = ["checkpoint_findings"]

_METHODS = ("get_tuple", "put", "put_writes", "list")


def checkpoint_findings(target: Target, programs: Sequence[Program]) -> Iterator[Finding]:
    """For a compiled graph that is not parallelised; one that is brings a thread for such a saver."""
    saver: Any = getattr(target.value, "checkpointer", None)
    if saver is None or isinstance(saver, bool) or is_parallelized(target.value):
        return
    cls: Any = type(saver)
    lacking = [name for name in _METHODS if _needs_thread(cls, name)]
    if not lacking:
        return
    raises = any(refuses(cls, f"a{name}") for name in lacking)
    has_async_nodes = any(program.where == "loop" for program in programs)
    methods = ", ".join(f"a{name}" for name in lacking)
    yield Finding(
        "sync-checkpointer",
        "error" if has_async_nodes else "warning",
        _compiled_at(programs, cls.__name__),
        target.name,
        f"{cls.__qualname__} has no {methods} that does what its sync counterpart does.",
        "ainvoke raises NotImplementedError" + (", and async nodes allow nothing else." if has_async_nodes else ".")
        if raises
        else "Under ainvoke its override is passed by: checkpoints are stored by the inherited method.",
        f"Async{cls.__name__} in an async program; or parallelize_graph(graph), which runs it in a thread of its own.",
    )


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
