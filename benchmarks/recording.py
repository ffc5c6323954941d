"""What `record()` costs: CPU per LM call with and without it, taken in turn, in one process."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from benchmarks import table
from benchmarks.contenders import Run, make
from benchmarks.measure import Ratio, ratio
from benchmarks.workload import WORKLOADS, documents, engines, make_lm
from dspy_parallel import record
from dspy_parallel.testing import LMServer

__all__ = ["OFF", "ON", "ROUNDS", "SIDES", "WAYS", "beginning", "measure", "show", "tables"]

OFF, ON = "not recorded", "record()"
"""What is not recorded is as it was before the first recording: nothing stays patched, as the tests make sure."""
SIDES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    OFF: nullcontext,
    ON: record,
    "an empty DSPy callback": lambda: dspy.context(callbacks=[BaseCallback()]),
}
WAYS = {"ours, loop": 40, "sequential sync": 1}
"""Contenders, with the number of programs in flight."""
ROUNDS = {"ours, loop": (80, 40), "sequential sync": (400, 8)}
"""How many rounds, and how many runs of the program in each. Many short ones: what else goes on in the machine is then
the same for all sides of a round, and the median is known better than to a hundredth."""
CALLS = 2
"""LM calls of the program "extract"."""


async def _cpu(run: Run, batches: list[list[str]]) -> float:
    started = time.process_time()
    for batch in batches:
        await run(batch)
    return (time.process_time() - started) / sum(map(len, batches)) / CALLS


async def measure(server: LMServer, engine: str, way: str, rounds: int, runs: int) -> dict[str, list[float]]:
    """CPU seconds per LM call of each side, round by round."""
    server.configure(latency=0.005)
    lm, new = make_lm(server, engine), documents(f"recording-{engine}-{way}")
    run, width = make(way, WORKLOADS["extract"], lm), WAYS[way]
    samples: dict[str, list[float]] = {name: [] for name in SIDES}

    def batches() -> list[list[str]]:
        texts = new(runs)
        return [texts[at : at + width] for at in range(0, runs, width)] if width > 1 else [texts]

    await _cpu(run, batches())  # first uses
    names = list(SIDES)
    for number in range(rounds):
        gc.collect()
        for name in names[number % len(names) :] + names[: number % len(names)]:
            with SIDES[name]():
                samples[name].append(await _cpu(run, batches()))
    return samples


def beginning(times: int = 200) -> float:
    """Seconds that a recording takes in which nothing happens: what it looks at is patched, and restored."""
    started = time.perf_counter()
    for _ in range(times):
        with record():
            pass
    return (time.perf_counter() - started) / times


def show(way: str, engine: str, samples: dict[str, list[float]]) -> dict[str, Ratio]:
    """Print the table; return each side's ratio to no recording."""
    found = {name: ratio(own, samples[OFF]) for name, own in samples.items()}
    table.show(
        f"CPU of one LM call, {engine} LM, {way}, {WAYS[way]} in flight",
        ("", "ms", "× without"),
        [(name, f"{1e3 * sorted(own)[len(own) // 2]:.3f}", str(found[name])) for name, own in samples.items()],
    )
    return found


async def tables(server: LMServer, *, quick: bool) -> None:
    """Both ways, on the first engine: DSPy's native one, where there is one."""
    for way, (rounds, runs) in ROUNDS.items():
        show(way, engines()[0], await measure(server, engines()[0], way, 5 if quick else rounds, runs))
    print(f"Beginning and ending a recording: {1e3 * beginning():.2f} ms.")


if __name__ == "__main__":
    from benchmarks.workload import start_server

    running = start_server(latency=0.005)
    try:
        asyncio.run(tables(running, quick=False))
    finally:
        running.stop()
