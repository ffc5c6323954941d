"""The kinds of findings, and what each says: its level, what is there, what it costs, what to write instead."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["KINDS", "LEVELS", "Kind", "Level"]

Level = Literal["error", "warning", "note"]

LEVELS: tuple[Level, ...] = ("error", "warning", "note")
"""What fails or hangs; what costs time; what is worth knowing. The first two make the command's exit code 1."""


class Kind(NamedTuple):
    """Texts, with places for words in braces."""

    level: Level
    message: str
    cost: str
    instead: str


KINDS = {
    "forward-only": Kind(
        "warning",
        "{cls} has a forward() and no aforward().",
        "await program.acall(...) raises AttributeError; called synchronously it blocks its thread for each LM call, "
        "and the event loop if it runs on one.",
        "{instead}",
    ),
    "stale-aforward": Kind(
        "error",
        "{cls} overrides forward() below the aforward() that it inherits from {base}.",
        "await program.acall(...) skips the override: it returns something else than program(...).",
        "@async_module above {cls}, which replaces the inherited one; or an aforward() of its own.",
    ),
    "awaits-forward-only": Kind(
        "error",
        "{call}() is awaited, but {cls} has no aforward().",
        "It raises AttributeError.",
        "@async_module above {cls}, or dspy_parallel.install().",
    ),
    "not-awaitable": Kind("error", "{what}.", "It can't be awaited.", "{instead}"),
    "module-node": Kind(
        "warning",
        "The node {node} is a dspy.Module ({cls}). LangGraph calls it synchronously.",
        "Under ainvoke it holds a thread of the default executor, and an aforward() of its own is ignored.",
        "parallelize_graph(builder): module nodes are awaited through acall().",
    ),
    "blocks-loop": Kind(
        "warning",
        "{call}() waits for {what} on the event loop.",
        "Everything else on the event loop stands still meanwhile: what looks parallel runs one after the other.",
        "{instead}",
    ),
    "blocking-tool": Kind(
        "warning",
        "{call}() waits for {what} on the event loop.",
        "A sync tool of an agent that is awaited runs on the event loop, and everything else on it stands still.",
        "{instead} in an async tool; in a program under @async_module sync tools get a thread.",
    ),
    "nested-loop": Kind(
        "error",
        "{call}() is called by code that runs on an event loop.",
        "It raises RuntimeError: a loop cannot be run inside another one.",
        "await the coroutine.",
    ),
    "blocking-call": Kind("warning", "{call}() waits for {what}, and nothing suspends it.", "{cost}", "{instead}"),
    "needs-thread": Kind(
        "error",
        "{call}() needs a thread, and the program is pinned to engine='loop'.",
        "It raises ThreadRequiredError.",
        "engine='auto'; or, in async code, {instead}.",
    ),
    "asyncify-cap": Kind(
        "warning",
        "dspy.asyncify runs programs in threads: {workers} at a time in the whole process.",
        "Further calls wait until one of the others is done.",
        "await program.acall(...), with @async_module above the program's class.",
    ),
    "executor-cap": Kind(
        "warning",
        "{call}() runs in the event loop's default executor.",
        "It has min(32, CPUs + 4) threads, which DSPy's own acall() needs, too: a full executor can hang.",
        "await program.acall(...) for a module, await run(function, ...) for a function that calls DSPy.",
    ),
    "lock-across-call": Kind(
        "warning",
        "{lock} is held while {call}() waits (line {line}).",
        "{cost}",
        "take the lock after the call, around what it protects; or an asyncio.Lock in async code; or engine='thread'.",
    ),
    "swallows-cancel": Kind(
        "warning",
        "This clause catches a cancel that is raised in {call}() (line {line}), and goes on.",
        "A client that hangs up, a timeout, or a failing sibling does not stop the program, nor its LM calls.",
        "except Exception:, or suppress(Exception); and no return in a finally:.",
    ),
    "configures": Kind(
        "error",
        "{call}() is called inside a program.",
        "DSPy lets only the thread and the async task that called it first call it: elsewhere it raises RuntimeError.",
        "with dspy.context(...): around the calls that it is meant for.",
    ),
    "process-wide": Kind(
        "warning",
        "{what} belongs to the whole process, and is changed inside a program.",
        "Runs at the same time change it under each other's hands, in threads as on the event loop.",
        "{instead}",
    ),
    "thread-bound": Kind("warning", "{what}.", "{cost}", "{instead}"),
    "thread-cap": Kind(
        "warning",
        "Step {step} ran {width} sync nodes, in {threads} threads: min(32, CPUs + 4).",
        "{turns} turns, one after the other, instead of one.",
        "parallelize_graph(builder): no threads, no cap. Or, under invoke, max_concurrency in the config.",
    ),
    "sync-checkpointer": Kind(
        "warning",
        "{cls} has no {methods} that does what its sync counterpart does.",
        "{cost}",
        "Async{cls} in an async program; or parallelize_graph(graph), which runs it in a thread of its own.",
    ),
    "overlap": Kind(
        "note",
        "Of its {calls} predictor calls, {joined} need not wait for their turn.",
        "{before:.2f} s {as_it_is}, {after:.2f} s overlapped: {ratio:.1f} times as fast.",
        "{instead}",
    ),
    "in-sequence": Kind(
        "note",
        "Overlap ends here: {reason}.",
        "{calls} after it waited for their turn.",
        "if it is a function of yours without effects, @pure above it; or move it behind the calls that do not need "
        "it.",
    ),
}
