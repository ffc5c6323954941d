"""The scout's calls are seen by nobody: the main line makes the same calls, and is seen.

They log nothing, warn of nothing, and leave no spans: instrumentation that is made with OpenTelemetry's means
(OpenInference, and so Phoenix and Langfuse) skips what is marked as suppressed. The request itself is made once, by
whichever side, and is not suppressed. Other wrappers on DSPy's classes cannot be told; with these, nothing is early.
"""

from __future__ import annotations

import random
import sys
import types
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from ..analysis.trusted_types import is_code_of, unpatched
from ..seams.table import Seam, register
from .session import current

__all__ = ["foreign_wrapper", "heard", "unheard"]

_KEYS = ("suppress_instrumentation", "suppress_language_model_instrumentation")
_TELEMETRY = ("openinference", "opentelemetry")


@contextmanager
def unheard() -> Generator[None]:
    """What is called inside leaves no spans."""
    with _suppressed(True):
        yield


@contextmanager
def heard() -> Generator[None]:
    """What is called inside, in what leaves none, does."""
    with _suppressed(None):
        yield


@contextmanager
def _suppressed(value: bool | None) -> Generator[None]:
    context: Any = sys.modules.get("opentelemetry.context")
    if context is None:
        yield
        return
    changed = context.get_current()
    keys = dict.fromkeys((getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", _KEYS[0]), *_KEYS))
    for key in keys:
        changed = context.set_value(key, value, changed)
    token = context.attach(changed)
    try:
        yield
    finally:
        context.detach(token)


_NAMES = ("__call__", "acall", "forward", "aforward", "format", "parse")


def foreign_wrapper(*owners: type) -> str:
    """What others have put around DSPy's own code on a call's way, and cannot be told not to see it; empty if nothing.

    A counter around `dspy.Predict.__call__` would count the scout's calls and the program's.
    """
    for cls in dict.fromkeys(cls for owner in owners for cls in owner.__mro__):
        for name, value in vars(cls).items() if str(cls.__module__).startswith("dspy.") else ():
            if name.startswith(_NAMES) and callable(value) and (wrapper := _wrapper_in(value)):
                return f"`{cls.__name__}.{name}` is wrapped by {wrapper}, which would see the early call, too"
    return ""


def _wrapper_in(value: Any) -> str:
    """The first in a chain of wrappers that is neither DSPy's, nor ours, nor one of OpenTelemetry's."""
    seen = 0
    while value is not None and seen < 20:
        seen += 1
        value = unpatched(value)
        code = getattr(value, "_self_wrapper", None) if not isinstance(value, types.FunctionType) else value
        if code is None or isinstance(value, types.FunctionType):
            if not is_code_of(value, "dspy", "dspy_parallel"):
                return str(getattr(value, "__qualname__", type(value).__qualname__))
        elif not str(type(code).__module__).startswith(_TELEMETRY):
            return f"{type(code).__module__}.{type(code).__qualname__}"
        value = vars(value).get("__wrapped__") if type(value) is types.FunctionType else value.__wrapped__
    return ""


def _is_scout() -> bool:
    now = current.get()
    return now is not None and now.side == "scout"


def _drop(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    return None


def _own_bytes(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    # `dspy.Predict` draws some when it is made. The program's are left to it.
    return random.SystemRandom().randbytes(*args, **kwargs)


register(
    Seam("random:randbytes", _own_bytes, when=_is_scout, layer="overlap"),
    Seam("logging:Logger.handle", _drop, when=_is_scout, layer="overlap"),
    Seam("warnings:warn", _drop, when=_is_scout, layer="overlap"),
)
