"""LM calls: the row that matters most. `lm(...)` inside the bridge becomes `await lm.acall(...)`."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from ..bridge import await_, call_in_thread, run_in_thread
from .async_counterparts import await_counterpart, inner_counterpart, is_beside
from .single_flight import call_once
from .table import Seam, register

__all__: list[str] = []

_twins: weakref.WeakKeyDictionary[type, bool] = weakref.WeakKeyDictionary()


def _has_twin(lm: Any) -> bool:
    """Whether `lm.acall` does what `lm.__call__` does."""
    cls = type(lm)
    valid = _twins.get(cls)
    if valid is None:
        valid = _twins[cls] = is_beside(cls, "__call__", "acall") and is_beside(cls, "forward", "aforward")
    if not valid:
        return False
    own = vars(lm)
    if ("forward" in own and "aforward" not in own) or ("__call__" in own and "acall" not in own):
        return False
    # DSPy 3.4: a custom engine object may come without an async counterpart.
    return isinstance(own.get("_engine_spec", ""), str) or own.get("_async_engine_spec") is not None


def _is_from_dspy(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).startswith("dspy.")


def _call(original: Callable[..., Any], lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    cls = type(lm)
    if cls.__call__.__module__ == "dspy.utils.dummies":
        return original(*args, **kwargs)  # DummyLM before DSPy 3.2: waits for nothing, and its acall calls it
    if _has_twin(lm):
        calls_back = not (_is_from_dspy(cls.acall) and _is_from_dspy(cls.aforward))
        acall = partial(call_once, lm, inner_counterpart(lm, "__call__", "acall"))
        return await_counterpart(acall, original, lm, args, kwargs, beside=cls.acall, calls_back=calls_back)
    return call_in_thread(original, args, kwargs, f"the LM class {cls.__qualname__} has no async counterpart")


def _decide(original: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """DSPy 3.4: a client that is no LM, but stands in for one."""
    if is_beside(type(client), "__call__", "acall"):
        return await_counterpart(client.acall, original, client, args, kwargs)
    return call_in_thread(original, args, kwargs, f"{type(client).__qualname__} has no async counterpart")


def _import_litellm(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """DSPy 3.3 and later import LiteLLM at the first call that needs it, which takes seconds: not on the loop.

    `require` gives a module that is imported when an attribute is read; or the one in `sys.modules`, even if another
    thread is still importing it. A proper import waits for that thread. DSPy keeps what it gets, so this is not
    reached again.
    """

    def load() -> Any:
        with suppress(ImportError):  # DSPy raises it again, in its own words
            importlib.import_module("litellm")
            _ = original(*args, **kwargs).completion
        return original(*args, **kwargs)

    return await_(run_in_thread(load, (), {}))


register(
    Seam("dspy.clients.base_lm:BaseLM.__call__", _call, overrides=True),
    Seam("dspy.clients.typesafe:TypeSafe.__call__", _decide, since="3.4"),
    Seam("dspy.clients._litellm:require", _import_litellm, since="3.3"),
)
