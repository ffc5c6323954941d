"""Graphs of LangGraph whose sync nodes run concurrently on the event loop."""

from __future__ import annotations

# They fill the seam table.
from . import seams, stores, swallowing  # noqa: F401  # pyright: ignore[reportUnusedImport]
from .functions import async_node
from .graphs import parallelize_graph
from .retrying import retry_on

__all__ = ["async_node", "parallelize_graph", "retry_on"]
