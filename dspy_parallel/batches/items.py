"""What goes into a batch, what comes out of it, and how a program is called with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dspy

from ..bridge import Engine, is_coroutine_function
from ..errors import BatchInputError
from ..seams.twins import is_twin

__all__ = ["BatchItem", "Call", "inputs_of"]


@dataclass
class BatchItem:
    """One example and what became of it.

    Attributes:
        index: The example's position in the input, from 0.
        example: The example as it was given.
        result: What the program returned; None if it raised.
        error: What it raised, else None.
        resumed: Whether the result is that of an earlier run, from the resume file.
    """

    index: int
    example: Any = field(repr=False)
    result: Any = field(default=None, repr=False)
    error: BaseException | None = field(default=None, repr=False)
    resumed: bool = False


def inputs_of(index: int, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments to call a program with; the rules are those of `dspy.Parallel`."""
    if isinstance(example, dspy.Example):
        try:
            return (), dict(example.inputs())
        except ValueError as exc:
            raise BatchInputError(f"Example {index} does not say which of its fields are inputs: {exc}") from exc
    if isinstance(example, dict):
        other = next((type(name).__qualname__ for name in example if not isinstance(name, str)), None)
        if other is not None:
            raise BatchInputError(f"Example {index} is a dict whose keys are not all strings: one is of type {other}.")
        return (), example
    if isinstance(example, tuple):
        return example, {}
    raise BatchInputError(
        f"Example {index} is of type {type(example).__qualname__}. Give a dspy.Example, a dict of keyword arguments or "
        "a tuple of positional ones; of a single value x, make the tuple (x,)."
    )


@dataclass(frozen=True)
class Call:
    """How to call a program so that it gives what a plain call gives.

    Attributes:
        fn: `acall` if that does what `__call__` does, else the program itself, which then runs in the bridge.
        known_as: What `engine="auto"` remembers `fn` by.
        probation: Whose placement matters; None if the program is async by itself.
    """

    fn: Callable[..., Any]
    known_as: Any
    probation: Any

    @classmethod
    def of(cls, program: Any, engine: Engine) -> Call:
        """For a module, or any callable, sync or async."""
        kind = type(program)
        if not isinstance(program, dspy.Module):
            return cls(program, program, None if is_coroutine_function(program) else program)
        generated = getattr(getattr(kind, "aforward", None), "__bridge_engine__", None)
        # A `forward` that an optimizer has put on the instance, or one below an inherited `aforward`: only the plain
        # call finds it.
        has_twin = engine != "thread" and is_twin(kind, "__call__", "acall") and hasattr(kind, "aforward")
        if has_twin and "forward" not in vars(program) and (generated or is_twin(kind, "forward", "aforward")):
            return cls(program.acall, None, kind if generated == "auto" else None)
        return cls(program, kind, kind if engine == "auto" else None)
