"""Makes DSPy programs and LangGraph graphs run in parallel without rewriting them."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batches import BatchItem, abatch, batch, iter_batch
    from .bridge import await_, in_bridge
    from .doctor import Finding, diagnose
    from .errors import (
        BatchInputError,
        BlockingWarning,
        BridgeError,
        DecorationError,
        DSPyParallelError,
        DSPyParallelWarning,
        FileLimitWarning,
        LangGraphVersionError,
        LimitError,
        MissingExtraError,
        ResumeError,
        SeamError,
        ShippingError,
        TargetError,
        ThreadRequiredError,
        TimelineError,
        UnknownEngineError,
    )
    from .gathering import gather, parallel_map
    from .history import own_history
    from .limits import Limit, limit, limit_all
    from .modules import AsyncModuleMixin, async_module, install, uninstall
    from .overlap import OverlapReport, explain, ordered, overlapped, pure
    from .overview import Status, status
    from .placement import Placement
    from .programs import offload, placement_of
    from .runs import run, run_sync
    from .seams import add_seam, loop_safe
    from .timeline import Span, Timeline, record

    # isort: split
    from .langgraph import async_node as async_node
    from .langgraph import parallelize_graph as parallelize_graph
    from .ray import map_dataset as map_dataset
    from .testing import LMServer as LMServer

    __version__: str

__all__ = [
    "AsyncModuleMixin",
    "BatchInputError",
    "BatchItem",
    "BlockingWarning",
    "BridgeError",
    "DSPyParallelError",
    "DSPyParallelWarning",
    "DecorationError",
    "FileLimitWarning",
    "Finding",
    "LangGraphVersionError",
    "Limit",
    "LimitError",
    "MissingExtraError",
    "OverlapReport",
    "Placement",
    "ResumeError",
    "SeamError",
    "ShippingError",
    "Span",
    "Status",
    "TargetError",
    "ThreadRequiredError",
    "Timeline",
    "TimelineError",
    "UnknownEngineError",
    "abatch",
    "add_seam",
    "async_module",
    "await_",
    "batch",
    "diagnose",
    "explain",
    "gather",
    "in_bridge",
    "install",
    "iter_batch",
    "limit",
    "limit_all",
    "loop_safe",
    "offload",
    "ordered",
    "overlapped",
    "own_history",
    "parallel_map",
    "placement_of",
    "pure",
    "record",
    "run",
    "run_sync",
    "status",
    "uninstall",
]

# Imported when first used: pytest loads the plugin of `dspy_parallel.testing` in every environment where this
# package is installed, and should not have to import DSPy for it.
_NAMES = {
    "batches": "BatchItem abatch batch iter_batch",
    "bridge": "await_ in_bridge",
    "doctor": "Finding diagnose",
    "errors": (
        "BatchInputError BlockingWarning BridgeError DSPyParallelError DSPyParallelWarning DecorationError "
        "FileLimitWarning LangGraphVersionError LimitError MissingExtraError ResumeError SeamError ShippingError "
        "TargetError ThreadRequiredError TimelineError UnknownEngineError"
    ),
    "gathering": "gather parallel_map",
    "history": "own_history",
    "limits": "Limit limit limit_all",
    "modules": "AsyncModuleMixin async_module install uninstall",
    "overlap": "OverlapReport explain ordered overlapped pure",
    "overview": "Status status",
    "placement": "Placement",
    "programs": "offload placement_of",
    "runs": "run run_sync",
    "seams": "add_seam loop_safe",
    "timeline": "Span Timeline record",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}


# Not in `__all__`: a `*` takes what is there without an extra.
_OF_EXTRAS = {
    "LMServer": ("testing", "aiohttp"),
    "async_node": ("langgraph", "langgraph"),
    "map_dataset": ("ray", "ray"),
    "parallelize_graph": ("langgraph", "langgraph"),
}
"""Where each is, in the package of the extra's name, and what that extra installs."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("dspy-parallel")
    home = _HOMES.get(name)
    if name in _OF_EXTRAS:
        home, needed = _OF_EXTRAS[name]
        if not _is_there(needed):
            errors = importlib.import_module(".errors", __name__)
            raise errors.MissingExtraError(
                f"{name} needs the package {needed}, which is not installed. The extra {home!r} has it: "
                f"{errors.installation(home)}."
            )
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f".{home}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *(name for name, (_, needed) in _OF_EXTRAS.items() if _is_there(needed))})


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # in sys.modules, and not from a file
        return package in sys.modules
