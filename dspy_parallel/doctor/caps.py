"""How many things at a time this machine, LangGraph, DSPy and LiteLLM let through."""

from __future__ import annotations

import importlib
import os
from typing import Any

import dspy

from ..seams.connections import max_connections
from ..seams.table import _table

__all__ = ["asyncify_workers", "connections", "default_threads", "is_installed", "widened"]


def default_threads() -> int:
    """Threads of an executor that is given no number: asyncio's default one, LangGraph's without max_concurrency."""
    count = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    return min(32, count + 4)


def asyncify_workers() -> int:
    """Workers of `dspy.asyncify`, for the whole process."""
    return int(getattr(dspy.settings, "async_max_workers", 8))


def connections(lm: Any) -> tuple[int, str] | None:
    """How many connections an LM's client opens at most, and who says so; None if that isn't known.

    As DSPy and LiteLLM have it. A program that uses this package has larger pools: see `widened()`.
    """
    engine = getattr(lm, "_engine_spec", "litellm")
    if not isinstance(lm, dspy.LM) or engine not in ("auto", "lm15", "litellm"):
        return None
    if engine == "litellm":
        limit = _constant("litellm.constants", "AIOHTTP_CONNECTOR_LIMIT_PER_HOST")
        return (limit, "LiteLLM, for each host,") if limit else None
    limit = _constant("dspy._vendor.lm15.transports._limits", "DEFAULT_MAX_CONNECTIONS")
    return (limit, "DSPy's engine") if limit else None


def widened() -> tuple[int, str]:
    """The same where this package is in use: pools are as large as the process may have files open."""
    return max_connections(), "this process, whose limit is on open files,"


def is_installed() -> bool:
    """Whether the seams are in place."""
    return _table.is_installed()


def _constant(module: str, name: str) -> int:
    try:
        return int(getattr(importlib.import_module(module), name, 0))
    except ImportError:
        return 0
