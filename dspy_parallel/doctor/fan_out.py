"""Caps that a fan-out runs into: threads, `max_concurrency`, workers, connections."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

import dspy

from ..targets import Target
from .blocking_calls import blocker_of
from .caps import asyncify_workers, connections, default_threads, is_installed
from .findings import Finding, Place
from .programs import Program
from .reading import Call, read
from .sources import place_of, plain_function, tree_of
from .values import Known, Made, Many, Scope, class_of

__all__ = ["connection_findings", "fan_out_findings"]


def fan_out_findings(target: Target, programs: Sequence[Program]) -> Iterator[Finding]:
    """Caps that can be read off the graph and its source."""
    if target.is_graph:
        yield from _of_graph(target.value, programs)
    for program in programs:
        for call in program.calls:
            yield from _of_call(program, call)


def _of_graph(graph: Any, programs: Sequence[Program]) -> Iterator[Finding]:
    from .graphs import fan_outs

    by_name = {program.name: program for program in programs}
    limit = (getattr(graph, "config", None) or {}).get("max_concurrency")
    for source, targets in fan_outs(graph).items():
        nodes = [by_name[name] for name in targets if name in by_name]
        if nodes:
            yield from _capped(nodes, len(nodes), f"{len(nodes)} nodes run side by side after {source}", None, limit)
    for program in programs:
        for place, name, width in _sends(program):
            nodes = [by_name[name]] if name in by_name else [p for p in programs if p.kind == "node"]
            what = f"{width or 'As many as there are items'} runs of {name or 'a node'} are sent out side by side"
            yield from _capped(nodes, width, what, place, limit)


def _capped(
    nodes: Sequence[Program], width: int | None, what: str, place: Place | None, limit: int | None
) -> Iterator[Finding]:
    in_threads = [node for node in nodes if node.where == "threads"]
    place = place or (in_threads or list(nodes))[0].place
    if limit is not None:
        if width is None or width > limit:
            yield Finding(
                "max-concurrency",
                "note",
                place,
                nodes[0].name,
                f"{what}; max_concurrency lets {limit} of them run at a time.",
                _waves(width, limit),
                "a limit on the LM, if it is the provider that must be spared; or a higher max_concurrency.",
            )
        return
    threads = default_threads()
    count = width if width is None or len(nodes) == 1 else len(in_threads)
    if in_threads and (count is None or count > threads):
        yield Finding(
            "thread-cap",
            "note" if count is None else "warning",
            place,
            in_threads[0].name,
            f"{what}; sync nodes run in threads, of which this machine gets {threads}: min(32, CPUs + 4).",
            _waves(count, threads),
            "parallelize_graph(builder): no threads, no cap. Or, under invoke, max_concurrency in the config.",
        )


def _waves(width: int | None, limit: int) -> str:
    if width is None:
        return f"Above {limit} items, the others wait for their turn."
    return f"{-(-width // limit)} turns, one after the other, instead of one."


def _sends(program: Program) -> Iterator[tuple[Place, str, int | None]]:
    """Each `[Send(node, ...) for ... in ...]`: its place, node and width, where they can be told."""
    function = plain_function(program.runs[0] if isinstance(program.runs, tuple) else program.runs)
    node = tree_of(function) if function is not None else None
    if function is None or node is None:
        return
    from .graphs import Send

    scope = Scope(function)
    sends = {id(call.node): call for call in program.calls if getattr(call.callee, "value", None) is Send}
    for part in ast.walk(node):
        if isinstance(part, (ast.ListComp, ast.GeneratorExp)) and id(part.elt) in sends:
            call = sends[id(part.elt)]
            named = call.node.args[0] if call.node.args else None
            name = str(named.value) if isinstance(named, ast.Constant) else ""
            widths = [_length(scope, clause.iter) if not clause.ifs else None for clause in part.generators]
            yield call.place, name, None if None in widths else _product(widths)


def _product(widths: Sequence[int | None]) -> int:
    total = 1
    for width in widths:
        total *= width or 0
    return total


def _length(scope: Scope, node: ast.expr) -> int | None:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        values = [value.value for arg in node.args if isinstance(value := scope.resolve(arg), Known)]
        return len(range(*values)) if len(values) == len(node.args) else None
    if isinstance(node, (ast.List, ast.Tuple)):
        return len(node.elts)
    value = scope.resolve(node)
    is_sized = isinstance(value, Known) and isinstance(value.value, (list, tuple, dict, set, range))
    return len(value.value) if is_sized else None  # type: ignore[union-attr]


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


def connection_findings(target: Target, programs: Sequence[Program], in_flight: int) -> Iterator[Finding]:
    """Connection pools that so many LM calls at once run into.

    Args:
        target: The program.
        programs: What it consists of.
        in_flight: LM calls at the same time.
    """
    seen: set[str] = set()
    for lm in _lms(target):
        limit = connections(lm)
        if limit is not None and in_flight > limit[0] and limit[1] not in seen:
            seen.add(limit[1])
            yield Finding(
                "connection-cap",
                "warning",
                place_of(target.value) if target.kind == "module" else programs[0].place,
                target.name,
                f"{in_flight:,} LM calls at once: {limit[1]} opens {limit[0]:,} connections at most.",
                f"{-(-in_flight // limit[0])} turns instead of one, however the calls are made.",
                "@async_module, run() or parallelize_graph(), with which pools are as large as the process may have "
                "files open; and limit(lm, ...) for what the provider accepts."
                if not is_installed()
                else "limit(lm, ...), so that calls wait where you can see it; or a higher `ulimit -n`.",
            )


def _lms(target: Target) -> list[Any]:
    found = [dspy.settings.lm] if dspy.settings.lm is not None else []
    if isinstance(target.value, dspy.Module):
        for _, part in [("", target.value), *target.value.named_sub_modules()]:
            found += [lm for name in ("lm", "_lm") if isinstance(lm := vars(part).get(name), dspy.BaseLM)]
    return found
