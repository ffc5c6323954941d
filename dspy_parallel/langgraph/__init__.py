"""Graphs of LangGraph whose sync nodes run concurrently on the event loop."""

from __future__ import annotations

from .versions import built_differently, check_langgraph

# Before the imports below, which a LangGraph that is built differently would break with a less clear error.
check_langgraph()

try:
    # They fill the seam table.
    from . import seams, stores, swallowing  # noqa: F401  # pyright: ignore[reportUnusedImport]
    from .functions import async_node
    from .graphs import parallelize_graph
    from .retrying import retry_on
except ImportError as exc:
    if (exc.name or "").partition(".")[0] not in ("langchain_core", "langgraph"):
        raise
    raise built_differently(str(exc)) from exc

__all__ = ["async_node", "parallelize_graph", "retry_on"]
