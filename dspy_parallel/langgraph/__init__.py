"""Graphs of LangGraph whose sync nodes run concurrently on the event loop."""

from __future__ import annotations

from .graphs import parallelize_graph

__all__ = ["parallelize_graph"]
