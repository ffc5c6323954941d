"""Runs the program once and looks: what blocked, how much ran at a time, what it waited for."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import dspy

from .. import events, seams
from ..analysis.places import Place
from ..callables import is_coroutine_function
from ..errors import BlockingWarning
from ..seams.async_counterparts import is_counterpart
from ..seams.table import is_installed
from ..timeline import Span, record
from ..timeline.summary import summary
from .findings import Finding, found
from .overlap_gains import Ahead, GraphAhead, gains, run_with_scout, told
from .parts import MARK, Program
from .target import Target

__all__ = ["Observation", "observe"]


@dataclass
class Observation:
    """What a run showed.

    Attributes:
        findings: What is wrong.
        sentences: For people.
    """

    findings: list[Finding] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)


def observe(target: Target, programs: Sequence[Program], inputs: Mapping[str, Any]) -> Observation:
    """Run the program once on an event loop of its own, which is watched.

    Sync programs run in the bridge, which finds out what blocks there; graphs and async programs as they are. What is
    patched for that is restored.

    Raises:
        TargetError: If it is no program that can be run as a whole.
        Exception: Whatever the program raises.
    """
    was_installed = is_installed()
    try:
        return _observed(target, programs, inputs)
    finally:
        if not was_installed:
            seams.uninstall()


def _observed(target: Target, programs: Sequence[Program], inputs: Mapping[str, Any]) -> Observation:
    runnable = target.runnable()
    steps = Counter[tuple[int, str]]()
    with record() as timeline, warnings.catch_warnings():
        warnings.simplefilter("ignore", BlockingWarning)
        began = time.perf_counter()
        with events.span("function", programs[0].name) if target.kind == "function" else nullcontext():
            ahead = asyncio.run(_once(target, runnable, programs, inputs, steps))
        seconds = time.perf_counter() - began
    if isinstance(ahead, GraphAhead):
        ahead = ahead.seen(timeline.spans)
    seen = Observation()
    if ahead is not None:
        seen.findings += gains(ahead, programs[0])
        seen.sentences += told(ahead)
    if timeline.lm_calls:
        # What blocked is told below.
        lines = [line for line, style in summary(timeline.spans) if style != "blocked"]
        seen.sentences += [f"{line[0].upper()}{line[1:]}." for line in lines]
    else:
        seen.sentences.append(f"The run took {seconds:.2f} s and called no LM.")
    for place, stood_still in _blocked_seconds(timeline.spans).items():
        instead = "an async twin; await asyncio.to_thread(...); run(), @async_module, or parallelize_graph()."
        blocks = found("blocks-loop", place, target.name, {"call": "", "what": "", "instead": instead})
        stood = f"The event loop stood still for {stood_still:.2f} s"
        message = f"{stood} in {place.function}, in the run that was watched."
        seen.findings.append(replace(blocks, message=message))
        seen.sentences.append(f"{stood} at {place.short}.")
    seen.findings += _too_wide(programs, steps)
    return seen


def _blocked_seconds(spans: Sequence[Span]) -> dict[Place, float]:
    """For how long which lines held up the event loop."""
    seconds: dict[Place, float] = {}
    for span in spans:
        if span.kind == "blocked":
            place = Place(str(span.facts["file"]), int(span.facts["line"]), str(span.facts["function"]))
            seconds[place] = seconds.get(place, 0.0) + span.seconds
    return seconds


async def _once(
    target: Target,
    runnable: Any,
    programs: Sequence[Program],
    inputs: Mapping[str, Any],
    steps: Counter[tuple[int, str]],
) -> Ahead | GraphAhead | None:
    if target.is_graph:
        config: Any = {"configurable": {"thread_id": f"doctor-{uuid.uuid4()}"}}
        # The loop can be blocked by async nodes only, and those a scout does not follow.
        is_stock = all(program.where == "threads" for program in programs)
        ahead = GraphAhead(runnable) if is_stock else None
        run = ahead.stream if ahead is not None else partial(runnable.astream, stream_mode="debug")
        async for event in run(dict(inputs), config):
            if event["type"] == "task":
                steps[event["step"], event["payload"]["name"]] += 1
        return ahead
    if _is_awaited(target, runnable):
        await (runnable.acall if isinstance(runnable, dspy.Module) else runnable)(**inputs)
    else:
        return await run_with_scout(runnable, inputs)
    return None


def _is_awaited(target: Target, runnable: Any) -> bool:
    """Whether it is async code of the user's, or of DSPy's."""
    if target.kind == "function":
        return is_coroutine_function(runnable)
    aforward = getattr(type(runnable), "aforward", None)
    return (
        aforward is not None and not hasattr(aforward, MARK) and is_counterpart(type(runnable), "forward", "aforward")
    )


def _too_wide(programs: Sequence[Program], steps: Counter[tuple[int, str]]) -> list[Finding]:
    """Fan-outs that were wider than LangGraph has threads."""
    threads = min(32, (getattr(os, "process_cpu_count", os.cpu_count)() or 1) + 4)  # as the default executor has
    sync = {program.name: program for program in programs if program.kind == "node" and program.where == "threads"}
    by_step: dict[int, Counter[str]] = {}
    for (step, name), count in steps.items():
        if name in sync:
            by_step.setdefault(step, Counter())[name] += count
    findings = []
    for step, names in by_step.items():
        width = sum(names.values())
        if width > threads:
            program = sync[names.most_common(1)[0][0]]
            words = {"step": step, "width": width, "threads": threads, "turns": -(-width // threads)}
            findings.append(found("thread-cap", program.place, program.name, words))
    return findings
