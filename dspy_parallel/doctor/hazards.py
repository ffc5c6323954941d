"""What one run does to others, or to itself: locks, cancels, settings, threads and the process are for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import dspy

from ..analysis.call_graph import Call
from ..analysis.places import Place
from .catalogue import Level
from .findings import Finding, found
from .parts import Program
from .waits import is_elsewhere, waits_for_others

__all__ = ["hazard_findings"]

_OF_THE_LOOP = ("asyncio.", "_asyncio.", "dspy.settings", "sqlite3.", "_sqlite3.", "signal.", "_signal.", "greenlet.")
"""What depends on its thread, and is told otherwise or no fault."""

_INSTEAD = (
    (("chdir",), "absolute paths: Path(folder) / name."),
    (("env",), "pass the value to what needs it; or set it before the first run."),
    (("stdout", "stderr", "redirect"), "pass the stream on: print(..., file=stream)."),
    (("warn",), "set filters once, before the first run."),
    (("seed", "setstate"), "a generator of the run's own: random.Random(seed)."),
    (("",), "keep it in the run: pass it on."),
)


def hazard_findings(programs: Sequence[Program]) -> Iterator[Finding]:
    """Locks held across calls, `except:` around them, `dspy.configure`, what belongs to a thread or the process."""
    for program in programs:
        seen: set[Place] = set()
        for call in program.calls:
            if waits_for_others(call):
                words = {"call": call.text, "line": call.place.line}
                for text, place in call.locks:
                    if place not in seen and program.engine != "thread":
                        seen.add(place)
                        yield _lock(program, place, call, {**words, "lock": text})
                for place in call.swallowed:
                    if place not in seen:
                        seen.add(place)
                        yield found("swallows-cancel", place, program.name, words, through=call.through)
            yield from _of_others(program, call)


def _lock(program: Program, place: Place, call: Call, words: dict[str, object]) -> Finding:
    level: Level | None = None
    cost = "Only one run at a time gets through, and the program can never leave its thread."
    if program.where == "loop" or program.engine == "loop":
        cost = "The next one that wants it blocks the event loop on which the holder would have to go on: both hang. "
        level, cost = "error", f"{cost}(A reentrant lock lets everybody in.)"
    return found("lock-across-call", place, program.name, {**words, "cost": cost}, through=call.through, level=level)


def _of_others(program: Program, call: Call) -> Iterator[Finding]:
    """What does not belong to the run."""
    kind, words = "", dict[str, object]()
    if call.method == "configure" and call.cls is type(dspy.settings):
        kind, words = "configures", {"call": call.text}
    elif call.need == "process-wide":
        instead = next(text for words, text in _INSTEAD if any(word in call.what for word in words))
        kind, words = "process-wide", {"what": call.what.partition(" ")[0], "instead": instead}
    elif call.need == "thread" and not call.what.startswith(_OF_THE_LOOP):
        whose = "All tasks of the event loop share it" if program.where == "loop" else "Another thread does not see it"
        cost = f"{whose}: a run finds what another one has left there, or nothing."
        instead = "a contextvars.ContextVar; or engine='thread' for what one run both sets and reads."
        kind, words = "thread-bound", {"what": call.what, "cost": cost, "instead": instead}
    elif is_elsewhere(call) and program.where != "loop" and program.engine != "thread":
        what = f"{call.text}() uses a connection that was opened elsewhere, and belongs to the thread that opened it"
        cost = "In another thread it raises, or several runs mix their statements in one transaction."
        instead = "open it per call, where it is used; or keep the caller's thread with engine='thread'."
        kind, words = "thread-bound", {"what": what, "cost": cost, "instead": instead}
    if kind:
        yield found(kind, call.place, program.name, words, through=call.through)
