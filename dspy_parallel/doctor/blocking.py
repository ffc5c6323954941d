"""Calls that block: on the event loop, or in a bridged program that could otherwise leave its thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .blocking_calls import LOCK, Blocker, blocker_of, waits_for_others
from .findings import Finding, Place
from .programs import Program
from .reading import Call

__all__ = ["blocking_findings", "cost_of_staying"]


def blocking_findings(programs: Sequence[Program]) -> Iterator[Finding]:
    """What blocks, by where each program runs."""
    for program in programs:
        held = {place for call in program.calls if waits_for_others(call) for _, place in call.locks}
        # Taking a lock that is held across a call is the least of it: see `holding_findings()`.
        calls = [call for call in program.calls if call.place not in held]
        found = [(call, blocker) for call in calls if (blocker := blocker_of(call)) is not None]
        if program.where == "loop":
            yield from _on_loop(program, found)
        elif program.where != "threads":
            yield from _in_bridge(program, found)


def _on_loop(program: Program, found: Sequence[tuple[Call, Blocker]]) -> Iterator[Finding]:
    outer: set[Place] = set()
    for call, blocker in found:
        if call.module is not None:  # in a module that is called synchronously: awaiting that one is what helps
            text, place = call.module
            if place not in outer:
                outer.add(place)
                through = call.through[: call.through.index(place)]
                yield _blocks_loop(program, place, text, blocker, f"await {text}.acall(...)", through)
        elif blocker.what.startswith("an event loop"):
            yield Finding(
                "nested-loop",
                "error",
                call.place,
                program.name,
                f"{call.text}() is called by code that runs on an event loop.",
                "It raises RuntimeError: a loop cannot be run inside another one.",
                "await the coroutine.",
                call.through,
            )
        else:
            yield _blocks_loop(program, call.place, call.text, blocker, blocker.instead, call.through)


def _blocks_loop(
    program: Program, place: Place, text: str, blocker: Blocker, instead: str, through: tuple[Place, ...]
) -> Finding:
    if program.kind == "tool":
        cost = "A sync tool of an agent that is awaited runs on the event loop, and everything else on it stands still."
        instead = f"{instead} in an async tool; in a program under @async_module sync tools get a thread."
    else:
        cost = "Everything else on the event loop stands still meanwhile: what looks parallel runs one after the other."
        if blocker.bridge != "left":
            bridge = "parallelize_graph(builder)" if program.kind in ("node", "edge") else "await run(function, ...)"
            instead = f"{instead}; or {bridge}, inside which this call does not block."
    return Finding(
        "blocking-tool" if program.kind == "tool" else "blocks-loop",
        "warning",
        place,
        program.name,
        f"{text}() waits for {blocker.what} on the event loop.",
        cost,
        instead,
        through,
    )


def _in_bridge(program: Program, found: Sequence[tuple[Call, Blocker]]) -> Iterator[Finding]:
    for call, blocker in found:
        if blocker.bridge == "thread" and program.engine == "loop":
            yield Finding(
                "needs-thread",
                "error",
                call.place,
                program.name,
                f"{call.text}() needs a thread, and the program is pinned to engine='loop'.",
                "It raises ThreadRequiredError.",
                f"engine='auto'; or, in async code, {blocker.instead}.",
                call.through,
            )
        elif blocker.bridge == "left" and program.engine != "thread" and program.kind != "tool":
            yield Finding(
                "blocking-call",
                "warning",
                call.place,
                program.name,
                f"{call.text}() waits for {blocker.what}, and nothing suspends it.",
                "The event loop stands still meanwhile." if program.engine == "loop" else cost_of_staying(program),
                _instead_in_bridge(blocker),
                call.through,
            )


def cost_of_staying(program: Program) -> str:
    """What a program costs that blocks."""
    who = "Bridged (@async_module, run()), the program would stay" if program.where == "caller" else "The program stays"
    return f"{who} in worker threads, of which each run in flight holds one."


def _instead_in_bridge(blocker: Blocker) -> str:
    if blocker.instead.startswith("import"):
        return blocker.instead
    if blocker.what == LOCK:
        return "hold it only around what it protects; or engine='thread'."
    return "put it in a function with @offload above it, or give it its async twin with add_seam()."
