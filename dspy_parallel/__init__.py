"""Makes DSPy programs and LangGraph graphs run in parallel without rewriting them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bridge import Placement, await_, in_bridge, offload, placement_of
    from .errors import (
        BlockingWarning,
        BridgeError,
        DecorationError,
        DSPyParallelError,
        DSPyParallelWarning,
        FileLimitWarning,
        LangGraphVersionError,
        LimitError,
        MissingExtraError,
        SeamError,
        ThreadRequiredError,
        UnknownEngineError,
    )
    from .history import own_history
    from .limits import Limit, limit, limit_all
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
    "FileLimitWarning",
    "LangGraphVersionError",
    "Limit",
    "LimitError",
    "MissingExtraError",
    "Placement",
    "SeamError",
    "ThreadRequiredError",
    "UnknownEngineError",
    "add_seam",
    "async_module",
    "await_",
    "in_bridge",
    "install",
    "limit",
    "limit_all",
    "loop_safe",
    "offload",
    "own_history",
    "placement_of",
    "run",
    "run_sync",
    "uninstall",
]

# Imported when first used: pytest loads the plugin of `dspy_parallel.testing` in every environment where this
# package is installed, and should not have to import DSPy for it.
_HOMES = {
    "AsyncModuleMixin": "modules",
    "BlockingWarning": "errors",
    "BridgeError": "errors",
    "DSPyParallelError": "errors",
    "DSPyParallelWarning": "errors",
    "DecorationError": "errors",
    "FileLimitWarning": "errors",
    "LangGraphVersionError": "errors",
    "Limit": "limits",
    "LimitError": "errors",
    "MissingExtraError": "errors",
    "Placement": "bridge",
    "SeamError": "errors",
    "ThreadRequiredError": "errors",
    "UnknownEngineError": "errors",
    "add_seam": "seams",
    "async_module": "modules",
    "await_": "bridge",
    "in_bridge": "bridge",
    "install": "modules",
    "limit": "limits",
    "limit_all": "limits",
    "loop_safe": "seams",
    "offload": "bridge",
    "own_history": "history",
    "placement_of": "bridge",
    "run": "programs",
    "run_sync": "programs",
    "uninstall": "modules",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f".{home}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
