"""Every error and warning that this package raises on its own account.

All errors derive from `DSPyParallelError` and from the builtin that fits, so that both
`except DSPyParallelError` and `except RuntimeError` do what a reader expects.
"""

from __future__ import annotations

import inspect

from .escapes import escaped

__all__ = [
    "BatchInputError",
    "BlockingWarning",
    "BridgeError",
    "DSPyParallelError",
    "DSPyParallelWarning",
    "DecorationError",
    "FileLimitWarning",
    "LangGraphVersionError",
    "LimitError",
    "MissingExtraError",
    "ResumeError",
    "SeamError",
    "ShippingError",
    "TargetError",
    "ThreadRequiredError",
    "TimelineError",
    "UnknownEngineError",
]


def described(thing: object) -> str:
    """What something is, for an error; not its `repr`, which may show keys and prompts."""
    return getattr(thing, "__qualname__", None) or f"an object of type {type(thing).__qualname__}"


def installation(extra: str) -> str:
    """The commands that install an extra, for an error."""
    return f"pip install 'dspy-parallel[{extra}]', or in a checkout pip install -e '.[{extra}]'"


class DSPyParallelError(Exception):
    """Base class of all errors raised by dspy_parallel itself, never of errors in user code.

    What it quotes, from a program, a file or a model, is shown and not obeyed by the terminal that prints it.
    """

    def __str__(self) -> str:
        return escaped(super().__str__(), keep="\n")


class BridgeError(DSPyParallelError, RuntimeError):
    """The bridge was used where it cannot work: outside a bridged program, or on a loop that is gone."""


class ThreadRequiredError(DSPyParallelError, RuntimeError):
    """A program pinned to `engine="loop"` met a call that can only run in a thread."""


class UnknownEngineError(DSPyParallelError, ValueError):
    """An engine name that is none of `"auto"`, `"loop"` and `"thread"`."""


class DecorationError(DSPyParallelError, TypeError):
    """An object was decorated, or is to be run, that cannot be made awaitable or cannot be called."""


def check_callable(fn: object, name: str) -> None:
    """Refuse what is no function, given to the function of this name; a coroutine is closed.

    Raises:
        DecorationError: If it cannot be called.
    """
    if callable(fn):
        return
    advice = "Give it a function."
    if inspect.iscoroutine(fn):
        fn.close()
        advice = "Give it the function instead, and what that is called with behind it."
    raise DecorationError(f"{name}() was given {described(fn)}, which cannot be called. {advice}")


class LangGraphVersionError(DSPyParallelError, ImportError):
    """The installed LangGraph is built differently from what the conversion of graphs relies on."""


class LimitError(DSPyParallelError, ValueError):
    """A limit that makes no sense, or for something that is not an LM."""


class MissingExtraError(DSPyParallelError, ImportError):
    """A package is needed that one of the extras installs; the message names it."""


class ShippingError(DSPyParallelError, TypeError):
    """A program that cannot be sent to other processes, or a result that cannot be sent back."""


class SeamError(DSPyParallelError, ValueError):
    """A seam's description is wrong, or its target does not exist."""


class TargetError(DSPyParallelError, ValueError):
    """What a command, or `nodes=` of `parallelize_graph()`, names does not exist, or is no program."""


class TimelineError(DSPyParallelError, ValueError):
    """A file that was to be read as a timeline is none, or is damaged."""


class BatchInputError(DSPyParallelError, TypeError):
    """Not a program, or an example that it cannot be called with or that a resume file cannot recognise."""


class ResumeError(DSPyParallelError, ValueError):
    """A resume file that is in use, belongs to another program, or has no form for a result."""


class DSPyParallelWarning(UserWarning):
    """Base class of all warnings of dspy_parallel; what one quotes is shown as in errors."""

    def __str__(self) -> str:
        return escaped(super().__str__(), keep="\n")


class BlockingWarning(DSPyParallelWarning):
    """A program blocked its thread between two awaits; the message names the file and line."""


class FileLimitWarning(DSPyParallelWarning):
    """More requests at a time were asked for than this process may have connections open."""
