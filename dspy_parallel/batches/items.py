"""What goes into a batch, what comes out of it, and how a program is called with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dspy

from ..errors import BatchInputError
from ..placement import ON_LOOP, Engine, Placement
from ..programs import place
from ..seams.async_counterparts import is_counterpart

__all__ = ["BatchItem", "Call", "inputs_of"]


@dataclass
class BatchItem:
    """One example and what became of it.

    Attributes:
        index: The example's position in the input, from 0.
        example: The example as it was given.
        result: What the program returned; None if it raised.
        error: What it raised, or a `ResumeError` if the result cannot be written to the resume file; else None.
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
        engine: The engine of `fn`; None if that is async code.
    """

    fn: Callable[..., Any]
    engine: Engine | None

    def placement(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Placement:
        """Where `fn` runs with these arguments."""
        return ON_LOOP if self.engine is None else place(self.fn, self.engine, args, kwargs)

    @classmethod
    def of(cls, program: Any, engine: Engine) -> Call:
        """For a module, or any callable, sync or async."""
        kind = type(program)
        if isinstance(program, dspy.Module):
            is_generated = hasattr(getattr(kind, "aforward", None), "__bridge_engine__")
            # A `forward` that an optimizer has put on the instance, or one below an inherited `aforward`: only the
            # plain call finds it.
            has_acall = engine != "thread" and is_counterpart(kind, "__call__", "acall") and hasattr(kind, "aforward")
            is_right = "forward" not in vars(program) and (is_generated or is_counterpart(kind, "forward", "aforward"))
            if has_acall and is_right:
                return cls(program.acall, None)
        return cls(program, engine)
