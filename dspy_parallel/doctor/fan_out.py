"""Caps that a fan-out runs into: threads, `max_concurrency`, workers."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dspy

from ..targets import Target
from .blocking_calls import blocker_of
from .caps import asyncify_workers, default_threads
from .findings import Finding, Place
from .programs import Program
from .reading import Call, read
from .sources import plain_function
from .values import Known, Made, Many, class_of

__all__ = ["FanOut", "fan_out_findings", "fan_outs_of"]


@dataclass(frozen=True)
class FanOut:
    """Nodes of a graph that run side by side.

    Attributes:
        nodes: The nodes; of a `Send`, those that it may name.
        width: How many runs there are; None if it is not known before the run.
        sent_at: The line of the `Send`; None for edges, which run each node once.
        limit: The `max_concurrency` of the graph's config.
        what: All that, for people.
    """

    nodes: list[Program]
    width: int | None
    sent_at: Place | None
    limit: int | None
    what: str

    @property
    def place(self) -> Place:
        """The line to change."""
        in_threads = [node for node in self.nodes if node.where == "threads"]
        return self.sent_at or (in_threads or self.nodes)[0].place


def fan_out_findings(target: Target, programs: Sequence[Program]) -> Iterator[Finding]:
    """Caps that can be read off the graph and its source."""
    for fan_out in fan_outs_of(target, programs):
        yield from _capped(fan_out)
    for program in programs:
        for call in program.calls:
            yield from _of_call(program, call)


def fan_outs_of(target: Target, programs: Sequence[Program]) -> Iterator[FanOut]:
    """The fan-outs of a graph, by edges and by `Send`."""
    if not target.is_graph:
        return
    from .graphs import fan_outs

    by_name = {program.name: program for program in programs}
    limit = (getattr(target.value, "config", None) or {}).get("max_concurrency")
    for source, targets in fan_outs(target.value).items():
        nodes = [by_name[name] for name in targets if name in by_name]
        if nodes:
            yield FanOut(nodes, len(nodes), None, limit, f"{len(nodes)} nodes run side by side after {source}")
    for program in programs:
        for place, name, width in _sends(program):
            nodes = [by_name[name]] if name in by_name else [p for p in programs if p.kind == "node"]
            what = f"{width or 'As many as there are items'} runs of {name or 'a node'} are sent out side by side"
            yield FanOut(nodes, width, place, limit, what)


def _capped(fan_out: FanOut) -> Iterator[Finding]:
    nodes, width, limit = fan_out.nodes, fan_out.width, fan_out.limit
    if limit is not None:
        if width is None or width > limit:
            yield Finding(
                "max-concurrency",
                "note",
                fan_out.place,
                nodes[0].name,
                f"{fan_out.what}; max_concurrency lets {limit} of them run at a time.",
                _waves(width, limit),
                "a limit on the LM, if it is the provider that must be spared; or a higher max_concurrency.",
            )
        return
    in_threads = [node for node in nodes if node.where == "threads"]
    threads = default_threads()
    count = width if fan_out.sent_at is not None else len(in_threads)
    if in_threads and (count is None or count > threads):
        yield Finding(
            "thread-cap",
            "note" if count is None else "warning",
            fan_out.place,
            in_threads[0].name,
            f"{fan_out.what}; sync nodes run in threads, of which this machine gets {threads}: min(32, CPUs + 4).",
            _waves(count, threads),
            "parallelize_graph(builder): no threads, no cap. Or, under invoke, max_concurrency in the config.",
        )


def _waves(width: int | None, limit: int) -> str:
    if width is None:
        return f"Above {limit} items, the others wait for their turn."
    return f"{-(-width // limit)} turns, one after the other, instead of one."


def _sends(program: Program) -> Iterator[tuple[Place, str, int | None]]:
    """Each `Send(node, ...)` in a loop: its place, node and width, where they can be told."""
    from .graphs import Send

    for call in program.calls:
        if getattr(call.callee, "value", None) is Send and call.repeats != 1:
            named = call.node.args[0] if call.node.args else None
            yield call.place, str(named.value) if isinstance(named, ast.Constant) else "", call.repeats


def _of_call(program: Program, call: Call) -> Iterator[Finding]:
    callee = getattr(call.callee, "value", None)
    if callee is dspy.asyncify:
        yield Finding(
            "asyncify-cap",
            "warning",
            call.place,
            program.name,
            f"dspy.asyncify runs programs in threads: {asyncify_workers()} at a time in the whole process.",
            f"The {asyncify_workers() + 1}th call waits until one of the others is done.",
            "await program.acall(...), with @async_module above the program's class.",
            call.through,
        )
    elif _is_to_default_executor(call) and _calls_lm(call):
        yield Finding(
            "executor-cap",
            "warning",
            call.place,
            program.name,
            f"{call.text}() runs in the event loop's default executor, which has {default_threads()} threads here.",
            "The others wait; and DSPy's own acall() needs the same threads, so that a full executor can hang.",
            "await program.acall(...) for a module, await run(function, ...) for a function that calls DSPy.",
            call.through,
        )


def _is_to_default_executor(call: Call) -> bool:
    if call.text.endswith("run_in_executor"):
        first = call.node.args[0] if call.node.args else None
        return isinstance(first, ast.Constant) and first.value is None
    function = getattr(call.callee, "value", None)
    return getattr(function, "__qualname__", "") == "to_thread" and str(function.__module__).startswith("asyncio")


def _calls_lm(call: Call) -> bool:
    given = call.node.args[1:] if call.text.endswith("run_in_executor") else call.node.args
    value = call.scope.resolve(given[0]) if given else None
    if isinstance(value, Many) or value is None:
        return False
    cls = class_of(value)
    if isinstance(value, (Known, Made)) and cls is not None and issubclass(cls, (dspy.Module, dspy.BaseLM)):
        return True
    function = getattr(value, "function", None) or getattr(value, "value", None)
    found = read(function) if plain_function(function) is not None else []
    return any((blocker := blocker_of(inner)) is not None and blocker.is_lm for inner in found)
