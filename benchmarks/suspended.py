"""Memory of runs that wait for their LM, and how many can wait in one process: each figure from a new process."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass

from benchmarks import table
from benchmarks.contenders import BASELINE, CONTENDERS, make
from benchmarks.measure import compare, resident
from benchmarks.workload import WORKLOADS, Gate, Stub, documents, engines, make_lm

__all__ = ["Suspended", "grown", "show", "suspended"]


@dataclass(frozen=True)
class Suspended:
    """What was seen while all runs waited at once."""

    peak: int
    """LM calls in flight at once."""
    bytes_each: float
    """Resident memory for each run."""
    threads: int
    """Threads more than before."""
    wall: float
    """Seconds from the first start to the last result."""


def suspended(name: str, in_flight: int) -> Suspended:
    """Hold that many runs at their first LM call, all at once, in a new process; then let them finish."""
    command = [sys.executable, "-m", "benchmarks.suspended", name, str(in_flight)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    return Suspended(**json.loads(done.stdout))


async def _suspend(name: str, in_flight: int) -> Suspended:
    work, new = WORKLOADS["extract"], documents("suspended")
    gate = Gate(in_flight)
    await make(name, work, Stub())(new(20))  # first uses
    run = make(name, work, gate)
    gc.collect()
    before, threads, started = resident(), threading.active_count(), time.perf_counter()
    runs = asyncio.create_task(run(new(in_flight)))  # type: ignore[arg-type]
    while not gate.full.is_set() and not runs.done():  # noqa: ASYNC110 - threads arrive at the gate, too
        await asyncio.sleep(0.05)
    grown, more = resident() - before, threading.active_count() - threads
    gate.open()
    await runs
    return Suspended(gate.peak, grown / in_flight, more, time.perf_counter() - started)


def grown(name: str, in_flight: int, api_base: str) -> int:
    """Bytes by which a new process grows at most while so many runs call a real LM on DSPy's first engine."""
    command = [sys.executable, "-m", "benchmarks.suspended", name, str(in_flight), api_base]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout)


async def _grow(name: str, in_flight: int, api_base: str) -> int:
    class Server:
        @staticmethod
        def lm_kwargs() -> dict[str, str]:
            return {"api_base": api_base, "api_key": "not-needed"}

    new = documents("grown")
    run = make(name, WORKLOADS["extract"], make_lm(Server, engines()[0]))  # type: ignore[arg-type]
    await run(new(20))  # first uses
    sample = await compare(run, [new(in_flight)], lambda: 0)
    return int(sample.memory)


def show(in_flight: int, names: list[str]) -> dict[str, Suspended]:
    """Measure and print the table."""
    seen = {name: suspended(name, in_flight) for name in names}
    base = seen[BASELINE]
    table.show(
        f"{in_flight:,} runs waiting for their LM at once, in one process",
        ("", "peak at the LM", "threads", "memory per run", "memory, × hand-written", "wall, × hand-written"),
        [
            (
                name,
                f"{one.peak:,}",
                one.threads,
                f"{one.bytes_each / 1e3:.0f} kB",
                f"{one.bytes_each / base.bytes_each:.2f}",
                f"{one.wall / base.wall:.2f}",
            )
            for name, one in seen.items()
        ],
    )
    return seen


def _main() -> None:
    parser = argparse.ArgumentParser(description="One process of suspended() or grown().")
    parser.add_argument("name", choices=CONTENDERS)
    parser.add_argument("in_flight", type=int)
    parser.add_argument("api_base", nargs="?")
    given = parser.parse_args()
    if given.api_base:
        print(asyncio.run(_grow(given.name, given.in_flight, given.api_base)))
        return
    print(json.dumps(asdict(asyncio.run(_suspend(given.name, given.in_flight)))))


if __name__ == "__main__":
    _main()
