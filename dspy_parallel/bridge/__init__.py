"""Sync code on one side, the event loop on the other. Knows neither DSPy nor LangGraph."""

from __future__ import annotations

from .engines import Engine, await_, call_in_thread, check_engine, in_bridge, is_coroutine_function, offload, run, start
from .placement import Placement, placement_of
from .portal import run_sync

__all__ = [
    "Engine",
    "Placement",
    "await_",
    "call_in_thread",
    "check_engine",
    "in_bridge",
    "is_coroutine_function",
    "offload",
    "placement_of",
    "run",
    "run_sync",
    "start",
]
