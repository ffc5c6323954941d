"""Runs the program once and looks: what blocked, how much ran at a time, what it waited for."""

from __future__ import annotations

import itertools
import re
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import dspy

from .. import events, seams
from ..bridge import is_coroutine_function, is_generator_function, placement_of
from ..errors import BlockingWarning, TargetError
from ..seams.twins import is_twin
from ..targets import Target
from ..timeline import Span, record
from ..timeline.summary import summary
from .blocking import cost_of_staying
from .caps import default_threads, is_installed
from .findings import Finding, Place
from .loop_watch import run_watched
from .overlapping import Ahead, gains, run_with_scout, told
from .programs import MARK, Program

__all__ = ["Observation", "observe"]


@dataclass
class Observation:
    """What a run showed.

    Attributes:
        findings: What is wrong.
        sentences: For people.
        peak: LM calls that were under way at the same time.
    """

    findings: list[Finding] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    peak: int = 1


def observe(target: Target, programs: Sequence[Program], inputs: Mapping[str, Any]) -> Observation:
    """Run the program once on an event loop of its own, which is watched.

    Sync programs run in the bridge, which finds out what blocks there; graphs and async programs as they are. What is
    patched for that is restored.

    Raises:
        TargetError: If it is no program that can be run as a whole.
        Exception: Whatever the program raises.
    """
    if target.kind == "function" and is_generator_function(target.value):
        raise TargetError(
            f"{target.name} is a generator function, whose code runs only as far as somebody takes its items. Name a "
            "function that takes them."
        )
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
            ahead, blocked = run_watched(lambda: _once(target, runnable, inputs, steps))
        seconds = time.perf_counter() - began
    # Calls that the scout has made early are not made at the same time by the program as it is.
    is_early = ahead is not None and ahead.report.early > 0
    seen = Observation(peak=1 if is_early else max(1, _peak(timeline.lm_calls)))
    if ahead is not None:
        seen.findings += gains(ahead, programs[0])
        seen.sentences += told(ahead)
    if timeline.lm_calls:
        # What blocked is told below, by a watch that a busy machine does not mislead.
        lines = [line for line, style in summary(timeline.spans) if style != "blocked"]
        seen.sentences += [f"{line[0].upper()}{line[1:]}." for line in lines]
    else:
        seen.sentences.append(f"The run took {seconds:.2f} s and called no LM.")
    for place, stood_still in blocked.items():
        seen.findings.append(_blocked(target.name, place, stood_still))
        seen.sentences.append(f"The event loop stood still for {stood_still:.2f} s at {place.short}.")
    for program in programs:
        if program.where != "loop":
            seen.findings += _placed(program)
    seen.findings += _too_wide(programs, steps)
    return seen


def _peak(calls: Sequence[Span]) -> int:
    """How many were under way at one moment. A call that waits for a connection is under way."""
    changes = sorted(change for call in calls for change in ((call.start, 1), (call.end, -1)))
    return max(itertools.accumulate((change for _, change in changes), initial=0))


async def _once(
    target: Target, runnable: Any, inputs: Mapping[str, Any], steps: Counter[tuple[int, str]]
) -> Ahead | None:
    if target.is_graph:
        config = {"configurable": {"thread_id": f"doctor-{uuid.uuid4()}"}}
        async for event in runnable.astream(dict(inputs), config, stream_mode="debug"):
            if event["type"] == "task":
                steps[event["step"], event["payload"]["name"]] += 1
    elif _is_awaited(target, runnable):
        await (runnable.acall if isinstance(runnable, dspy.Module) else runnable)(**inputs)
    else:
        return await run_with_scout(runnable, inputs, _known_as(runnable))
    return None


def _is_awaited(target: Target, runnable: Any) -> bool:
    """Whether it is async code of the user's, or of DSPy's."""
    if target.kind == "function":
        return is_coroutine_function(runnable)
    aforward = getattr(type(runnable), "aforward", None)
    return aforward is not None and not hasattr(aforward, MARK) and is_twin(type(runnable), "forward", "aforward")


def _known_as(subject: Any) -> Any:
    if isinstance(subject, dspy.Module):
        return type(subject)
    return subject


def _blocked(name: str, place: Place, seconds: float) -> Finding:
    return Finding(
        "blocks-loop",
        "warning",
        place,
        name,
        f"The event loop stood still for {seconds:.2f} s in {place.function}, in the run that was watched.",
        "Everything else on the event loop stands still meanwhile.",
        "an async twin of the call; await asyncio.to_thread(...); or the bridge: run(), @async_module, "
        "parallelize_graph().",
    )


def _placed(program: Program) -> list[Finding]:
    """What the bridge has noticed about a program."""
    known_as = _known_as(program.subject)
    reason = placement_of(known_as).reason if callable(known_as) else ""
    found = re.search(r" at (.+):(\d+) in (.+?)(?: while it waits)?$", reason)
    if not found:
        return []
    place = Place(found[1], int(found[2]), found[3])
    is_lock = reason.startswith("holds")
    return [
        Finding(
            "lock-across-call" if is_lock else "blocking-call",
            "warning",
            place,
            program.name,
            f"In the run that was watched, {program.name} {reason.partition(' at ')[0]}{' while it waits' * is_lock}.",
            cost_of_staying(program),
            "take the lock after the call."
            if is_lock
            else "put the call in a function with @offload above it, or give it its async twin with add_seam().",
        )
    ]


def _too_wide(programs: Sequence[Program], steps: Counter[tuple[int, str]]) -> list[Finding]:
    """Fan-outs that were wider than LangGraph has threads."""
    threads = default_threads()
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
            findings.append(
                Finding(
                    "thread-cap",
                    "warning",
                    program.place,
                    program.name,
                    f"Step {step} ran {width} sync nodes, in {threads} threads: min(32, CPUs + 4).",
                    f"{-(-width // threads)} turns, one after the other, instead of one.",
                    "parallelize_graph(builder): no threads, no cap. Or, under invoke, max_concurrency in the config.",
                )
            )
    return findings
