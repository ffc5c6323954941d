"""LangGraph's builders, for those who convert whatever graph a program compiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .table import Seam, everywhere, register

__all__ = ["when_compiled"]


def when_compiled(convert: Callable[[Any], Any]) -> None:
    """Have each graph that is compiled from now on replaced by what this makes of it; once in a process.

    LangGraph need not be imported, and is not.
    """

    def compile(original: Callable[..., Any], builder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        graph = original(*args, **kwargs)
        return graph if getattr(type(graph), "_is_parallel", False) else convert(graph)

    register(Seam("langgraph.graph.state:StateGraph.compile", compile, when=everywhere, layer="run"))
