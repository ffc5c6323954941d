"""Modules that cannot be awaited, or that do something else when they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import dspy

from ..analysis.places import place_of
from ..errors import DecorationError
from ..generated import check_module, is_coverable, look_up
from ..seams.async_counterparts import is_counterpart
from .findings import Finding, found
from .parts import MARK, Program
from .target import Target

__all__ = ["module_findings"]


def module_findings(target: Target, programs: Sequence[Program]) -> Iterator[Finding]:
    """What is wrong with the target's own class, with modules that are awaited, and with modules that are nodes."""
    if target.kind == "module":
        yield from _of_class(target.value)
    for program in programs:
        yield from _awaits_forward_only(program)
        if program.kind == "node" and isinstance(program.subject, dspy.Module) and program.where == "threads":
            cls = type(program.subject)
            yield found("module-node", place_of(cls), program.name, {"node": program.name, "cls": cls.__qualname__})


def _of_class(module: Any) -> Iterator[Finding]:
    cls: Any = module if isinstance(module, type) else type(module)
    name, forward = cls.__qualname__, getattr(cls, "forward", None)
    if hasattr(getattr(cls, "aforward", None) or getattr(cls, "acall", None), MARK):
        return
    try:
        check_module(cls, forward if isinstance(module, type) else look_up(module, None))
    except DecorationError as error:
        if forward is not None or not hasattr(cls, "aforward"):
            says, _, instead = str(error).rpartition(". ")
            yield found("not-awaitable", place_of(forward or cls), name, {"what": says, "instead": instead})
        return
    if not hasattr(cls, "aforward"):
        instead = "@async_module above the class, or async_module(program) for an instance with all its parts."
        if str(cls.__module__).startswith("dspy."):
            instead = "dspy_parallel.install(), which covers DSPy's own modules."
        yield found("forward-only", place_of(cls), name, {"cls": name, "instead": instead})
    elif not is_counterpart(cls, "forward", "aforward"):
        base = next(base for base in cls.__mro__ if "aforward" in vars(base)).__qualname__
        yield found("stale-aforward", place_of(forward), name, {"cls": name, "base": base})


def _awaits_forward_only(program: Program) -> Iterator[Finding]:
    for call in program.calls:
        cls = call.cls
        if call.method != "acall" or cls is None or not issubclass(cls, dspy.Module) or hasattr(cls, "aforward"):
            continue
        if is_coverable(cls) and not hasattr(getattr(cls, "acall", None), MARK):
            words = {"call": call.text, "cls": cls.__qualname__}
            yield found("awaits-forward-only", call.place, program.name, words, through=call.through)
