"""Sync code on one side, the event loop on the other. Knows neither DSPy nor LangGraph."""

from __future__ import annotations

from .caller_thread import blocked_loop, is_called_in_sync, is_waiting
from .engines import await_, call_in_thread, in_bridge, is_on_loop, is_strict, start
from .loop_thread import run_plainly, run_sync, serving_loop
from .thread_program import run_in_thread

__all__ = [
    "await_",
    "blocked_loop",
    "call_in_thread",
    "in_bridge",
    "is_called_in_sync",
    "is_on_loop",
    "is_strict",
    "is_waiting",
    "run_in_thread",
    "run_plainly",
    "run_sync",
    "serving_loop",
    "start",
]
