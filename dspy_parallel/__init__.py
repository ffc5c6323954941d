"""Makes DSPy programs and LangGraph graphs run in parallel without rewriting them."""

from __future__ import annotations

from .bridge import await_, in_bridge, offload, placement_of
from .errors import (
    BlockingWarning,
    BridgeError,
    DecorationError,
    DSPyParallelError,
    DSPyParallelWarning,
    LangGraphVersionError,
    SeamError,
    ThreadRequiredError,
    UnknownEngineError,
)
from .modules import AsyncModuleMixin, async_module, install, uninstall
from .programs import run, run_sync
from .seams import add_seam, loop_safe

__all__ = [
    "AsyncModuleMixin",
    "BlockingWarning",
    "BridgeError",
    "DSPyParallelError",
    "DSPyParallelWarning",
    "DecorationError",
    "LangGraphVersionError",
    "SeamError",
    "ThreadRequiredError",
    "UnknownEngineError",
    "add_seam",
    "async_module",
    "await_",
    "in_bridge",
    "install",
    "loop_safe",
    "offload",
    "placement_of",
    "run",
    "run_sync",
    "uninstall",
]
