"""Graphs of LangGraph whose sync nodes run concurrently on the event loop."""

from __future__ import annotations

from .langgraph_version import built_differently, check_langgraph

# Before the imports below, which a LangGraph that is built differently would break with a less clear error.
check_langgraph.__wrapped__()  # not for good: rows of the table are still to come

try:
    # They fill the seam table.
    from . import bubble_ups, graph_calls, stores, task_factory  # noqa: F401  # pyright: ignore[reportUnusedImport]
    from .async_function import async_node
    from .parallelization import parallelize_graph
    from .retry_policy import retry_on
except ImportError as exc:
    if (exc.name or "").partition(".")[0] not in ("langchain_core", "langgraph"):
        raise
    raise built_differently(str(exc)) from exc

__all__ = ["async_node", "parallelize_graph", "retry_on"]
