"""What a program holds on to while it waits: locks, cancels that it swallows, settings that are not its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import dspy

from .blocking_calls import waits_for_others
from .findings import Finding, Place
from .programs import Program
from .reading import Call
from .values import Known, Method, class_of

__all__ = ["holding_findings"]


def holding_findings(programs: Sequence[Program]) -> Iterator[Finding]:
    """Locks held across calls, `except:` around them, `dspy.configure` in a program."""
    for program in programs:
        seen: set[Place] = set()
        for call in program.calls:
            if waits_for_others(call):
                for text, place in call.locks:
                    if place not in seen and program.engine != "thread":
                        seen.add(place)
                        yield _lock(program, text, place, call)
                for place in call.swallowed:
                    if place not in seen:
                        seen.add(place)
                        yield _swallowed(program, place, call)
            if isinstance(call.callee, (Known, Method)) and _is_configure(call):
                yield _configure(program, call)


def _lock(program: Program, text: str, place: Place, call: Call) -> Finding:
    on_loop = program.where == "loop" or program.engine == "loop"
    return Finding(
        "lock-across-call",
        "error" if on_loop else "warning",
        place,
        program.name,
        f"{text} is held while {call.text}() waits (line {call.place.line}).",
        "The next one that wants it blocks the event loop on which the holder would have to go on: both hang. (A "
        "reentrant lock lets everybody in.)"
        if on_loop
        else "Only one run at a time gets through, and the program can never leave its thread.",
        "take the lock after the call, around what it protects; or an asyncio.Lock in async code; or engine='thread'.",
        call.through,
    )


def _swallowed(program: Program, place: Place, call: Call) -> Finding:
    return Finding(
        "swallows-cancel",
        "warning",
        place,
        program.name,
        f"This clause catches a cancel that is raised in {call.text}() (line {call.place.line}), and goes on.",
        "A client that hangs up, a timeout, or a failing sibling does not stop the program, nor its LM calls.",
        "except Exception:",
        call.through,
    )


def _is_configure(call: Call) -> bool:
    callee: Any = call.callee
    if isinstance(callee, Method):
        owner = class_of(callee.owner)
        name = getattr(callee.function, "__name__", "")
        return name == "configure" and owner is type(dspy.settings)
    return getattr(callee.value, "__func__", None) is type(dspy.settings).configure or callee.value is dspy.configure


def _configure(program: Program, call: Call) -> Finding:
    return Finding(
        "configures",
        "error",
        call.place,
        program.name,
        f"{call.text}() is called inside a program.",
        "DSPy lets only the thread and the async task that called it first call it: elsewhere it raises RuntimeError.",
        "with dspy.context(...): around the calls that it is meant for.",
        call.through,
    )
