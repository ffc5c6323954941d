"""Entries of a block of code: DSPy's history is one list for everybody.

The lists to fill are kept in DSPy's settings, not in a context variable of our own: so they go wherever DSPy takes
its settings, also into the threads of `dspy.Parallel`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy

from .table import Seam, register

__all__ = ["SETTING", "open_histories"]

SETTING = "dspy_parallel_histories"


def open_histories() -> tuple[list[dict[str, Any]], ...]:
    """The lists that the running code's entries go to, outermost first."""
    return dspy.settings.get(SETTING) or ()


def _record(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # `update_history(entry)` of an LM, or `record_history(client, entry)`
    entry = kwargs.get("entry", args[-1] if args else None)
    if entry is not None and not dspy.settings.disable_history:
        for history in open_histories():
            history.append(entry)
    return original(*args, **kwargs)


def _is_open() -> bool:
    return bool(open_histories())


register(
    Seam("dspy.clients.base_lm:BaseLM.update_history", _record, when=_is_open, layer="own"),
    # DSPy 3.4: clients that are no LMs.
    Seam("dspy.clients.typesafe:record_history", _record, when=_is_open, layer="own", since="3.4"),
)
