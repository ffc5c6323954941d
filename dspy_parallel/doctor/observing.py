"""Runs the program once and looks: what blocked, how much ran at a time, what it waited for."""

from __future__ import annotations

import re
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from .. import seams
from ..bridge import is_coroutine_function, placement_of
from ..errors import BlockingWarning
from ..seams.twins import is_twin
from ..targets import Target
from .caps import default_threads
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
        peak: LM calls, or nodes, that could be under way at the same time.
    """

    findings: list[Finding] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    peak: int = 1


class _LMCalls(BaseCallback):
    """When each LM call began and ended."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.spans: list[tuple[float, float]] = []

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.began[call_id] = time.perf_counter()

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.spans.append((self.began.pop(call_id), time.perf_counter()))

    def peak(self) -> int:
        changes = sorted([(start, 1) for start, _ in self.spans] + [(end, -1) for _, end in self.spans])
        highest = now = 0
        for _, change in changes:
            now += change
            highest = max(highest, now)
        return highest


def observe(target: Target, programs: Sequence[Program], inputs: Mapping[str, Any]) -> Observation:
    """Run the program once on an event loop of its own, which is watched.

    Sync programs run in the bridge, which finds out what blocks there; graphs and async programs as they are.

    Raises:
        Exception: Whatever the program raises.
    """
    seams.install()
    runnable = target.runnable()
    calls, steps = _LMCalls(), Counter[tuple[int, str]]()
    with dspy.context(callbacks=[*dspy.settings.callbacks, calls]), warnings.catch_warnings():
        warnings.simplefilter("ignore", BlockingWarning)
        began = time.perf_counter()
        ahead, blocked = run_watched(lambda: _once(target, runnable, inputs, steps))
        seconds = time.perf_counter() - began
    seen = Observation(peak=max(1, calls.peak(), *steps.values()))
    if ahead is None:
        seen.sentences.append(_summary(seconds, calls))
    else:
        seen.findings += gains(ahead, programs[0])
        seen.sentences += told(ahead)
    for place, stood_still in blocked.items():
        seen.findings.append(_blocked(target.name, place, stood_still))
        seen.sentences.append(f"The event loop stood still for {stood_still:.2f} s at {place.short}.")
    for program in programs:
        if program.where != "loop":
            seen.findings += _placed(target, program)
    seen.findings += _too_wide(programs, steps)
    return seen


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
        return await run_with_scout(runnable, inputs, _known_as(target, runnable))
    return None


def _is_awaited(target: Target, runnable: Any) -> bool:
    """Whether it is async code of the user's, or of DSPy's."""
    if target.kind == "function":
        return is_coroutine_function(runnable)
    aforward = getattr(type(runnable), "aforward", None)
    return aforward is not None and not hasattr(aforward, MARK) and is_twin(type(runnable), "forward", "aforward")


def _known_as(target: Target, subject: Any) -> Any:
    if isinstance(subject, dspy.Module):
        return type(subject)
    return subject


def _summary(seconds: float, calls: _LMCalls) -> str:
    if not calls.spans:
        return f"The run took {seconds:.2f} s and called no LM."
    total = sum(end - start for start, end in calls.spans)
    count = len(calls.spans)
    return (
        f"The run took {seconds:.2f} s: {count} LM call{'s' if count > 1 else ''} of {total:.2f} s in all, at most "
        f"{calls.peak()} at a time."
    )


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


def _placed(target: Target, program: Program) -> list[Finding]:
    """What the bridge has noticed about a program."""
    known_as = _known_as(target, program.subject)
    reason = placement_of(known_as).reason if callable(known_as) else ""
    found = re.search(r" at (.+):(\d+) in (.+)", reason)
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
            f"In the run that was watched, {program.name} {reason.partition(' at ')[0]}.",
            "The program stays in worker threads, of which each run in flight holds one.",
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
