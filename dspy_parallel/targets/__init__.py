"""What the commands work on: somebody's program, its inputs, and LMs that stand in for a provider."""

from __future__ import annotations

from .first_calls import FIRST_CALL, lms_for_first_calls
from .inputs import load_inputs
from .loading import Target, as_target, load_target
from .serving import LATENCY, load_latencies, served

__all__ = [
    "FIRST_CALL",
    "LATENCY",
    "Target",
    "as_target",
    "lms_for_first_calls",
    "load_inputs",
    "load_latencies",
    "load_target",
    "served",
]
