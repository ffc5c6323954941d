"""Calls that block: on the event loop, in a bridged program that could otherwise leave its thread, or in executors."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

import dspy

from ..analysis.abstract_values import Closure
from ..analysis.blockers import LOCK, Blocker
from ..analysis.call_graph import Call, calls_of
from ..analysis.held_values import Held
from .catalogue import Level
from .findings import Finding, found
from .parts import Program

__all__ = ["is_elsewhere", "wait_findings", "waits_for_others"]


def wait_findings(programs: Sequence[Program]) -> Iterator[Finding]:
    """What blocks, by where each program runs."""
    for program in programs:
        held = {place for call in program.calls for _, place in call.locks if waits_for_others(call)}
        for call in program.calls:
            yield from _in_executor(program, call)
            # Taking a lock that is held across a call is the least of it: see `hazard_findings()`.
            if call.blocker is None or call.place in held:
                continue
            if program.where == "loop":
                yield _on_loop(program, call, call.blocker)
            elif program.where != "threads":
                yield from _in_bridge(program, call, call.blocker)


def waits_for_others(call: Call) -> bool:
    """Whether the program waits in the call while others could go on: it is awaited, or asks a language model."""
    return call.is_awaited or (call.blocker is not None and call.blocker.is_lm)


def is_elsewhere(call: Call) -> bool:
    """Whether it uses a connection that was not made in the run."""
    is_bound = call.blocker is not None and call.blocker.bridge == "bound"
    return is_bound and not call.is_of_run and "connect" not in call.name.rpartition(".")[2]


def _on_loop(program: Program, call: Call, blocker: Blocker) -> Finding:
    text, place, through, instead = call.text, call.place, call.through, blocker.instead
    words = {"call": text, "what": blocker.what}
    if call.module is not None:  # in a module that is called synchronously: awaiting that one is what helps
        text, place = call.module
        through, instead = through[: through.index(place)], f"await {text}.acall(...)"
    elif blocker.what.startswith("an event loop"):
        return found("nested-loop", place, program.name, words, through=through)
    words |= {"call": text, "instead": instead}
    if program.kind == "tool":
        return found("blocking-tool", place, program.name, words, through=through)
    if blocker.bridge in ("suspend", "thread"):
        bridge = "parallelize_graph(builder)" if program.kind in ("node", "edge") else "await run(function, ...)"
        instead = f"{instead}; or {bridge}, inside which this call does not block"
    level: Level | None = "note" if blocker.bridge == "file" else None
    words["instead"] = f"{instead}."
    return found("blocks-loop", place, program.name, words, through=through, level=level)


def _in_bridge(program: Program, call: Call, blocker: Blocker) -> Iterator[Finding]:
    words = {"call": call.text, "what": blocker.what}
    if blocker.bridge == "thread" and program.engine == "loop":
        words["instead"] = blocker.instead
        yield found("needs-thread", call.place, program.name, words, through=call.through)
    elif blocker.bridge in ("left", "file", "bound") and program.engine != "thread" and program.kind != "tool":
        if is_elsewhere(call):
            return  # see `hazard_findings()`
        cost = f"The program {'runs' if program.where == 'bridge' else 'would run'} in a thread of its own."
        if program.engine == "loop":
            cost = "The event loop stands still meanwhile."
        level: Level | None = None if blocker.bridge == "left" else "note"
        words |= {"cost": cost, "instead": _instead(blocker)}
        yield found("blocking-call", call.place, program.name, words, through=call.through, level=level)


def _instead(blocker: Blocker) -> str:
    if blocker.instead.startswith("import"):
        return f"{blocker.instead}."
    if blocker.what == LOCK:
        return "hold it only around what it protects; or engine='thread'."
    if blocker.bridge == "bound":
        return "nothing, as it is opened where it is used; engine='thread' says so."
    return "put it in a function with @offload above it, or give it its async twin with add_seam()."


def _in_executor(program: Program, call: Call) -> Iterator[Finding]:
    """DSPy's own pool of threads, and the loop's default one."""
    if call.name.endswith("asyncify.asyncify"):
        workers = int(getattr(dspy.settings, "async_max_workers", 8))
        yield found("asyncify-cap", call.place, program.name, {"workers": workers}, through=call.through)
    first = call.node.args[0] if isinstance(call.node, ast.Call) and call.node.args else None
    is_default = call.text.endswith("run_in_executor") and isinstance(first, ast.Constant) and first.value is None
    given = call.arguments[int(is_default) :][:1]
    if (is_default or call.name == "asyncio.threads.to_thread") and _asks_lm(given):
        yield found("executor-cap", call.place, program.name, {"call": call.text}, through=call.through)


def _asks_lm(given: Sequence[frozenset[object]]) -> bool:
    atoms = [each for value in given for atom in value for each in getattr(atom, "functions", (atom,))]
    functions = [atom.value if isinstance(atom, Held) else atom for atom in atoms if isinstance(atom, (Held, Closure))]
    return any(
        isinstance(function, (dspy.Module, dspy.BaseLM))
        or any(call.blocker is not None and call.blocker.is_lm for call in calls_of(function))
        for function in functions
    )
