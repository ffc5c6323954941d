"""Sync code on one side, the event loop on the other. Knows neither DSPy nor LangGraph."""

from __future__ import annotations

from .caller_thread import blocked_loop, is_called_in_sync, is_waiting
from .engines import (
    Engine,
    await_,
    call_in_thread,
    check_engine,
    in_bridge,
    is_coroutine_function,
    is_generator_function,
    is_on_loop,
    is_strict,
    start,
)
from .loop_monitor import BlockedSlice, LoopMonitor
from .loop_thread import run_plainly, run_sync, serving_loop
from .placement import ON_LOOP, PINNED_TO_LOOP, PINNED_TO_THREAD, Placement
from .task_pool import Job, TaskPool
from .thread_program import run_in_thread

__all__ = [
    "ON_LOOP",
    "PINNED_TO_LOOP",
    "PINNED_TO_THREAD",
    "BlockedSlice",
    "Engine",
    "Job",
    "LoopMonitor",
    "Placement",
    "TaskPool",
    "await_",
    "blocked_loop",
    "call_in_thread",
    "check_engine",
    "in_bridge",
    "is_called_in_sync",
    "is_coroutine_function",
    "is_generator_function",
    "is_on_loop",
    "is_strict",
    "is_waiting",
    "run_in_thread",
    "run_plainly",
    "run_sync",
    "serving_loop",
    "start",
]
