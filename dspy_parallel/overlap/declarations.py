"""What users can tell the scout: `pure` and `ordered`."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import dspy

from . import purity
from .sharing import shared
from .wire import HAS_ONE_FUNCTION, joining

__all__ = ["ordered", "pure"]

T = TypeVar("T")


def pure(target: T, /) -> T:
    """Declare a function, a module or an LM free of effects, so that it may be called ahead of its turn.

    With `overlap=True`, a call of it is made as soon as its inputs are known, and the program takes the result when
    it comes to the call. So its result must depend on its inputs alone. A function that calls a predictor or an LM is
    not pure: what comes after it runs in sequence. Declare a module instead, whose calls are followed. An LM class
    that is declared so answers by the request alone, and not by the order of calls; a Pydantic model has validators
    that may run twice. Outside of overlapped programs nothing changes.

    Args:
        target: A function, a class or instance of `dspy.Module`, or of `dspy.BaseLM` with an `aforward()`; a class of
            Pydantic models.

    Returns:
        The class or instance itself; for a function, one with the same signature.

    Example:
        ```python
        from dspy_parallel import pure

        @pure
        def search(query: str) -> list[str]:
            return [f"a page about {query}"]

        assert search("owls") == ["a page about owls"]
        ```
    """
    return cast("T", _declare(target, "pure"))


def ordered(target: T, /) -> T:
    """Declare a function or a module to have a state, so that it is never called ahead of its turn.

    The scout of an overlapped program comes to its end there; what follows runs in sequence.

    Args:
        target: A function, or a class or instance of `dspy.Module` or `dspy.BaseLM`.

    Returns:
        The same object.

    Example:
        ```python
        import dspy
        from dspy_parallel import ordered

        @ordered
        class Remember(dspy.Module):
            def forward(self, fact):
                return dspy.Prediction(fact=fact)
        ```
    """
    return cast("T", _declare(target, "ordered"))


def _declare(target: Any, what: str) -> Any:
    if isinstance(target, type):
        if issubclass(target, dspy.BaseLM) and what == "pure" and not HAS_ONE_FUNCTION and "aforward" in vars(target):
            cls: Any = target
            cls.aforward = joining(cls.aforward)
        return purity.declare(target, what)
    if isinstance(target, (dspy.Module, dspy.BaseLM)) or what == "ordered":
        return purity.declare(target, what)
    return purity.declare(shared(target), what)
