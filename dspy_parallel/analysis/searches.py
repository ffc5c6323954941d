"""DSPy's own retrievers, which may be asked ahead of their turn."""

from __future__ import annotations

from typing import Any

import dspy

from .effect_free import declared

__all__ = ["is_retriever", "searched", "why_not_searched"]


def searched(retriever: Any, *args: Any, **kwargs: Any) -> Any:
    """What a retriever of DSPy's own finds."""
    return retriever(*args, **kwargs)


def why_not_searched(retriever: Any, rm: Any) -> str:
    """Why a retriever of DSPy's own may not be asked ahead of its turn; empty if it may."""
    if retriever.callbacks if type(retriever) is dspy.Retrieve else False:
        return "it has callbacks of its own"
    if type(retriever) is dspy.ColBERTv2 or type(rm) is dspy.ColBERTv2 or declared(rm) == "pure":
        return ""
    return f"`dspy.settings.rm` is a {type(rm).__name__}, which may have effects (declare it @pure)"


def is_retriever(value: Any) -> bool:
    """Whether it is one of DSPy's own."""
    return type(value) in (dspy.Retrieve, dspy.ColBERTv2)
