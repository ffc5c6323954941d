"""Samples taken side by side: one of each contender in turn, round after round, in one process and on one loop."""

from __future__ import annotations

import asyncio
import gc
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.contenders import Run

__all__ = ["Ratio", "Sample", "compare", "ratio", "resident", "rounds", "threads_have_gone"]

FEW_THREADS = 50
"""More than a process has at rest: the default executor of an event loop keeps up to 32."""


@dataclass(frozen=True)
class Sample:
    """One contender's share of one round."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of this process, for each run of the program. The server is another process."""
    memory: float
    """Bytes by which the process grew at its peak."""
    peak: int
    """LM calls in flight at once, as the server saw it."""


@dataclass(frozen=True)
class Ratio:
    """How often the baseline's value: the median over all rounds, the smallest and the largest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


def ratio(values: Sequence[float], baseline: Sequence[float]) -> Ratio:
    """Compare round by round, so that what slows the machine down for a while slows both sides."""
    each = [value / base for value, base in zip(values, baseline, strict=True) if base > 0] or [float("nan")]
    return Ratio(statistics.median(each), min(each), max(each))


def resident() -> int:
    """Bytes of memory that this process occupies."""
    return _status("VmRSS")


def _status(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    raise OSError(f"no {name} in /proc/self/status")


def _reset_peak() -> None:
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


async def threads_have_gone() -> None:
    """Wait until pools have let go of idle threads: those that another contender leaves behind cost this one CPU."""
    deadline = time.monotonic() + 30
    while threading.active_count() > FEW_THREADS and time.monotonic() < deadline:  # noqa: ASYNC110 - nothing to wait for
        await asyncio.sleep(0.1)


async def compare(run: Run, documents: Sequence[Sequence[str]], peak: Callable[[], int]) -> Sample:
    """One sample.

    Args:
        run: The contender.
        documents: Batches, run one after the other; the documents of a batch are in flight together.
        peak: Gives the peak in flight since it was last called.
    """
    await threads_have_gone()
    gc.collect()
    peak()
    _reset_peak()
    before = resident()
    wall, cpu = time.perf_counter(), time.process_time()
    for batch in documents:
        await run(batch)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Sample(wall, cpu / sum(map(len, documents)), max(_status("VmHWM") - before, 0), peak())


async def rounds(
    count: int, runs: Mapping[str, Run], batches: Callable[[], Sequence[Sequence[str]]], peak: Callable[[], int]
) -> dict[str, list[Sample]]:
    """Samples of each contender, in turn; each round begins with another one."""
    samples: dict[str, list[Sample]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(count):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            samples[name].append(await compare(runs[name], batches(), peak))
    return samples
