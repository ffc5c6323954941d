"""How late a 10 ms heartbeat on the same loop is, beside many runs of a program."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass

from benchmarks import machine, table
from benchmarks.contenders import BASELINE, make
from benchmarks.measure import ratio
from benchmarks.workload import WORKLOADS, Stub, Workload, computing, documents, make_lm
from dspy_parallel import BlockingWarning
from dspy_parallel.testing import LMServer

__all__ = ["Lateness", "beside", "beside_computing", "first_import", "heartbeat", "show"]

BEAT_SECONDS = 0.01
SIDES = (BASELINE, "ours, loop", "ours, auto")
THREADS = "threads, one per run"


@dataclass(frozen=True)
class Lateness:
    """Seconds by which beats came late: on average, the latest in twenty, the worst."""

    mean: float
    p95: float
    worst: float


@contextlib.asynccontextmanager
async def heartbeat() -> AsyncIterator[list[float]]:
    """A task that beats until the end of the block; gives the lateness of each beat."""
    late: list[float] = []

    async def beat() -> None:
        while True:
            due = time.perf_counter() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            late.append(time.perf_counter() - due)

    task = asyncio.create_task(beat())
    await asyncio.sleep(0)
    try:
        yield late
        await asyncio.sleep(BEAT_SECONDS)  # the beat that was due at the end counts, too
    finally:
        task.cancel()
        await asyncio.wait([task])


def _lateness(late: list[float]) -> Lateness:
    return Lateness(statistics.fmean(late), sorted(late)[int(len(late) * 0.95)], max(late))


async def beside(server: LMServer, engine: str, in_flight: int, rounds: int) -> dict[str, list[Lateness]]:
    """Samples beside each side, in turn."""
    lm = make_lm(server, engine)
    new = documents("heartbeat")
    runs = {name: make(name, WORKLOADS["extract"], lm) for name in SIDES}
    samples: dict[str, list[Lateness]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(-1, rounds):
        # Each round begins with another one: what one leaves behind, to collect say, is the next one's burden.
        first = number % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            async with heartbeat() as late:
                await runs[name](new(in_flight))
            if number >= 0:  # the first round is for pools and promotion
                samples[name].append(_lateness(late))
    return samples


async def beside_computing(seconds: float, in_flight: int, rounds: int) -> dict[str, list[Lateness]]:
    """Samples beside a program that computes for so long between its LM calls; its first runs are not measured."""
    new = documents("computing")
    samples: dict[str, list[Lateness]] = {THREADS: [], "ours, auto": []}
    cls = computing(seconds)
    runs = {name: make(name, Workload("computing", cls, cls), Stub(0.05)) for name in samples}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BlockingWarning)
        await runs["ours, auto"](new(5))
    for number in range(rounds):
        for name in list(samples)[:: 1 if number % 2 else -1]:
            gc.collect()
            async with heartbeat() as late:
                await runs[name](new(in_flight))
            samples[name].append(_lateness(late))
    return samples


def first_import(api_base: str, in_flight: int, rounds: int) -> dict[str, list[Lateness]]:
    """The same in new processes, in which LiteLLM has not been imported before the programs need it."""
    samples: dict[str, list[Lateness]] = {name: [] for name in SIDES}
    for _ in range(rounds):
        for name in SIDES:
            command = [sys.executable, "-m", "benchmarks.heartbeat", name, api_base, str(in_flight)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
            samples[name].append(Lateness(**json.loads(done.stdout)))
    return samples


async def _first(name: str, api_base: str, in_flight: int) -> Lateness:
    class Server:
        @staticmethod
        def lm_kwargs() -> dict[str, str]:
            return {"api_base": api_base, "api_key": "not-needed"}

    run = make(name, WORKLOADS["extract"], make_lm(Server, "litellm"))  # type: ignore[arg-type]
    # A full collection takes 0.3 s once LiteLLM is there: it falls into one side's short run and misses another's.
    gc.disable()
    async with heartbeat() as late:
        await run(documents("first")(in_flight))
    return _lateness(late)


def show(title: str, samples: dict[str, list[Lateness]]) -> None:
    """Print the table; what comes first is what the others are compared with."""
    rows, base = [], next(iter(samples))
    for name, own in samples.items():
        columns = []
        for what in ("mean", "p95", "worst"):
            columns.append(ratio([getattr(s, what) for s in own], [getattr(s, what) for s in samples[base]]))
        rows.append((name, *columns))
    table.show(f"Lateness of a 10 ms heartbeat {title}", ("beside", f"mean, × {base}", "95 %", "worst"), rows)


def _main() -> None:
    parser = argparse.ArgumentParser(description="One process of first_import().")
    parser.add_argument("name", choices=SIDES)
    parser.add_argument("api_base")
    parser.add_argument("in_flight", type=int)
    given = parser.parse_args()
    machine.pin(None)
    print(json.dumps(asdict(asyncio.run(_first(given.name, given.api_base, given.in_flight)))))


if __name__ == "__main__":
    _main()
