"""Sync code on one side, the event loop on the other. Knows neither DSPy nor LangGraph."""

from __future__ import annotations

from .engines import (
    Engine,
    await_,
    call_in_thread,
    check_engine,
    in_bridge,
    is_coroutine_function,
    is_generator_function,
    offload,
    run,
    start,
)
from .flights import Flight, Launch
from .placement import Placement, placement_of
from .portal import run_sync, serving_loop
from .threads import run_in_thread
from .waits import is_waiting

__all__ = [
    "Engine",
    "Flight",
    "Launch",
    "Placement",
    "await_",
    "call_in_thread",
    "check_engine",
    "in_bridge",
    "is_coroutine_function",
    "is_generator_function",
    "is_waiting",
    "offload",
    "placement_of",
    "run",
    "run_in_thread",
    "run_sync",
    "serving_loop",
    "start",
]
