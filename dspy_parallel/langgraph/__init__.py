"""Graphs of LangGraph whose sync nodes run concurrently on the event loop."""

from __future__ import annotations

from .versions import check_langgraph

# Before the imports below, which a LangGraph that is built differently would break with a less clear error.
check_langgraph()

# They fill the seam table.
from . import seams, stores, swallowing  # noqa: E402, F401  # pyright: ignore[reportUnusedImport]
from .functions import async_node  # noqa: E402
from .graphs import parallelize_graph  # noqa: E402
from .retrying import retry_on  # noqa: E402

__all__ = ["async_node", "parallelize_graph", "retry_on"]
