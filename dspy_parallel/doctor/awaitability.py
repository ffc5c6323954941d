"""Modules that cannot be awaited, or that do something else when they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import dspy

from ..errors import DecorationError
from ..generated import check_module, is_coverable, look_up
from ..seams.twins import is_twin
from ..targets import Target
from .findings import Finding
from .programs import MARK, Program
from .sources import place_of
from .values import Method, class_of

__all__ = ["module_findings"]


def module_findings(target: Target, programs: Sequence[Program]) -> Iterator[Finding]:
    """What is wrong with the target's own class, with modules that are awaited, and with modules that are nodes."""
    if target.kind == "module":
        yield from _of_class(target.value)
    for program in programs:
        yield from _awaits_forward_only(program)
        if program.kind == "node" and isinstance(program.subject, dspy.Module) and program.where == "threads":
            cls = type(program.subject)
            yield Finding(
                "module-node",
                "warning",
                place_of(cls),
                program.name,
                f"The node {program.name} is a dspy.Module ({cls.__qualname__}). LangGraph calls it synchronously.",
                "Under ainvoke it holds a thread of the default executor, and an aforward() of its own is ignored.",
                "parallelize_graph(builder): module nodes are awaited through acall().",
            )


def _of_class(module: Any) -> Iterator[Finding]:
    cls: Any = module if isinstance(module, type) else type(module)
    name = cls.__qualname__
    if hasattr(getattr(cls, "aforward", None) or getattr(cls, "acall", None), MARK):
        return
    try:
        check_module(cls, getattr(cls, "forward", None) if isinstance(module, type) else look_up(module, None))
    except DecorationError as error:
        if not (getattr(cls, "forward", None) is None and hasattr(cls, "aforward")):
            where = getattr(cls, "forward", None) or cls
            says, _, instead = str(error).rpartition(". ")
            yield Finding("not-awaitable", "error", place_of(where), name, f"{says}.", "It can't be awaited.", instead)
        return
    if not hasattr(cls, "aforward"):
        how = "@async_module above the class, or async_module(program) for an instance with all its parts."
        if cls.__module__.startswith("dspy."):
            how = "dspy_parallel.install(), which covers DSPy's own modules."
        yield Finding(
            "forward-only",
            "warning",
            place_of(cls),
            name,
            f"{name} has a forward() and no aforward().",
            "await program.acall(...) raises AttributeError; called synchronously it blocks its thread for each LM "
            "call, and the event loop if it runs on one.",
            how,
        )
    elif not is_twin(cls, "forward", "aforward"):
        inherited = next(base for base in cls.__mro__ if "aforward" in vars(base))
        yield Finding(
            "stale-aforward",
            "error",
            place_of(getattr(cls, "forward")),  # noqa: B009
            name,
            f"{name} overrides forward() below the aforward() that it inherits from {inherited.__qualname__}.",
            "await program.acall(...) skips the override: it returns something else than program(...).",
            f"@async_module above {name}, which replaces the inherited one; or an aforward() of its own.",
        )


def _awaits_forward_only(program: Program) -> Iterator[Finding]:
    for call in program.calls:
        callee = call.callee
        if not isinstance(callee, Method) or getattr(callee.function, "__name__", "") != "acall":
            continue
        cls = class_of(callee.owner)
        if cls is None or not issubclass(cls, dspy.Module) or hasattr(cls, "aforward"):
            continue
        if is_coverable(cls) and not hasattr(cls.acall, MARK):  # type: ignore[attr-defined]
            yield Finding(
                "awaits-forward-only",
                "error",
                call.place,
                program.name,
                f"{call.text}() is awaited, but {cls.__qualname__} has no aforward().",
                "It raises AttributeError.",
                f"@async_module above {cls.__qualname__}, or dspy_parallel.install().",
                call.through,
            )
